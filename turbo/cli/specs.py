"""Adapters and strategies as they are written on the command line: a registered name, or ``package.module:Name``.

A strategy may have arguments: ``s1(alpha=0.5)``, ``package.module:Name(weight=2)``.
"""

from __future__ import annotations

import ast
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


def load_object(spec: str, *, create: bool = True) -> Any:
    """What ``package.module:Name`` names; the current folder is searched first.

    Args:
        spec: the name.
        create: whether the class of a plug-in must work without arguments.

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
    if create and isinstance(found, type) and (issubclass(found, Adapter) or "__call__" in dir(found)):
        _create(found, spec)
    return found


def find_strategy(spec: str) -> str | Strategy:
    """A strategy for `turbo.accelerate`, tried on samples, so that a mistake shows before a model is built.

    Args:
        spec: a registered name, or ``package.module:Name`` of a function, a class or an instance. A class may be
            followed by arguments, literals by keyword: ``s4(alpha=0.3, beta=0.9, gamma=3)``.

    Returns:
        The registered name itself, or the strategy.

    Raises:
        TurboError: there is no such strategy, or it does not work.
    """
    name, arguments = split_arguments(spec)
    if ":" not in name:
        _require_registered(name, strategies)
        if arguments is None:
            return spec
        made: Strategy = _create_with(strategies[name], arguments, spec)
        return made
    found = load_object(name, create=arguments is None)
    if arguments is not None:
        strategy = _create_with(found, arguments, spec)
    else:
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


def split_specs(text: str) -> list[str]:
    """Strategies with commas between them; a comma within parentheses belongs to a strategy's arguments.

    Raises:
        TurboError: a parenthesis has no partner, or there is nothing between two commas.

    Examples:
        >>> split_specs("s1(alpha=0.5), s4(alpha=0.3,beta=0.9), tome")
        ['s1(alpha=0.5)', 's4(alpha=0.3,beta=0.9)', 'tome']
    """
    specs, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0:
            break
        if letter == "," and depth == 0:
            specs.append("")
        else:
            specs[-1] += letter
    if depth:
        raise TurboError(f"--strategies {text}: a parenthesis has no partner")
    specs = [spec.strip() for spec in specs]
    if not all(specs):
        raise TurboError(f"--strategies {text}: a name is missing; write names with commas between, such as s1,tome")
    return specs


def split_arguments(spec: str) -> tuple[str, dict[str, Any] | None]:
    """A name and its arguments, which are literals; None where it has no parentheses.

    Raises:
        TurboError: what is in the parentheses is not a list of ``name=value``.

    Examples:
        >>> split_arguments("s4(alpha=.3, gamma=3)")
        ('s4', {'alpha': 0.3, 'gamma': 3})
    """
    name, opened, _ = spec.partition("(")
    if not opened:
        return spec, None
    try:
        call = ast.parse("f" + spec[len(name) :].strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if None in arguments or len(arguments) < len(call.keywords):
            raise ValueError
    except (SyntaxError, ValueError):
        raise TurboError(
            f"{spec}: arguments are literals by keyword, each once, such as {name or 's1'}(alpha=0.5)"
        ) from None
    return name.strip(), arguments  # type: ignore[return-value]


def canonical(spec: str) -> str:
    """A strategy in one way of writing, so that results of ``s1(alpha=.5)`` and ``s1(alpha=0.50)`` are the same.

    Examples:
        >>> canonical("s4( alpha=.3,gamma=3 )"), canonical("s1()"), canonical("tome")
        ('s4(alpha=0.3,gamma=3)', 's1', 'tome')
    """
    name, arguments = split_arguments(spec)
    return f"{name}({','.join(f'{key}={value!r}' for key, value in sorted(arguments.items()))})" if arguments else name


def _create_with(plugin: Any, arguments: dict[str, Any], spec: str) -> Any:
    """An instance of a strategy's class with arguments."""
    if not isinstance(plugin, type):
        raise TurboError(f"{spec}: it names {_described(plugin)}, and only a class can be given arguments")
    if missing := sorted(getattr(plugin, "__abstractmethods__", ())):
        raise TurboError(f"{spec}: {plugin.__name__} does not define {', '.join(missing)}; name a class that does")
    try:
        signature = inspect.signature(plugin)
        signature.bind(**arguments)
    except TypeError as error:
        shown = ", ".join(str(each.replace(annotation=each.empty)) for each in signature.parameters.values())
        takes = f"it takes {plugin.__name__}({shown})" if shown else f"{plugin.__name__} takes none"
        raise TurboError(f"{spec}: {error}; {takes}") from error
    try:
        return plugin(**arguments)
    except (TypeError, ValueError) as error:
        raise TurboError(f"{spec}: {error}") from error


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
