"""Proportional attention: a token that stands for s patches is attended to as s patches would be."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def proportional_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    size: Tensor | None = None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(QKᵀ/√d + log s) V, fused (supplement, Eq. 2).

    The bias goes in as a ``b 1 1 n`` mask, which torch's fused kernels broadcast: no map is made.

    Args:
        query: ``b h n e``.
        key: ``b h n e``.
        value: ``b h n e``.
        size: ``b n``, patches that each token stands for; None (all ones) skips the bias.
        scale: what scores are multiplied by; None means 1/√e.
        dropout: probability with which attention weights are dropped.

    Returns:
        ``b h n e``.

    Examples:
        >>> import torch
        >>> q, size = torch.zeros(1, 1, 2, 4), torch.tensor([[3.0, 1.0]])
        >>> proportional_attention(q, q, torch.tensor([[[[1.0], [0.0]]]]), size)[0, 0, 0]
        tensor([0.7500])
    """
    bias = None if size is None else size.log()[:, None, None, :].to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout, scale=scale)
