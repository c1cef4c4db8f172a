"""Timing that can be compared: all sides in turn, so that drift of the machine hits them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch


def interleave(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    prepare: Callable[[str], AbstractContextManager[object]] = nullcontext,
    device: torch.device | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Time several callables in turn, round by round; the order turns too.

    Args:
        sides: name -> what to time.
        rounds: how many times each is timed.
        warmup: rounds that are run first and not counted.
        prepare: makes the context in which a side, given by name, is timed; entering it is not timed.
        device: a CUDA device to wait for before each reading of the clock.
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
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            with prepare(name):
                took = _clock(sides[name], device)
            if index >= 0:
                seconds[name].append(took)
        on_round()
    return seconds


def _clock(call: Callable[[], object], device: torch.device | None) -> float:
    wait = device is not None and device.type == "cuda"
    if wait:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if wait:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
