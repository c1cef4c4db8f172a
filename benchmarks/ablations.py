"""What turbo does without one of its parts, or with another in its place: contexts for `benchmarks/defaults.py`.

None of these is an option of the library; each stands or falls by what is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from turbo.attention import proportional_attention
from turbo.fusion import Candidates, Strategy


@dataclass(frozen=True)
class PerPatch:
    """A strategy that sees A of each of a token's patches, not of all of them together."""

    strategy: Strategy

    def __call__(self, candidates: Candidates) -> Tensor:
        """The priority of each source, ``b m``."""
        each = replace(
            candidates,
            value=candidates.value / candidates.size,
            partner_value=candidates.partner_value / candidates.partner_size,
        )
        return self.strategy(each)


@dataclass(frozen=True)
class BothEnds:
    """S1 that protects destinations, too: the greater A of the two ends, or their sum, in place of the source's."""

    alpha: float
    sum: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The priority of each source, ``b m``."""
        ends = candidates.value, candidates.partner_value
        value = ends[0] + ends[1] if self.sum else torch.maximum(*ends)
        return candidates.redundancy - self.alpha * value


@dataclass(frozen=True)
class Tempered:
    """A strategy with less faith in A: it sees A^power."""

    strategy: Strategy
    power: float

    def __call__(self, candidates: Candidates) -> Tensor:
        """The priority of each source, ``b m``."""
        value, partner = candidates.value**self.power, candidates.partner_value**self.power
        return self.strategy(replace(candidates, value=value, partner_value=partner))


@dataclass(frozen=True)
class Blended:
    """A strategy to which every token is worth something: it sees A + floor."""

    strategy: Strategy
    floor: float

    def __call__(self, candidates: Candidates) -> Tensor:
        """The priority of each source, ``b m``."""
        value, partner = candidates.value + self.floor, candidates.partner_value + self.floor
        return self.strategy(replace(candidates, value=value, partner_value=partner))


@contextmanager
def no_sizes(model: Any) -> Iterator[None]:
    """Attention that counts a merged token once: log s is left out of the blocks' attention.

    A keeps its log s: it is computed apart.
    """

    def plain(query: Tensor, key: Tensor, value: Tensor, size: Tensor | None = None, **options: Any) -> Tensor:
        return proportional_attention(query, key, value, **options)

    with patch("turbo.engine.runners.proportional_attention", plain):
        yield
