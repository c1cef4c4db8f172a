"""Each source's highest cosine and where it is, tile by tile: the ``b m k`` similarities are never written."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu_kernels.checks import require_dtype, require_shape
from turbo.errors import TurboError

_ROWS, _COLUMNS, _DEPTH = 32, 32, 32
"""Sources, destinations and channels of a tile. `tl.dot` takes 16 or more; larger float32 tiles spill registers."""


@triton.jit
def _best(
    source,
    destination,
    redundancy,
    partner,
    m,
    k,
    e,
    source_batch,
    source_row,
    source_channel,
    destination_batch,
    destination_row,
    destination_channel,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, DEPTH)
    source += batch * source_batch + row[:, None] * source_row
    destination += batch * destination_batch
    best = tl.full((ROWS,), float("-inf"), tl.float32)
    where = tl.zeros((ROWS,), tl.int32)
    for first in range(0, k, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        cosine = tl.zeros((ROWS, COLUMNS), tl.float32)
        for start in range(0, e, DEPTH):
            at = start + channel
            a = tl.load(source + at[None, :] * source_channel, (row[:, None] < m) & (at[None, :] < e), 0.0)
            b = tl.load(
                destination + at[:, None] * destination_channel + column[None, :] * destination_row,
                (at[:, None] < e) & (column[None, :] < k),
                0.0,
            )
            # Half precision is widened first: turbo hands over float32, and the interpreter cannot multiply bfloat16.
            cosine = tl.dot(a.to(tl.float32), b.to(tl.float32), cosine, input_precision="ieee")
        cosine = tl.where(column[None, :] < k, cosine, float("-inf"))
        found, place = tl.max(cosine, 1, return_indices=True, return_indices_tie_break_left=True)
        better = found > best  # not >=: of equal ones the first stays
        best = tl.where(better, found, best)
        where = tl.where(better, first + place, where)
    best = tl.minimum(tl.maximum(best, -1.0), 1.0)
    out = batch * m + row
    tl.store(redundancy + out, best, row < m)
    tl.store(partner + out, where.to(tl.int64), row < m)


def mutual_redundancy(source: Tensor, destination: Tensor) -> tuple[Tensor, Tensor]:
    """`turbo.information.mutual_redundancy` in one kernel, with sums in float32 (no tf32) whatever the dtype.

    No gradient. Strided views are read where they are. A NaN is never the highest: a source that has none but NaN gets
    R = -1 and partner 0, where turbo's own function returns NaN.

    Args:
        source: ``b m e``, unit vectors, float32, bfloat16 or float16.
        destination: ``b k e``, unit vectors of the same dtype; k is at least 1.

    Returns:
        R, ``b m`` in [-1, 1], of the sources' dtype, and the partner, ``b m`` int64, the first of equal ones.

    Raises:
        TurboError: another dtype, two dtypes, shapes that do not fit, or no destination.

    Examples:
        >>> mutual_redundancy(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
        (tensor([[1.]]), tensor([[1]]))
    """
    require_dtype("source", source)
    batch, m, e = source.shape
    k = destination.shape[1]
    require_shape("destination", destination, (batch, k, e))
    if destination.dtype != source.dtype:
        raise TurboError(f"source is {source.dtype}, destination is {destination.dtype}: they must be of one dtype")
    if k == 0:
        raise TurboError("there is no destination: nothing can merge, so do not ask")
    redundancy = torch.empty(batch, m, dtype=source.dtype, device=source.device)
    partner = torch.empty(batch, m, dtype=torch.int64, device=source.device)
    if batch * m:
        grid = (triton.cdiv(m, _ROWS), batch)
        strides = (*source.stride(), *destination.stride())
        _best[grid](
            source, destination, redundancy, partner, m, k, e, *strides, ROWS=_ROWS, COLUMNS=_COLUMNS, DEPTH=_DEPTH
        )
    return redundancy, partner
