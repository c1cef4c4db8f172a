"""Peak memory of one call, counted by torch's own allocator records."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

_LOG_LEVEL = "KINETO_LOG_LEVEL"


def peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """Bytes of tensors alive at the worst moment of a call, beyond those alive before it.

    Args:
        call: what to run.
        device: where its tensors live.

    Returns:
        Bytes.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    gc.collect()  # what dies during the call must have been born in it
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    del result
    alive = peak = 0
    kineto = profiler.profiler
    assert kineto is not None
    events = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the profiler's library from writing to standard error; it reads its level when it first runs."""
    chosen = _LOG_LEVEL in os.environ
    os.environ.setdefault(_LOG_LEVEL, "6")  # above USDT (start and stop) and ERROR (no GPU found)
    try:
        yield
    finally:
        if not chosen:
            os.environ.pop(_LOG_LEVEL, None)
