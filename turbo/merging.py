"""Merging tokens, and its inverse. Pure tensor functions; sizes are conserved."""

from __future__ import annotations

import torch
from torch import Tensor

from turbo.matching import Matching


def _rows(n: int, *indices: Tensor) -> list[Tensor]:
    """``b k`` positions in sequences of n tokens -> ``b*k`` rows of the flattened ``b*n d`` tensor."""
    batch = indices[0].shape[0]
    if batch == 1:
        return [index.flatten() for index in indices]
    offset = torch.arange(0, batch * n, n, device=indices[0].device)[:, None]
    return [(index + offset).flatten() for index in indices]


def add_up(amount: Tensor, matching: Matching) -> Tensor:
    """What each merged token holds of an amount that its tokens bring along: sizes, shares of attention.

    Args:
        amount: ``b n``.
        matching: which tokens merge.

    Returns:
        ``b n-r``; each row's sum is as before.

    Examples:
        >>> from turbo.matching import select
        >>> from turbo.partition import parity
        >>> m = select(torch.tensor([[1.0]]), torch.tensor([[0]]), 1, parity(3, protected=1))
        >>> add_up(torch.tensor([[0.5, 0.25, 0.25]]), m)
        tensor([[0.5000, 0.5000]])
    """
    return _added(amount, matching, amount.gather(1, matching.merged))


def _added(amount: Tensor, matching: Matching, merged: Tensor) -> Tensor:
    """The amounts of the tokens that stay, ``b n-r``, with those of the merged ones, ``b r``, at their receivers."""
    return amount.gather(1, matching.kept).scatter_add(1, matching.receiver, merged)


def merge(x: Tensor, matching: Matching, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Replace each group of matched tokens by its size-weighted mean (supplement, section 1.1).

    A destination moves by the weighted differences of what merges into it, so only the merged tokens cost
    arithmetic, and merging exact duplicates is exact. Rows are gathered from the flattened tensor.

    Args:
        x: ``b n d``.
        matching: which tokens merge (see `turbo.matching.select`).
        size: ``b n``, patches that each token stands for; None means one each.

    Returns:
        The merged tokens, ``b n-r d``, and their sizes, ``b n-r`` float32.

    Examples:
        >>> from turbo.matching import select
        >>> from turbo.partition import parity
        >>> m = select(torch.tensor([[1.0]]), torch.tensor([[0]]), 1, parity(2))
        >>> merge(torch.tensor([[[1.0], [3.0]]]), m, torch.tensor([[3.0, 1.0]]))
        (tensor([[[1.5000]]]), tensor([[4.]]))
    """
    batch, n, width = x.shape
    if size is None:
        size = torch.ones(batch, n, dtype=torch.float32, device=x.device)
    left = matching.kept.shape[1]
    merged_size = size.gather(1, matching.merged)
    new_size = _added(size, matching, merged_size)

    flat = x.reshape(batch * n, width)
    weight = (merged_size / new_size.gather(1, matching.receiver)).to(x.dtype).reshape(-1, 1)
    kept, merged = _rows(n, matching.kept, matching.merged)
    (receiver,) = _rows(left, matching.receiver)
    out = flat.index_select(0, kept)
    difference = flat.index_select(0, merged) - out.index_select(0, receiver)
    out.index_add_(0, receiver, difference * weight)  # in place: `out` is a fresh copy already
    return out.view(batch, left, width), new_size


def group_means(x: Tensor, assignment: Tensor, size: Tensor) -> Tensor:
    """Mean over each token's patches of what is known patch by patch, such as their places.

    Args:
        x: ``b n c``, in the order of the original positions.
        assignment: ``b n`` int64, for each original position its token among the m.
        size: ``b m``, original positions per token.

    Returns:
        ``b m c``.

    Examples:
        >>> x = torch.tensor([[[1.0], [3.0], [5.0]]])
        >>> group_means(x, torch.tensor([[0, 0, 1]]), torch.tensor([[2.0, 1.0]])).flatten()
        tensor([2., 5.])
    """
    batch, m = size.shape
    sums = torch.zeros(batch * m, x.shape[-1], dtype=size.dtype, device=x.device)
    sums.index_add_(0, _rows(m, assignment)[0], x.flatten(0, 1).to(size.dtype))
    return (sums.view(batch, m, -1) / size[..., None]).to(x.dtype)


def unmerge(x: Tensor, assignment: Tensor) -> Tensor:
    """Give every original position its token back (supplement, section 1.2, inverse sampling).

    Args:
        x: ``b m d``, merged tokens.
        assignment: ``b n`` int64, for each original position its token among the m.

    Returns:
        ``b n d``.

    Examples:
        >>> unmerge(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[0, 1, 1]])).flatten()
        tensor([1., 2., 2.])
    """
    batch, m, width = x.shape
    rows = x.reshape(batch * m, width).index_select(0, _rows(m, assignment)[0])
    return rows.view(batch, assignment.shape[1], width)
