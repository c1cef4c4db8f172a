"""What scores of patches become before they are coloured: ranks, and octaves around the average."""

from __future__ import annotations

import torch
from torch import Tensor

OCTAVES = 4
"""A is shown from 1/16 of the average to 16 times it: the same scale for all images, blocks and models."""


def ranks(scores: Tensor) -> Tensor:
    """The place of each score among those there are: 0 the lowest, 1 the highest; NaN stays.

    Patches of one token have one score, so equal scores have one place.

    Examples:
        >>> ranks(torch.tensor([[5.0, torch.nan], [7.0, 5.0]]))
        tensor([[0., nan],
                [1., 0.]])
    """
    known = ~scores.isnan()
    levels, place = torch.unique(scores[known], return_inverse=True)
    found = torch.full_like(scores, torch.nan, dtype=torch.float32)
    found[known] = place.float() / max(1, len(levels) - 1)
    return found


def octaves(value: Tensor) -> Tensor:
    """How many times A, relative to the average, is doubled: 0 is average, 1 twice it, between -4 and 4; NaN stays.

    Examples:
        >>> octaves(torch.tensor([0.0, 0.5, 1.0, 4.0, 1000.0]))
        tensor([-4., -1.,  0.,  2.,  4.])
    """
    return value.float().log2().clamp(-OCTAVES, OCTAVES)
