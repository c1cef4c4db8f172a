"""How an accelerated model runs on a GPU: without waiting, from a CUDA graph, with how many kernels and what memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from gpu_models import TURBO, build, images, make_sides, swapped
from gpu_record import Record
from gpu_settings import Settings
from gpu_timing import captured
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import turbo
from turbo.bench.memory import peak_memory
from turbo.errors import TurboError

PART = "execution"
CLOSE = 0.1
"""A replay may differ by this share: additions in another order can flip a choice. A stale one differs by about 1."""


def measure(settings: Settings, record: Record) -> None:
    """All four questions."""
    with torch.inference_mode():
        if settings.cuda:
            _synchronisation(settings, record)
            _replay(settings, record)
        else:
            for what in ("synchronisation", "CUDA graphs"):
                record.leave_out(PART, what, "needs CUDA")
        sides = make_sides(settings, record, PART)
        _kernels(settings, record, sides)
        for batch in settings.model_batches:
            for name, model in sides.items():
                if record.has_time(PART, f"memory of {name}, batch {batch}"):
                    with record.attempt(PART, f"memory of {name}, batch {batch}"), swapped(name):
                        mb = peak_memory(partial(model, images(settings, batch)), settings.device) / 1e6
                        record.add(PART, finding="memory", batch=batch, side=name, mb=mb)


def _synchronisation(settings: Settings, record: Record) -> None:
    """A forward pass with every strategy, where any wait for the device is an error."""
    model, given = build(settings), images(settings, 2)
    for strategy in turbo.list_strategies():
        with record.attempt(PART, f"no synchronisation, {strategy}"), turbo.accelerated(model, strategy):
            model(given)  # plans are made at the first call
            with _no_waiting():
                model(given)
            record.add(PART, finding="no synchronisation", side=strategy, holds=True)


@contextmanager
def _no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _replay(settings: Settings, record: Record) -> None:
    """A captured model on inputs that it was not captured with, compared with eager."""
    model = turbo.accelerate(build(settings), "s1", drop=settings.drop)
    for batch in settings.model_batches:
        with record.attempt(PART, f"CUDA graph, batch {batch}"):
            given, other = images(settings, batch), images(settings, batch, seed=1)
            call = captured(partial(model, given))
            stale: Tensor = call().clone()
            given.copy_(other)
            replayed: Tensor = call().clone()
            eager: Tensor = model(other)
            off, noise, old = (_share(x, eager) for x in (replayed, model(other), stale))
            record.add(PART, finding="CUDA graph", batch=batch, off=off, noise=noise, stale=old)
            if not off <= CLOSE < old:
                raise TurboError(f"a replay is {off:.3g} off (eager twice: {noise:.3g}, other images: {old:.3g})")


def _share(found: Tensor, wanted: Tensor) -> float:
    """Norm of the difference as a share of the norm of the variation that there is between outputs."""
    spread = (wanted.float() - wanted.float().mean()).norm()
    return ((found.float() - wanted.float()).norm() / spread).item()


def _kernels(settings: Settings, record: Record, sides: dict[str, Any]) -> None:
    """Kernels of one forward pass (on a CPU: operations that compute), and which of them merging adds."""
    given = images(settings, 1)
    counts: dict[str, Counter[str]] = {}
    for name, model in sides.items():
        with record.attempt(PART, f"kernels of {name}"), swapped(name):
            model(given)
            counts[name] = (_launched if settings.cuda else _operations)(partial(model, given))
            each = (counts[name].total() - counts["untouched"].total()) / len(model.blocks)
            record.add(PART, finding="kernels", side=name, launched=counts[name].total(), more_per_block=each)
    with record.attempt(PART, "kernels that merging adds"):
        more = counts[TURBO] - counts["untouched"]
        record.add(PART, finding="kernels added", side=TURBO, names=dict(more.most_common(40)))


def _launched(call: Callable[[], object]) -> Counter[str]:
    """Names of the kernels, copies and fills that a call gives to the GPU."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    events = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return Counter(event.name[:120] for event in events)


class _Computed(TorchDispatchMode):
    """Counts the operations of a `with` block that are no views: each is a kernel or more."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bare = "empty" in str(func) or "_unsafe_view" in str(func)
        if not func.is_view and not bare:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


def _operations(call: Callable[[], object]) -> Counter[str]:
    # Not in inference mode, where conversions pass for views and a product of matrices for one operation.
    with torch.inference_mode(False), torch.no_grad(), _Computed() as computed:
        call()
    return computed.found
