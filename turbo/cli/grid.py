"""A grid of settings as it is written on the command line: values with commas between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from turbo.cli.specs import canonical, find_adapter, find_strategy, split_specs
from turbo.errors import TurboError
from turbo.evaluation.settings import Setting, make_grid
from turbo.schedule import Schedule

T = TypeVar("T")


def parse_grid(
    strategies: str, amounts: Mapping[str, str | None], axes: Mapping[str, str | None], adapter: str | None
) -> dict[str, Setting]:
    """Every combination of what is given.

    Args:
        strategies: specs with commas between them.
        amounts: "drop", "ratio", "speedup" -> its values; at most one of them.
        axes: further options of `turbo.accelerate` -> their values; None leaves an option at its default.
        adapter: of the model; None finds one.

    Returns:
        Name -> setting.

    Raises:
        TurboError: a value or a strategy makes no sense, or is given twice.
    """
    given = {name: text for name, text in amounts.items() if text is not None}
    if len(given) > 1:
        found = " and ".join(f"--{name} {text}" for name, text in given.items())
        raise TurboError(f"{found} exclude each other: each alone says how much to merge; give one, or run twice")
    parsers: dict[str, Callable[[str], Any]] = {"drop": _drop, "ratio": float, "speedup": float}
    values: dict[str, list[Any]] = {name: parse_list(name, text, parsers[name]) for name, text in given.items()}
    for name, text in axes.items():
        if text is not None:
            values[name] = parse_list("units" if name == "semantic_units" else name, text, _NUMBERS.get(name, str))
    for amount in values.get("drop", []) + values.get("ratio", []) + values.get("speedup", []):
        Schedule(**{next(iter(given)): amount})  # says what is wrong with it, before a model is loaded
    if adapter is not None:
        values["adapter"] = [find_adapter(adapter)]
    specs = [canonical(spec) for spec in split_specs(strategies)]
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise TurboError(f"--strategies {strategies}: {', '.join(twice)} stands there twice")
    return make_grid({spec: find_strategy(spec) for spec in specs}, values)


_NUMBERS: dict[str, Callable[[str], Any]] = {
    "threshold": int,
    "min_tokens": int,
    "momentum": float,
    "cross_modal": float,
}


def parse_list(name: str, text: str, parse: Callable[[str], T]) -> list[T]:
    """Values with commas between them.

    Raises:
        TurboError: one makes no sense, or is given twice.

    Examples:
        >>> parse_list("threshold", "0, 40", int)
        [0, 40]
    """
    try:
        found = [parse(item.strip()) for item in text.split(",")]
    except ValueError:
        kind = {int: "whole numbers", float: "numbers", _drop: "counts, 10,20, or one count per block, 30:20:10"}
        raise TurboError(f"--{name} {text}: give {kind.get(parse, 'values')} with commas between them") from None
    if len(set(found)) < len(found) or "" in found:
        raise TurboError(f"--{name} {text}: give each value once, with one comma between two")
    return found


def _drop(text: str) -> int | tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(":"))
    return counts[0] if len(counts) == 1 else counts
