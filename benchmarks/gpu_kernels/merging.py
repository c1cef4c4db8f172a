"""Merged tokens, their sizes and the logarithms of those in one kernel.

Every row of the output looks up what merges into it and adds it in the order of positions. There are no atomics: the
same input gives the same bits, which index_add_ does not promise on CUDA, and so does another order of the matching.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu_kernels.checks import require_dtype, require_shape
from turbo.matching import Matching

_ROWS, _POSITIONS, _MOST_WIDTH = 4, 256, 1024
"""Rows of the output, positions looked at together, and the most channels of a program."""
_ALIGNED = 8
"""Numbers to which a row of log-sizes is padded in memory: fused attention copies a mask whose rows start elsewhere."""


@triton.jit
def _merge(
    x,
    size,
    kept,
    assignment,
    out,
    new_size,
    log_size,
    n,
    left,
    width,
    x_batch,
    x_row,
    x_channel,
    size_batch,
    size_row,
    log_batch,
    HAS_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    POSITIONS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    batch = tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    x += batch * x_batch + channel[None, :] * x_channel
    size += batch * size_batch
    assignment += batch * n

    inside = row < left
    cell = inside[:, None] & (channel[None, :] < width)
    token = tl.load(kept + batch * left + row, inside, 0)
    target = tl.load(x + token[:, None] * x_row, cell, 0.0).to(tl.float32)
    if HAS_SIZE:
        total = tl.load(size + token * size_row, inside, 1.0).to(tl.float32)
    else:
        total = tl.full((ROWS,), 1.0, tl.float32)
    change = tl.zeros((ROWS, WIDTH), tl.float32)
    for first in range(0, n, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        receiver = tl.load(assignment + position, position < n, -1)
        joins = (receiver[None, :] == row[:, None]) & (position[None, :] != token[:, None])
        most = tl.max(tl.sum(joins.to(tl.int32), 1), 0)  # 0 for most rows: they are copied
        last = tl.full((ROWS,), -1, tl.int32)
        for _ in range(most):
            # Each row's next token by position, n where it has no more.
            ahead = joins & (position[None, :] > last[:, None])
            last = tl.min(tl.where(ahead, position[None, :], n), 1)
            more = last < n
            value = tl.load(x + last[:, None] * x_row, cell & more[:, None], 0.0).to(tl.float32)
            weight = more.to(tl.float32)
            if HAS_SIZE:
                weight = tl.load(size + last * size_row, more, 0.0).to(tl.float32)
            total += weight
            change += weight[:, None] * (value - target)
    # The target moves by weighted differences, as in turbo.merging.merge: exact duplicates stay exact.
    result = target + change / total[:, None]
    place = (batch * left + row) * width
    tl.store(out + place[:, None] + channel[None, :], result.to(out.dtype.element_ty), cell)
    if tl.program_id(1) == 0:
        tl.store(new_size + batch * left + row, total, inside)
        tl.store(log_size + batch * log_batch + row, tl.log(total).to(log_size.dtype.element_ty), inside)


def merge(x: Tensor, matching: Matching, size: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """`turbo.merging.merge` in one kernel, and the log s that the next block's attention adds. No gradient.

    Args:
        x: ``b n d``, float32, bfloat16 or float16; sums are made in float32.
        matching: which tokens merge (see `turbo.matching.select`).
        size: ``b n``, patches that each token stands for; None means one each.

    Returns:
        The merged tokens, ``b n-r d``; their sizes, ``b n-r`` float32; and log s, ``b n-r`` in the dtype of x, a view
        of rows that are padded to a multiple of 8 numbers.

    Raises:
        TurboError: another dtype, or shapes that do not fit.

    Examples:
        >>> from turbo.matching import select
        >>> from turbo.partition import parity
        >>> m = select(torch.tensor([[1.0]]), torch.tensor([[0]]), 1, parity(2))
        >>> merge(torch.tensor([[[1.0], [3.0]]]), m, torch.tensor([[3.0, 1.0]]))
        (tensor([[[1.5000]]]), tensor([[4.]]), tensor([[1.3863]]))
    """
    require_dtype("x", x)
    batch, n, width = x.shape
    left = matching.kept.shape[1]
    assignment = matching.assignment  # made now, a few kernels: turbo's own merge does without
    require_shape("assignment", assignment, (batch, n))
    if size is not None:
        require_dtype("size", size)
        require_shape("size", size, (batch, n))
    out = torch.empty(batch, left, width, dtype=x.dtype, device=x.device)
    new_size = torch.empty(batch, left, dtype=torch.float32, device=x.device)
    padded = triton.cdiv(left, _ALIGNED) * _ALIGNED
    log_size = torch.empty(batch, padded, dtype=x.dtype, device=x.device)
    if batch * left:
        columns = min(_MOST_WIDTH, max(16, triton.next_power_of_2(width)))
        grid = (triton.cdiv(left, _ROWS), triton.cdiv(width, columns), batch)
        _merge[grid](
            x,
            x if size is None else size,
            matching.kept.contiguous(),
            assignment.contiguous(),
            out,
            new_size,
            log_size,
            n,
            left,
            width,
            *x.stride(),
            *((0, 0) if size is None else size.stride()),
            padded,
            HAS_SIZE=size is not None,
            ROWS=_ROWS,
            POSITIONS=_POSITIONS,
            WIDTH=columns,
        )
    return out, new_size, log_size[:, :left]


def merge_only(x: Tensor, matching: Matching, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`merge` with the two results of `turbo.merging.merge`, to stand in for it."""
    merged, new_size, _ = merge(x, matching, size)
    return merged, new_size
