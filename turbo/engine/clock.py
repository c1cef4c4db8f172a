"""Timing a few calls in turn, in little time: round by round, so that drift of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

SideT = TypeVar("SideT")

LEAST, MOST = 3, 25
"""Rounds: at least so many whatever they take, at most so many whatever is left of the budget."""
_SHORT = 0.01
_REPEATS = 8


def take_turns(
    calls: Sequence[Callable[[], object]], device: torch.device, *, budget: float, least: int = LEAST
) -> list[list[float]]:
    """Time calls in turn until the budget is spent, each round in another order.

    What takes less than 0.01 s is called up to eight times in a row for one figure: a GPU is then not waited for
    after every call, as it is not in a whole model.

    Args:
        calls: what to time; each runs once or twice before that does not count.
        device: where they run; a CUDA device is waited for at each reading of the clock.
        budget: seconds after which no further round begins.
        least: rounds that are run in any case.

    Returns:
        For each call its seconds, one figure per round; entry i of all calls belongs to the same round.

    Examples:
        >>> [len(took) for took in take_turns([lambda: None, lambda: None], torch.device("cpu"), budget=0)]
        [3, 3]
    """
    repeats = []
    for call in calls:
        if (took := seconds_of(call, device)) < _SHORT:
            took = seconds_of(call, device)  # the first call may have set something up
        repeats.append(max(1, min(_REPEATS, int(_SHORT / took) if took > 0 else _REPEATS)))
    seconds: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    for done in range(max(least, MOST)):
        if done >= least and time.perf_counter() - start >= budget:
            break
        for index in round_order(range(len(calls)), done):
            seconds[index].append(_mean_seconds(calls[index], repeats[index], device))
    return seconds


def round_order(sides: Sequence[SideT], index: int) -> list[SideT]:
    """The order of a round: over 2n rounds each of n sides has each place twice, and each other side twice before it.

    What runs just before a side leaves it its memory and its heat: that must not be the same one again and again.

    Examples:
        >>> ["".join(round_order("abc", index)) for index in range(6)]
        ['abc', 'cba', 'bca', 'acb', 'cab', 'bac']
    """
    # Rows of Williams' square, 0 1 -1 2 -2 ... shifted from row to row, each followed by itself from behind.
    steps = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(len(sides))]
    order = [sides[(index // 2 + step) % len(sides)] for step in steps]
    return order[::-1] if index % 2 else order


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, what it leaves to do on a GPU included."""
    wait = device.type == "cuda"
    if wait:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if wait:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _mean_seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    def again() -> None:
        for _ in range(repeats):
            call()

    return seconds_of(again, device) / repeats
