"""The Triton kernels beside turbo's own functions, eager and compiled, each also replayed from a CUDA graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from gpu_attention import aligned
from gpu_record import Record
from gpu_settings import Settings
from gpu_timing import Call, captured, summary, time_sides
from torch import Tensor

from turbo.information import mutual_redundancy
from turbo.matching import Matching, select
from turbo.merging import merge
from turbo.partition import parity

Side = Callable[..., tuple[Tensor, ...]]
Sides = dict[str, Side]


def measure_similarity(settings: Settings, record: Record) -> None:
    """R and partner of every source, from keys' means as turbo has them: float32, strided halves."""
    sides = with_triton(settings, record, "similarity", mutual_redundancy, "mutual_redundancy")
    for batch in settings.batches:
        if record.has_time("similarity", f"batch {batch}"):
            source, destination = halves(settings, batch)
            exact, _ = mutual_redundancy(source.double(), destination.double())
            for name, function in sides.items():
                with record.attempt("similarity", f"error of {name}, batch {batch}"):
                    value, partner = function(source, destination)
                    chosen = destination.gather(1, partner[..., None].expand_as(source)).double()
                    regret = (exact - (source.double() * chosen).sum(dim=-1)).max().item()
                    most = (value.double() - exact).abs().max().item()
                    record.add("similarity", finding="error", batch=batch, side=name, most=most, worst_choice=regret)
            _time(settings, record, "similarity", batch, sides, (source, destination), {})


def measure_merging(settings: Settings, record: Record) -> None:
    """Merged tokens, sizes and log s, for what one block drops and for a quarter of its tokens."""
    sides = with_triton(settings, record, "merging", with_log, "merge")
    n, heads, width = settings.tokens
    for batch in settings.batches:
        for drop in (settings.drop, n // 4):
            if record.has_time("merging", f"batch {batch}, drop {drop}"):
                redundancy, partner = mutual_redundancy(*halves(settings, batch))
                matching = select(redundancy, partner, drop, parity(n, protected=1))
                torch.manual_seed(batch)
                x = torch.randn(batch, n, heads * width, device=settings.device, dtype=settings.dtype)
                given = (x, matching, torch.randint(1, 9, (batch, n), device=settings.device).float())
                for name, function in sides.items():
                    with record.attempt("merging", f"error of {name}, batch {batch}, drop {drop}"):
                        record.add("merging", batch=batch, drop=drop, side=name, **_off(function, given))
                _time(settings, record, "merging", batch, sides, given, {"drop": drop})


def with_triton(settings: Settings, record: Record, part: str, turbo: Side, kernel: str) -> Sides:
    """Turbo's function, and where Triton can run the kernel that is called so in the part's module."""
    sides = {"turbo": turbo}
    if settings.why_no_triton is None:
        sides["triton"] = getattr(importlib.import_module(f"gpu_kernels.{part}"), kernel)
    else:
        record.leave_out(part, "triton", settings.why_no_triton)
    return sides


def halves(settings: Settings, batch: int) -> tuple[Tensor, Tensor]:
    """Sources and destinations of unit vectors, ``b m e`` and ``b k e``, with one protected token."""
    n, _, width = settings.tokens
    torch.manual_seed(batch)
    metric = F.normalize(torch.randn(batch, n, width, device=settings.device), dim=-1)
    partition = parity(n, protected=1)
    return metric[:, partition.source], metric[:, partition.destination]


def with_log(x: Tensor, matching: Matching, size: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Merge as turbo does, and take the logarithm that the next block takes, aligned as its attention wants it."""
    merged, size = merge(x, matching, size)
    return merged, size, aligned(size.log().to(x.dtype))


def _off(function: Callable[..., tuple[Tensor, ...]], given: tuple[Tensor, Matching, Tensor]) -> dict[str, Any]:
    """How far a merge is from float64, and whether two calls agree to the bit."""
    x, matching, size = given
    merged, sizes, _ = function(*given)
    exact, exact_sizes = merge(x.double(), matching, size)
    again, _, _ = function(*given)
    return {
        "finding": "error",
        "most": (merged.double() - exact).abs().max().item(),
        "sizes": (sizes - exact_sizes).abs().max().item(),
        "same_bits": torch.equal(merged, again),
    }


def _time(
    settings: Settings,
    record: Record,
    part: str,
    batch: int,
    sides: Sides,
    given: tuple[Any, ...],
    more: dict[str, Any],
) -> None:
    ready: dict[str, Call] = {}
    with torch.inference_mode():
        for name, function in sides.items():
            ready[name] = partial(function, *given)
        with record.attempt(part, f"compiling, batch {batch}"):
            torch._dynamo.reset()
            turbo = torch.compile(sides["turbo"], backend=settings.backend, dynamic=False)
            ready["turbo, compiled"] = partial(turbo, *given)
        for name, call in list(ready.items()):
            if not record.warms_up(part, f"{name}, batch {batch}", call):
                del ready[name]
            elif settings.cuda:
                with record.attempt(part, f"{name} in a CUDA graph, batch {batch}"):
                    ready[f"{name}, replayed"] = captured(call)
        with record.attempt(part, f"timing, batch {batch}"):
            for name, seconds in time_sides(ready, settings.device, rounds=settings.rounds).items():
                record.add(part, finding="time", batch=batch, **more, side=name, **summary(seconds))
