"""What `turbo check` runs on: cases out of what is written on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turbo.adapters import Adapter, ResidualBlock
from turbo.cli.specs import load_object, module_hint
from turbo.errors import TurboError
from turbo.plugins import adapters, strategies
from turbo.testing import AdapterCase, Result, StrategyCase, as_case

STYLES = {
    "failed": "bold red",
    "unexpected pass": "bold red",
    "not applicable": "dim",
    "not run": "dim",
    "expected failure": "yellow",
}


def load_cases(spec: str) -> list[AdapterCase | StrategyCase]:
    """The cases that a SPEC names.

    Args:
        spec: a registered name, of an adapter or a strategy or both; or ``package.module:Name``, an adapter, a
            strategy, a case, a list of these, or a function without arguments that returns one.

    Raises:
        TurboError: there is no such thing, or nothing to check in it.
    """
    if ":" in spec:
        return _cases_in(load_object(spec), spec)
    if spec not in adapters and spec not in strategies:
        try:
            as_case(spec)  # says which names there are
        except TurboError as error:
            raise TurboError(f"{error}{module_hint(spec)}") from error
    found: list[AdapterCase | StrategyCase] = [AdapterCase.from_adapter(spec)] if spec in adapters else []
    return [*found, StrategyCase(spec)] if spec in strategies else found


def _cases_in(thing: Any, spec: str) -> list[AdapterCase | StrategyCase]:
    if inspect.isfunction(thing) and not inspect.signature(thing).parameters:
        thing = thing()
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [case for each in thing for case in _cases_in(each, spec)]
    if isinstance(thing, type) and not issubclass(thing, Adapter | ResidualBlock) and "__call__" not in dir(thing):
        raise TurboError(f"{spec}: {thing.__name__} is no adapter, and a strategy must have a __call__(candidates)")
    try:
        return [as_case(thing)]
    except TurboError as error:
        raise TurboError(f"{spec}: {error}") from error


def show_results(console: Console, results: list[Result]) -> None:
    """A table per case, reasons and failures in full below it, and a line that sums up."""
    for case in dict.fromkeys(result.case for result in results):
        mine = [result for result in results if result.case == case]
        table = Table("check", "outcome", title=case, title_justify="left")
        for result in mine:
            table.add_row(result.check, Text(result.outcome, style=STYLES.get(result.outcome, "green")))
        console.print(table)
        for reason, checks in _left_out(mine).items():
            line = f" ({reason}): {', '.join(checks)}"
            console.print(Text.assemble(("not applicable", STYLES["not applicable"]), line))
        for result in sorted(mine, key=lambda result: not result.ok):  # failures last, where they are seen
            if result.detail and result.outcome not in ("not run", "not applicable"):
                style = STYLES.get(result.outcome, "green")
                console.print(Text.assemble((f"{result.check}: ", style), result.detail, "" if result.ok else "\n"))
    bad = sum(not result.ok for result in results)
    counts = {"passed": 0, "failed": bad}
    for result in results:
        if result.ok:
            counts[result.outcome] = counts.get(result.outcome, 0) + 1
    counts["failed as expected"] = counts.pop("expected failure", 0)
    line = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what in ("passed", "failed"))
    console.print(Text(line, style="bold"))


def _left_out(results: list[Result]) -> dict[str, list[str]]:
    """By reason, the checks that do not apply."""
    found: dict[str, list[str]] = {}
    for result in results:
        if result.outcome == "not applicable":
            found.setdefault(result.detail, []).append(result.check)
    return found
