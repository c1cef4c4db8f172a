"""Strategies to compare with: one half of the information degree alone, or none of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from turbo.errors import TurboError
from turbo.fusion.candidates import Candidates
from turbo.hashing import mix


@dataclass(frozen=True)
class ToMe:
    """Redundancy alone, E = R: the published token merging (Bolya et al., 2022). The same as S1 with α = 0.

    Examples:
        >>> ToMe()
        ToMe()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        return candidates.redundancy


@dataclass(frozen=True)
class Attention:
    """Attention alone, E = -A: the least attended merge.

    Examples:
        >>> Attention()
        Attention()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        return -candidates.value


@dataclass(frozen=True)
class Random:
    """Any tokens, each into its most similar partner. The seed and the block fix the choice, alike for a batch.

    It draws from a hash of its own and never touches the global generator. Seeds that differ by a multiple of 2³¹
    choose alike.

    Examples:
        >>> Random(seed=1)
        Random(seed=1)
    """

    seed: int = 0
    per_token: ClassVar[bool] = False
    """It goes by position; the conformance kit asks."""

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise TurboError(f"seed={self.seed!r}: seed must be an int")

    def __call__(self, candidates: Candidates) -> Tensor:
        redundancy = candidates.redundancy
        # A hash of the position rather than a torch.Generator: no state, so it is pure and compiles.
        index = torch.arange(redundancy.shape[1], device=redundancy.device)
        start = (self.seed * 40503 + candidates.depth * 9973 + 1) * 2246822519 & 0x7FFFFFFF
        bits = mix(index * 2654435761 + start) & 0xFFFFFF
        return (bits.to(redundancy.dtype) / 0x1000000).expand_as(redundancy)
