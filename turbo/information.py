"""The information degree's two halves: how redundant a token is, and how much it is listened to.

Pure tensor functions. Section 1.1 of the paper's supplement defines both quantities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo import defaults

_SIMILARITIES_AT_ONCE = {True: 2**20, False: 2**27}
"""How many similarities are made at a time. On a CPU they should stay in cache until their maximum is taken (twice as
fast at 16,384 tokens); elsewhere the bound is for memory."""


def token_metric(keys: Tensor) -> Tensor:
    """What tokens are compared by: keys (or queries) averaged over heads, of unit length.

    Computed in at least float32, whatever the model runs in: half precision would tie cosines that differ.

    Args:
        keys: ``b h n e``, the keys or the queries of an attention layer.

    Returns:
        ``b n e`` of unit length; a zero vector stays zero (its cosine with anything is 0), and one shorter than 1e-12
        stays shorter than 1.

    Examples:
        >>> token_metric(torch.ones(1, 2, 5, 4)).norm(dim=-1).shape
        torch.Size([1, 5])
    """
    return F.normalize(_mean_over_heads(keys), dim=-1)


def mutual_redundancy(source: Tensor, destination: Tensor) -> tuple[Tensor, Tensor]:
    """Mutual redundancy R of every source, and the destination it comes from (supplement, section 1.1).

    Args:
        source: ``b m e``, unit vectors (see `token_metric`).
        destination: ``b k e``, unit vectors; k is at least 1.

    Returns:
        R, ``b m`` in [-1, 1]: each source's highest cosine similarity to a destination; and the partner,
        ``b m`` int64: which destination that is, the first of equal ones.

    Examples:
        >>> mutual_redundancy(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
        (tensor([[1.]]), tensor([[1]]))
    """
    batch, sources, _ = source.shape
    other = destination.transpose(1, 2)
    rows = max(1, _SIMILARITIES_AT_ONCE[source.device.type == "cpu"] // max(1, batch * other.shape[2]))
    if sources <= rows:
        redundancy, partner = (source @ other).max(dim=-1)
    else:
        best = [(part @ other).max(dim=-1) for part in torch.split(source, rows, dim=1)]
        redundancy = torch.cat([found.values for found in best], dim=1)
        partner = torch.cat([found.indices for found in best], dim=1)
    return redundancy.clamp(-1.0, 1.0), partner


def spread_queries(q: Tensor, most: int = defaults.ASKING) -> Tensor:
    """The queries of a few tokens, spread over the whole sequence: who asks where no class token does.

    Their attention, averaged, estimates what each token receives from all. n alone decides which tokens ask: one from
    each of m equal stretches, at places that differ from stretch to stretch. Even steps could keep to a few columns of
    a grid of patches.

    Args:
        q: ``b h n e``.
        most: how many; where there are no more, all.

    Returns:
        ``b h m e``, m the smaller one of `most` and n.

    Examples:
        >>> spread_queries(torch.arange(5.0).view(1, 1, 5, 1), 3).flatten()
        tensor([0., 2., 3.])
    """
    n = q.shape[2]
    if n <= most:
        return q
    span = n - most + 1
    index = torch.arange(most, device=q.device)
    return q[:, :, (index * n + index * round(0.618 * span) % span) // most]


def semantic_value(query: Tensor, keys: Tensor, size: Tensor | None, scale: float | None = None) -> Tensor:
    """Semantic value A: the share of attention that each token gets from a query (supplement, section 1.1).

    One row of softmax(QKᵀ/√d + log s), averaged over heads; or several, averaged over all. The full ``n x n`` map is
    never made.

    Args:
        query: ``b h m e``: the class token's, with m = 1, or those of several tokens (see `spread_queries`).
        keys: ``b h n e``.
        size: ``b n``, patches that each token stands for; None while nothing has merged.
        scale: what scores are multiplied by; None means 1/√e.

    Returns:
        ``b n``, at least float32, not negative, each row sums to 1.

    Examples:
        >>> semantic_value(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 5, 4), None)
        tensor([[0.2000, 0.2000, 0.2000, 0.2000, 0.2000]])
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = _one_row(query * scale, keys) if query.shape[2] == 1 else _rows(query * scale, keys)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if size is not None:
        scores = scores + size.log()[:, None, :].to(scores.dtype)
    return scores.softmax(dim=-1).mean(dim=1)


