"""Proportional attention, softmax(QKᵀ·scale + log s) V, by four exact roads; a mask keeps torch off its flash kernel.

- mask: turbo's own, a ``b 1 1 n`` bias.
- flex: FlexAttention adds log s to the scores. Fused only where it is compiled.
- key_channel: log s in further channels of the keys, met by a constant in the queries; no mask.
- value_channel: values times s, and s itself in a further channel of the values, which counts the denominator; no mask.

Torch's flash kernel wants queries, keys and values of one width, a multiple of 8: with `pad`, the channel roads fill up
with zeros what is narrower. Without, other kernels may serve them (cuDNN takes another width of values), or none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from turbo.attention import proportional_attention
from turbo.errors import TurboError

_ALIGNED = 8


def mask(query: Tensor, key: Tensor, value: Tensor, size: Tensor | None, scale: float | None = None) -> Tensor:
    """`turbo.attention.proportional_attention`, as it is."""
    return proportional_attention(query, key, value, size, scale=scale)


def flex(query: Tensor, key: Tensor, value: Tensor, size: Tensor | None, scale: float | None = None) -> Tensor:
    """FlexAttention with log s in float32 added to each score.

    Args:
        query: ``b h n e``.
        key: ``b h n e``.
        value: ``b h n e``.
        size: ``b n``, patches that each token stands for; None adds nothing.
        scale: what scores are multiplied by; None means 1/√e.

    Returns:
        ``b h n e``.
    """
    if size is None:
        return _only(flex_attention(query, key, value, scale=scale))
    bias = size.log()

    def add(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return score + bias[batch, column]

    return _only(flex_attention(query, key, value, score_mod=add, scale=scale))


def key_channel(
    query: Tensor, key: Tensor, value: Tensor, size: Tensor | None, scale: float | None = None, *, pad: bool = True
) -> Tensor:
    """Log s in further channels of the keys: exact up to the rounding of log s.

    The queries' constant is the power of two nearest to 1/scale, which every dtype holds exactly. In bfloat16 and
    float16 log s is split into a high and a low part, so that it has twice the digits.

    Args:
        query: ``b h n e``.
        key: ``b h n e``.
        value: ``b h n e``.
        size: ``b n``, patches that each token stands for; None is plain attention.
        scale: what scores are multiplied by, above 0; None means 1/√e.
        pad: fill the values up to the width of the keys, too.

    Returns:
        ``b h n e``.

    Raises:
        TurboError: a scale that is not above 0.

    Examples:
        >>> q, size = torch.zeros(1, 1, 2, 4), torch.tensor([[3.0, 1.0]])
        >>> key_channel(q, q, torch.tensor([[[[1.0], [0.0]]]]).expand(1, 1, 2, 4), size)[0, 0, 0, :2]
        tensor([0.7500, 0.7500])
    """
    if size is None:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    width = query.shape[-1]
    scale = width**-0.5 if scale is None else scale
    if not scale > 0:
        raise TurboError(f"scale={scale!r}: log s can only go through the product where the scale is above 0")
    constant = 2.0 ** round(-math.log2(scale))
    wide = _wide(key)
    bias = (size.to(wide).log() / (scale * constant))[..., None]
    high = bias.to(key.dtype)
    parts = [high] if key.dtype == wide else [high, (bias - high).to(key.dtype)]
    channels = torch.cat(parts, dim=-1)[:, None].expand(-1, key.shape[1], -1, -1)
    more = -(width + len(parts)) % _ALIGNED
    key = F.pad(torch.cat([key, channels], dim=-1), (0, more))
    query = F.pad(F.pad(query, (0, len(parts)), value=constant), (0, more))
    return _attend(query, key, value, scale, pad=pad)


def value_channel(
    query: Tensor, key: Tensor, value: Tensor, size: Tensor | None, scale: float | None = None, *, pad: bool = True
) -> Tensor:
    """Values times s, and s in a further channel: Σ w s v / Σ w s from the plain softmax w. No logarithm.

    Args:
        query: ``b h n e``.
        key: ``b h n e``.
        value: ``b h n e``.
        size: ``b n``, patches that each token stands for; None is plain attention.
        scale: what scores are multiplied by; None means 1/√e.
        pad: fill queries and keys up to the width of the values, too.

    Returns:
        ``b h n e``.

    Examples:
        >>> q, size = torch.zeros(1, 1, 2, 4), torch.tensor([[3.0, 1.0]])
        >>> value_channel(q, q, torch.tensor([[[[1.0], [0.0]]]]).expand(1, 1, 2, 4), size)[0, 0, 0, :2]
        tensor([0.7500, 0.7500])
    """
    if size is None:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    width = value.shape[-1]
    # In shares of the largest size, so that float16 does not overflow.
    size = size.to(_wide(value))
    share = (size / size.amax(dim=1, keepdim=True)).to(value.dtype)[:, None, :, None]
    weighted = torch.cat([value * share, share.expand(-1, value.shape[1], -1, -1)], dim=-1)
    weighted = F.pad(weighted, (0, -(width + 1) % _ALIGNED))
    out = _attend(query, key, weighted, scale, pad=pad)
    return out[..., :width] / out[..., width : width + 1]


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, *, pad: bool) -> Tensor:
    """Fused attention without a mask; with `pad` all three get one width, and the result its own back."""
    width = value.shape[-1]
    if pad:
        most = max(query.shape[-1], width)
        query, key, value = (F.pad(x, (0, most - x.shape[-1])) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale)[..., :width]


def _wide(x: Tensor) -> torch.dtype:
    """In which sizes are reckoned: at least float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _only(found: Tensor | tuple[Tensor, ...]) -> Tensor:
    """FlexAttention's output, without what it may return besides."""
    assert isinstance(found, Tensor)
    return found
