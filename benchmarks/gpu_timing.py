"""Timing on a GPU: sides in turn, by CUDA events; on a CPU by the clock. And calls replayed from a CUDA graph."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from turbo.bench import interleave
from turbo.engine.clock import seconds_of

Call = Callable[[], Any]


def time_sides(
    sides: Mapping[str, Call],
    device: torch.device,
    *,
    rounds: int,
    least: float = 0.003,
    prepare: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> dict[str, list[float]]:
    """Time calls in turn as `turbo.bench.interleave` does, short ones repeated. They must be warm.

    Args:
        sides: name -> what to time.
        device: where it runs.
        rounds: how many times each is timed.
        least: seconds that one reading should last; short calls are repeated. What a repeated small call reads may
            still be in the cache of the GPU, for all sides alike.
        prepare: makes the context in which a side, given by name, runs; entering it is not timed.

    Returns:
        Name -> seconds of one call, one for each round.
    """
    repeats = {}
    for name, call in sides.items():
        with prepare(name):
            once = event_seconds(partial(_repeated, call, 2), device) / 2
        repeats[name] = max(1, min(200, round(least / max(once, 1e-7))))
    calls = {name: partial(_repeated, call, repeats[name]) for name, call in sides.items()}
    seconds = interleave(calls, rounds=rounds, warmup=0, prepare=prepare, device=device, clock=event_seconds)
    return {name: [took / repeats[name] for took in found] for name, found in seconds.items()}


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median and extremes in microseconds."""
    found = [1e6 * value for value in seconds]
    return {"us": statistics.median(found), "least_us": min(found), "most_us": max(found), "rounds": len(found)}


def captured(call: Call) -> Call:
    """The call replayed from a CUDA graph: no launches by Python, the same memory each time."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def event_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call by CUDA events, which do not count the way to the GPU and back; elsewhere by the clock."""
    if device.type != "cuda":
        return seconds_of(call, device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _repeated(call: Call, times: int) -> None:
    for _ in range(times):
        call()
