"""Timing that can be compared: all sides in turn, so that drift of the machine hits them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from turbo.engine.clock import round_order, seconds_of

_CPU = torch.device("cpu")


def interleave(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    prepare: Callable[[str], AbstractContextManager[object]] = nullcontext,
    device: torch.device = _CPU,
    clock: Callable[[Callable[[], object], torch.device], float] = seconds_of,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Time several callables in turn, round by round, each round in another order (`turbo.engine.clock.round_order`).

    Args:
        sides: name -> what to time.
        rounds: how many times each is timed.
        warmup: rounds that are run first and not counted.
        prepare: makes the context in which a side, given by name, is timed; entering it is not timed.
        device: where they run; a CUDA device is waited for at each reading of the clock.
        clock: seconds that a call takes on a device.
        on_round: called after each round.

    Returns:
        Name -> seconds, one per round; entry i of all sides belongs to the same round.

    Examples:
        >>> {name: len(t) for name, t in interleave({"a": lambda: None, "b": lambda: None}, rounds=3).items()}
        {'a': 3, 'b': 3}
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for index in range(-warmup, rounds):
        for name in round_order(names, index):
            with prepare(name):
                took = clock(sides[name], device)
            if index >= 0:
                seconds[name].append(took)
        on_round()
    return seconds


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first quartile and the third, by linear interpolation; of one or two values, the extremes.

    Examples:
        >>> quartiles([4.0, 1.0, 2.0, 3.0, 5.0])
        (2.0, 4.0)
    """
    if len(values) < 3:
        return min(values), max(values)
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third
