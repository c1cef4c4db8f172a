"""Candidates over the whole domain of a strategy: the edges of every range, and thousands of random ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from turbo.fusion import Candidates

REDUNDANCIES = (-1.0, -0.5, -1e-6, 0.0, 1e-6, 0.5, 0.999, 1.0)
VALUES = (0.0, 1e-12, 1e-6, 0.03, 1.0, 30.0, 1e4)
"""A is at most 1 as a probability, and at most the number of tokens in relative units."""
IMAGES, TOKENS = 6, 1024
DEPTHS = (0, 1, 5, 11, 47)


def sample(
    depth: int = 0, dtype: torch.dtype = torch.float64, images: int = IMAGES, tokens: int = TOKENS
) -> Candidates:
    """Candidates ``images tokens``; the first image starts with all pairs of edges. Always the same ones."""
    generator = torch.Generator().manual_seed(depth)
    shape = (images, tokens)

    def uniform() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    redundancy = 2 * uniform() - 1
    value, partner_value = (-uniform().clamp_min(1e-12).log() * 10 ** (4 * uniform() - 3) for _ in range(2))
    edges = torch.tensor(list(itertools.product(REDUNDANCIES, VALUES, VALUES)), dtype=torch.float64)[:tokens]
    for field, column in zip((redundancy, value, partner_value), edges.unbind(1), strict=True):
        field[0, : len(edges)] = column
    sizes = (torch.randint(1, 200, shape, generator=generator).double() for _ in range(2))
    size, partner_size = (tensor.to(dtype) for tensor in sizes)
    return Candidates(redundancy.to(dtype), value.to(dtype), partner_value.to(dtype), size, partner_size, depth)


def map_tensors(candidates: Candidates, function: Callable[[Tensor], Tensor]) -> Candidates:
    """The candidates with every tensor put through a function."""
    changed: dict[str, Any] = {name: function(tensor) for name, tensor in tensors_of(candidates).items()}
    return dataclasses.replace(candidates, **changed)


def interior(candidates: Candidates) -> Candidates:
    """The images that hold no edges."""
    return map_tensors(candidates, lambda tensor: tensor[1:])


def unequal(found: Tensor, wanted: Tensor, rounding: float = 0.0) -> Tensor:
    """Where two results differ. NaN equals NaN: that there is one is for `check_is_finite` to say."""
    same = (found == wanted) | (found.isnan() & wanted.isnan())
    return ~(same | ((found - wanted).abs() <= rounding * (1 + wanted.abs())))


def tensors_of(candidates: Candidates) -> dict[str, Tensor]:
    """The tensors of candidates by name."""
    return {name: value for name, value in vars(candidates).items() if isinstance(value, Tensor)}
