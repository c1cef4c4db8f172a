"""Proportional attention by every road and kernel: what it costs to add log s, and which kernel serves it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from gpu_kernels import attention
from gpu_record import Record
from gpu_settings import Settings
from gpu_timing import Call, captured, summary, time_sides
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

PART = "attention"
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
Given = tuple[Tensor, Tensor, Tensor, Tensor]


def roads() -> dict[str, Callable[..., Tensor]]:
    """Name -> a function of q, k, v and size; "plain" leaves size out and is the limit."""
    return {
        "plain": lambda q, k, v, size: F.scaled_dot_product_attention(q, k, v),
        "mask": attention.mask,
        "key_channel": attention.key_channel,
        "key_channel, values as they are": partial(attention.key_channel, pad=False),
        "value_channel": attention.value_channel,
        "value_channel, keys as they are": partial(attention.value_channel, pad=False),
        "flex": attention.flex,
    }


def measure(settings: Settings, record: Record) -> None:
    """Time every road: torch's choice of kernel and each kernel by itself, eager, replayed and compiled."""
    errors(settings, record)
    for batch in settings.batches:
        if record.has_time(PART, f"eager, batch {batch}"):
            eager(settings, record, batch)
    for batch in settings.batches:
        if record.has_time(PART, f"compiled, batch {batch}"):
            compiled(settings, record, batch)


def draw(settings: Settings, batch: int) -> Given:
    """q, k, v as a fused projection leaves them, ``b h n e`` views of ``b n (3 h e)``, and sizes ``b n``."""
    n, heads, width = settings.tokens
    torch.manual_seed(batch)
    fused = torch.randn(batch, n, 3, heads, width, device=settings.device, dtype=settings.dtype)
    q, k, v = fused.permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v, torch.randint(1, 9, (batch, n), device=settings.device).float()


def errors(settings: Settings, record: Record) -> None:
    """How far each road is from float64."""
    given = draw(settings, 1)
    exact = attention.mask(*(x.double() for x in given))
    for name, road in roads().items():
        if name != "plain":
            with record.attempt(PART, f"error of {name}"), torch.inference_mode():
                off = road(*given).double() - exact
                rms, most = off.square().mean().sqrt().item(), off.abs().max().item()
                record.add(PART, finding="error", side=name, rms=rms, most=most)


def eager(settings: Settings, record: Record, batch: int) -> None:
    """Torch's choice, each kernel by itself, and a mask whose logarithm and alignment cost nothing here."""
    given = draw(settings, batch)
    q, k, v, size = given
    bias = aligned(size.log().to(q.dtype))[:, None, None, :]
    calls: dict[str, Call] = {"mask, log s given": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias)}
    for name, road in roads().items():
        if name == "flex":
            continue  # without the compiler it makes the map
        calls[name] = partial(road, *given)
        if settings.cuda:
            calls |= {
                f"{name} by {kernel}": partial(_only, backend, road, given) for kernel, backend in BACKENDS.items()
            }
    _time(settings, record, batch, "eager", calls)


def compiled(settings: Settings, record: Record, batch: int) -> None:
    """The roads as the compiler makes them."""
    given = draw(settings, batch)
    calls: dict[str, Call] = {}
    torch._dynamo.reset()
    for name, road in roads().items():
        with record.attempt(PART, f"compiling {name}, batch {batch}"):
            calls[name] = partial(torch.compile(road, backend=settings.backend, dynamic=False), *given)
    _time(settings, record, batch, "compiled", calls)


def aligned(bias: Tensor) -> Tensor:
    """The same numbers with rows that start at multiples of 8."""
    n = bias.shape[-1]
    return F.pad(bias, (0, -n % 8))[:, :n]


def _only(backend: SDPBackend, road: Callable[..., Tensor], given: Given) -> Tensor:
    with sdpa_kernel([backend]):
        return road(*given)


def _time(settings: Settings, record: Record, batch: int, mode: str, calls: dict[str, Call]) -> None:
    ready: dict[str, Call] = {}
    served: dict[str, str] = {}
    with torch.inference_mode():
        for name, call in calls.items():
            kernel = name.rpartition(" by ")[2] if " by " in name else None
            try:
                for _ in range(3):
                    call()
            except RuntimeError as error:
                if kernel is None or "No available kernel" not in str(error):
                    with record.attempt(PART, f"{mode} {name}, batch {batch}"):
                        raise
                else:
                    record.leave_out(PART, f"{mode} {name}, batch {batch}", "this kernel does not serve it")
                continue
            ready[name] = call
            served[name] = kernel or (which_kernel(call) if mode == "eager" else "")
            if settings.cuda:
                with record.attempt(PART, f"{mode} {name} in a CUDA graph, batch {batch}"):
                    ready[f"{name}, replayed"] = captured(call)
        with record.attempt(PART, f"timing {mode}, batch {batch}"):
            for name, seconds in time_sides(ready, settings.device, rounds=settings.rounds).items():
                found: dict[str, Any] = {"served": served.get(name.removesuffix(", replayed"), "")}
                record.add(PART, finding="time", batch=batch, mode=mode, side=name, **found, **summary(seconds))


class _Seen(TorchDispatchMode):
    """The names of all operations of a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def which_kernel(call: Call) -> str:
    """Which fused kernel torch takes for a call."""
    # Not in inference mode, where the choice is made below what can be seen here.
    with torch.inference_mode(False), torch.no_grad(), _Seen() as seen:
        call()
    fused = [name.split(".")[1] for name in seen.names if "scaled_dot_product" in name and "math" not in name]
    return fused[0].strip("_").removeprefix("scaled_dot_product_") if fused else "math"
