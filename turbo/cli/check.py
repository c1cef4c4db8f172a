"""What `turbo check` runs on: cases out of what is written on the command line."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turbo.adapters import Adapter
from turbo.errors import TurboError
from turbo.plugins import adapters, strategies
from turbo.testing import AdapterCase, Result, StrategyCase, as_case

STYLES = {"failed": "bold red", "unexpected pass": "bold red", "not applicable": "dim", "expected failure": "yellow"}


def load_cases(spec: str) -> list[AdapterCase | StrategyCase]:
    """The cases that a SPEC names.

    Args:
        spec: a registered name, of an adapter or a strategy or both; or ``package.module:Name``, an adapter, a
            strategy, a case, a list of these, or a function without arguments that returns one.

    Raises:
        TurboError: there is no such thing, or nothing to check in it.
    """
    if ":" in spec:
        return _cases_in(_load(spec), spec)
    if spec not in adapters and spec not in strategies:
        hint = f"; for an object in a module write {spec}:Name" if "." in spec or _is_module(spec) else ""
        raise TurboError(
            f"no adapter and no strategy is called {spec!r}; adapters: {', '.join(adapters)}; strategies: "
            f"{', '.join(strategies)}{hint}"
        )
    found: list[AdapterCase | StrategyCase] = [AdapterCase.from_adapter(spec)] if spec in adapters else []
    return [*found, StrategyCase(spec)] if spec in strategies else found


def _load(spec: str) -> Any:
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
            names = [each for each, value in vars(found).items() if each[0] != "_" and _is_own(value, module)]
            raise TurboError(f"{spec}: {module} has no {path or 'name after the colon'!r}; it has: {', '.join(names)}")
        found = getattr(found, name)
    return found


def _cases_in(thing: Any, spec: str) -> list[AdapterCase | StrategyCase]:
    if inspect.isfunction(thing) and not inspect.signature(thing).parameters:
        thing = thing()
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [case for each in thing for case in _cases_in(each, spec)]
    if isinstance(thing, type) and not issubclass(thing, Adapter) and "__call__" not in dir(thing):
        raise TurboError(f"{spec}: {thing.__name__} is no adapter, and a strategy must have a __call__(candidates)")
    try:
        return [as_case(thing)]
    except TurboError as error:
        raise TurboError(f"{spec}: {error}") from error


def _is_module(name: str) -> bool:
    return (Path.cwd() / f"{name}.py").exists()


def _is_own(value: object, module: str) -> bool:
    return getattr(value, "__module__", None) == module or isinstance(value, AdapterCase | StrategyCase)


def show_results(console: Console, results: list[Result]) -> None:
    """A table per case, reasons and failures in full below it, and a line that sums up."""
    for case in dict.fromkeys(result.case for result in results):
        mine = [result for result in results if result.case == case]
        table = Table("check", "outcome", title=case, title_justify="left")
        for result in mine:
            table.add_row(result.check, Text(result.outcome, style=STYLES.get(result.outcome, "green")))
        console.print(table)
        for result in sorted(mine, key=lambda result: not result.ok):  # failures last, where they are seen
            if result.detail:
                style = STYLES.get(result.outcome, "green")
                console.print(Text.assemble((f"{result.check}: ", style), result.detail, "" if result.ok else "\n"))
    bad = sum(not result.ok for result in results)
    passed = sum(result.outcome == "passed" for result in results)
    rest = len(results) - passed - bad
    others = f", {rest} not applicable or expected to fail" if rest else ""
    console.print(Text(f"{passed} passed, {bad} failed{others}", style="bold"))
