"""Counting a block's FLOPs with torch's own counter, on fake tensors: nothing is computed or allocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import ResidualBlock
from turbo.flops import BlockFlops

_TOKENS = 2
_MANY_TOKENS = 2**12


def measure_blocks(blocks: Sequence[ResidualBlock], width: int) -> list[BlockFlops]:
    """The FLOPs model of each block; blocks built alike are counted once.

    Args:
        blocks: as an adapter lists them.
        width: d of the tokens that enter.

    Returns:
        One cost model per block.
    """
    measured: dict[int, BlockFlops] = {}
    for depths in alike(blocks):
        measured |= dict.fromkeys(depths, _measure(blocks[depths[0]], width))
    return [measured[depth] for depth in range(len(blocks))]


def alike(blocks: Sequence[ResidualBlock]) -> list[list[int]]:
    """The indices of blocks, those that are built alike together: what they cost is the same."""
    found: dict[Any, list[int]] = {}
    for depth, block in enumerate(blocks):
        shapes = tuple((name, tuple(p.shape)) for name, p in block.module.named_parameters())
        found.setdefault((type(block), type(block.module), shapes), []).append(depth)
    return list(found.values())


def _measure(block: ResidualBlock, width: int) -> BlockFlops:
    from torch._subclasses.fake_tensor import FakeTensorMode

    parameter = next(block.module.parameters())
    # Autocast would put casts in and change nothing about FLOPs; fake tensors leave the random state alone.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        x = torch.empty(1, _TOKENS, width, dtype=parameter.dtype, device=parameter.device)
        (q, _, v), qkv = _counted(lambda: block.qkv(x))
        heads, head_width = q.shape[1], v.shape[-1]
        asking = block.query(q[:, :, :1].expand(-1, -1, _MANY_TOKENS, -1)).shape[2]
        y = torch.empty(1, _TOKENS, heads * head_width, dtype=v.dtype, device=v.device)
        _, project = _counted(lambda: block.project(y))
        _, mlp = _counted(lambda: block.mlp(x))
    return BlockFlops(
        attention_per_token=(qkv + project) // _TOKENS,
        mlp_per_token=mlp // _TOKENS,
        width=heads * head_width,
        metric_width=q.shape[-1],
        queries=asking,
    )


def _counted(call: Callable[[], Any]) -> tuple[Any, int]:
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton, which takes a while

    with FlopCounterMode(display=False) as counter:
        result: Tensor | tuple[Tensor, ...] = call()
    return result, counter.get_total_flops()