def running_value(value: Tensor, before: Tensor | None, momentum: float) -> Tensor:
    """Semantic value averaged over the blocks so far: `momentum` of what came before, the rest of this block's.

    One block's class token looks for what that block needs, and with few heads the others get nearly nothing: a
    token that a later block needs may be worthless in this one. Merging adds the values of what merges
    (`turbo.merging.add_up`), as it does the attention to duplicates (Proposition 1.11).

    Args:
        value: ``b n``, this block's (see `semantic_value`).
        before: ``b n``, the running value of the blocks before, of the same tokens; None in the first block.
        momentum: 0 takes this block's alone.

    Returns:
        ``b n``, not negative, each row sums to 1.

    Examples:
        >>> running_value(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), 0.5)
        tensor([[0.7500, 0.2500]])
    """
    return value if before is None else momentum * before + (1 - momentum) * value


def _mean_over_heads(keys: Tensor) -> Tensor:
    """``b h n e`` -> ``b n e``, in at least float32."""
    dtype = keys.dtype if keys.dtype == torch.float64 else torch.float32
    tokens = keys.transpose(1, 2)
    if tokens.stride(0) == tokens.shape[1] * tokens.stride(1):  # heads inside tokens, as projections leave them
        # As rows of one matrix: torch spreads that over threads better than two dimensions.
        return tokens.flatten(0, 1).mean(dim=1, dtype=dtype).view(*tokens.shape[:2], tokens.shape[-1])
    return keys.mean(dim=1, dtype=dtype)


def _rows(query: Tensor, keys: Tensor) -> Tensor:
    """``b h m e`` times ``b h n e`` over e -> ``b (h m) n``, without a copy of the keys on a CPU."""
    if keys.device.type != "cpu" or torch.compiler.is_compiling() or keys.stride(1) > keys.stride(2):
        return (query @ keys.transpose(2, 3)).flatten(1, 2)
    heads = zip(query.unbind(1), keys.unbind(1), strict=True)  # see `_one_row`
    return torch.cat([asking @ asked.transpose(1, 2) for asking, asked in heads], dim=1)


def _one_row(query: Tensor, keys: Tensor) -> Tensor:
    """``b h 1 e`` times ``b h n e`` over e -> ``b h n``, each way where it is the fastest.

    Half precision on a CPU takes memory as large as the keys and rounds the products; the others copy nothing.
    """
    on_cpu = keys.device.type == "cpu"
    if torch.compiler.is_compiling() or (on_cpu and keys.dtype in (torch.bfloat16, torch.float16)):
        return (query * keys).sum(dim=-1)  # compiled it is one kernel, and half precision has no fast small products
    if keys.shape[0] == 1 or keys.stride(1) > keys.stride(2):  # one batched product, over heads
        return (query @ keys.transpose(2, 3))[:, :, 0]
    # Heads inside tokens: no batched product takes both batch and heads then.
    if on_cpu:
        return torch.cat(
            [one @ every.transpose(1, 2) for one, every in zip(query.unbind(1), keys.unbind(1), strict=True)], dim=1
        )
    # One product ``h (h e)`` x ``(h e) n``, the query block-diagonal: the fewest kernels.
    by_head = torch.diag_embed(query[:, :, 0].transpose(1, 2), dim1=1, dim2=2).flatten(2)
    return by_head @ keys.transpose(1, 2).flatten(2).transpose(1, 2)
