"""What a fusion strategy sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """Everything known about each source token and the partner it would merge into, all ``b m``.

    Attributes:
        redundancy: R, the cosine similarity of source and partner, in [-1, 1].
        value: A of the source: its share of the class token's attention, averaged over the blocks so far as `momentum`
            says, in the units asked for ("relative": times the number of tokens, so 1 is average; "probability": as
            it is). Not negative.
        partner_value: A of the partner, same units.
        size: patches that the source stands for.
        partner_size: patches that the partner stands for.
        depth: index of the block, 0 at the input.

    Examples:
        >>> import torch
        >>> one = torch.ones(1, 3)
        >>> Candidates(one * 0.9, one, one, one, one, depth=0).redundancy.shape
        torch.Size([1, 3])
    """

    redundancy: Tensor
    value: Tensor
    partner_value: Tensor
    size: Tensor
    partner_size: Tensor
    depth: int


Strategy = Callable[[Candidates], Tensor]
"""``(candidates) -> priority``: ``b m``, pure, per token; the highest merge first."""
