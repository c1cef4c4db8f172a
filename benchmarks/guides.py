"""Other sources of the semantic value A, as contexts: for `semantic_sources.py` and `attention_sinks.py`.

None of them is an option of the library; each stands or falls by what is measured there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

from turbo.adapters.base import ResidualBlock
from turbo.engine import runners
from turbo.information import semantic_value, spread_queries


@dataclass(frozen=True)
class Seen:
    """What a block knows when A is asked for.

    Attributes:
        x: ``b n d``, the tokens that enter the block.
        q: ``b h n e``.
        k: ``b h n e``.
        v: ``b h n e``.
        size: ``b n``, patches that each token stands for.
        scale: what scores are multiplied by.
    """

    x: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    size: Tensor
    scale: float

    def without_first(self) -> Seen:
        """The same without the first token."""
        q, k, v = (each[:, :, 1:] for each in (self.q, self.k, self.v))
        return Seen(self.x[:, 1:], q, k, v, self.size[:, 1:], self.scale)


Source = Callable[[Seen], Tensor]
"""What a block knows -> A as shares, ``b n``."""


def class_token(seen: Seen) -> Tensor:
    """The attention of the first token."""
    return semantic_value(seen.q[:, :, :1], seen.k, seen.size, seen.scale)


def even(seen: Seen) -> Tensor:
    """No attention at all: each patch is worth the same."""
    return seen.size / seen.size.sum(1, keepdim=True)


def mean_query(seen: Seen) -> Tensor:
    """The attention of the mean query."""
    return semantic_value(seen.q.mean(2, keepdim=True), seen.k, seen.size, seen.scale)


def mean_query_by_size(seen: Seen) -> Tensor:
    """The attention of the mean query, in which a token counts once for each of its patches."""
    query = (seen.q * even(seen)[:, None, :, None]).sum(2, keepdim=True)
    return semantic_value(query, seen.k, seen.size, seen.scale)


@dataclass(frozen=True)
class Received:
    """The attention received from some tokens, or from all, on average.

    Attributes:
        most: how many.
        by_size: whether one counts once for each of its patches.
    """

    most: int
    by_size: bool = False

    def __call__(self, seen: Seen) -> Tensor:
        """A as shares, ``b n``."""
        query = spread_queries(seen.q, self.most)
        if not self.by_size:
            return semantic_value(query, seen.k, seen.size, seen.scale)
        weight = spread_queries(seen.size[:, None, :, None], self.most)[:, 0, :, 0]
        scores = query @ seen.k.transpose(2, 3) * seen.scale + seen.size.log()[:, None, None]
        return torch.einsum("bhmn,bm->bn", scores.softmax(3), weight / weight.sum(1, keepdim=True)) / query.shape[1]


class Head:
    """The attention of timm's attention pool to the tokens of a block, as if the block were the last one.

    Args:
        tower: whose pool it is.
    """

    def __init__(self, tower: Any) -> None:
        self.norm, self.pool = tower.norm, tower.attn_pool

    def __call__(self, seen: Seen) -> Tensor:
        """A as shares, ``b n``."""
        pool, batch = self.pool, len(seen.x)
        shape = (batch, -1, pool.num_heads, pool.head_dim)
        query = pool.q_norm(pool.q(pool.latent.expand(batch, -1, -1)).view(shape).transpose(1, 2))
        keys = pool.kv(self.norm(seen.x))[..., : pool.num_heads * pool.head_dim]
        return semantic_value(query, pool.k_norm(keys.reshape(shape).transpose(1, 2)), seen.size, pool.scale)


@contextmanager
def guided(source: Source, *, hide_first: bool = False) -> Iterator[None]:
    """A from another source, in all blocks.

    Args:
        source: of A.
        hide_first: the first token neither asks nor is asked, and gets A = 0: a model with a class token stands in for
            one that has none.
    """
    known: dict[str, Any] = {}
    step, attention = runners.BlockRunner._attend_and_merge, runners.proportional_attention

    def noting_step(self: Any, x: Tensor, *rest: Any) -> Any:
        known["x"] = x
        return step(self, x, *rest)

    def noting_attention(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> Tensor:
        known["v"] = v
        return attention(q, k, v, *rest, **options)

    def value(query: Tensor, keys: Tensor, size: Tensor | None, scale: float | None = None) -> Tensor:
        size = torch.ones(keys.shape[0], keys.shape[2]) if size is None else size
        seen = Seen(known["x"], query, keys, known["v"], size, keys.shape[3] ** -0.5 if scale is None else scale)
        return functional.pad(source(seen.without_first()), (1, 0)) if hide_first else source(seen)

    with (
        patch.object(runners.BlockRunner, "_attend_and_merge", noting_step),
        patch.object(runners, "proportional_attention", noting_attention),
        patch.object(ResidualBlock, "query", lambda self, q: q),  # so that `value` gets all queries
        patch("turbo.engine.score.semantic_value", value),
    ):
        yield


def robust_distance(norm: Tensor) -> Tensor:
    """How far each token's norm, ``b n``, is above the median of its image, in standard deviations (1.4826 · MAD)."""
    middle = norm.median(dim=1, keepdim=True).values
    spread = 1.4826 * (norm - middle).abs().median(dim=1, keepdim=True).values
    return (norm - middle) / spread.clamp_min(1e-12)


def attention_sinks(value: Tensor, norm: Tensor, *, distance: float = 5.0, share: float = 0.05) -> Tensor:
    """Which patches draw attention while their norm is an outlier, ``b n``.

    Args:
        value: ``b n``, A.
        norm: ``b n``: of tokens, where artefacts have large ones (Darcet et al., 2024).
        distance: of an outlier, see `robust_distance`; a negative one looks for norms that are too small: of values,
            a sink's say nothing (Xiao et al., 2024).
        share: of an image's patches that have the highest A.
    """
    attended = value > value.quantile(1 - share, dim=1, keepdim=True)
    away = robust_distance(norm)
    return attended & (away > distance if distance > 0 else away < distance)


def by_value_norm(seen: Seen) -> Tensor:
    """The first token's attention, times the norms of the values that it reads (Kobayashi et al., 2020)."""
    scores = (seen.q[:, :, :1] @ seen.k.transpose(2, 3))[:, :, 0] * seen.scale + seen.size.log()[:, None]
    read = (scores.softmax(2) * seen.v.norm(dim=3)).mean(1)
    return read / read.sum(1, keepdim=True)


def capped(seen: Seen) -> Tensor:
    """The first token's attention, no more than ten times the mean."""
    return class_token(seen).clamp_max(10 / seen.size.shape[1])


def without_sinks(seen: Seen) -> Tensor:
    """The first token's attention, and for sinks the mean."""
    value = class_token(seen)
    found = attention_sinks(value[:, 1:], seen.x[:, 1:].norm(dim=2))
    return torch.cat([value[:, :1], value[:, 1:].where(~found, 1 / value.shape[1])], dim=1)
