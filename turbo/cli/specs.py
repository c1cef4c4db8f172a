"""Adapters and strategies as they are written on the command line: a registered name, or ``package.module:Name``."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from turbo.adapters import Adapter
from turbo.engine.score import check_strategy
from turbo.errors import TurboError
from turbo.fusion import Strategy
from turbo.plugins import adapters, strategies


def load_object(spec: str) -> Any:
    """What ``package.module:Name`` names; the current folder is searched first.

    Raises:
        TurboError: there is no such module or name, or it is the class of a plug-in that needs arguments.
    """
    module, _, path = spec.partition(":")
    here = str(Path.cwd())
    if sys.path[0] != here:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise TurboError(
            f"{spec}: the module {module!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for name in path.split("."):
        if not name or not hasattr(found, name):
            named = getattr(found, "__dict__", {})
            names = [each for each, value in named.items() if each[0] != "_" and _is_own(value, module)]
            raise TurboError(f"{spec}: {module} has no {path or 'name after the colon'!r}; it has: {', '.join(names)}")
        found = getattr(found, name)
    if isinstance(found, type) and (issubclass(found, Adapter) or "__call__" in dir(found)):
        _create(found, spec)
    return found


def find_strategy(spec: str) -> str | Strategy:
    """A strategy for `turbo.accelerate`, tried on samples, so that a mistake shows before a model is built.

    Args:
        spec: a registered name, or ``package.module:Name`` of a function, a class or an instance.

    Returns:
        The registered name itself, or the strategy.

    Raises:
        TurboError: there is no such strategy, or it does not work.
    """
    if ":" not in spec:
        _require_registered(spec, strategies)
        return spec
    found = load_object(spec)
    strategy = _create(found, spec) if isinstance(found, type) and "__call__" in dir(found) else found
    if isinstance(strategy, type | Adapter) or not callable(strategy):
        raise TurboError(f"--strategy {spec} is {_described(strategy)}, not a callable of candidates")
    check_strategy(strategy, spec)
    return strategy  # type: ignore[no-any-return]


def find_adapter(spec: str | None) -> str | Adapter | None:
    """An adapter for `turbo.accelerate`; None, which finds one for the model, where none is given.

    Args:
        spec: a registered name, or ``package.module:Name`` of a class or an instance.

    Returns:
        The registered name itself, or the adapter.

    Raises:
        TurboError: there is no such adapter.
    """
    if spec is None:
        return None
    if ":" not in spec:
        _require_registered(spec, adapters)
        return spec
    found = load_object(spec)
    adapter = _create(found, spec) if isinstance(found, type) and issubclass(found, Adapter) else found
    if not isinstance(adapter, Adapter):
        raise TurboError(f"--adapter {spec} is {_described(adapter)}, not a turbo.adapters.Adapter")
    return adapter


def _create(plugin: type, spec: str) -> Any:
    if missing := sorted(getattr(plugin, "__abstractmethods__", ())):
        raise TurboError(f"{spec}: {plugin.__name__} does not define {', '.join(missing)}; name a class that does")
    try:
        return plugin()
    except TypeError as error:
        module = spec.partition(":")[0]
        raise TurboError(
            f"{spec}: {plugin.__name__} cannot be created without arguments ({error}): give its fields defaults, or "
            f"name an instance, such as {module}:mine"
        ) from error


def _require_registered(name: str, registry: Any) -> None:
    """Import a registered plug-in, or say why not; names of modules get a hint."""
    try:
        registry[name]
    except TurboError as error:
        if name in registry:
            raise
        raise TurboError(f"{error}{module_hint(name)}") from error


def module_hint(name: str) -> str:
    """How to write an object of a module, where an unknown name looks like one or the current folder holds one."""
    is_module = "." in name or (Path.cwd() / f"{name}.py").exists()
    return f"; for an object in a module write {name}:Name" if is_module else ""


def _is_own(value: object, module: str) -> bool:
    from turbo.testing import AdapterCase, StrategyCase

    return getattr(value, "__module__", None) == module or isinstance(value, AdapterCase | StrategyCase)


def _described(value: object) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"
