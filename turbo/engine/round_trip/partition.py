"""Which positions of a grid may merge at a step, and which receive."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from turbo.hashing import mix
from turbo.partition import Partition, grid, parity

Destinations = Literal["grid", "parity"]

STRIDE = 2
"""Side of a cell of the destination grid: one destination in four positions."""


def most_mergeable(destinations: Destinations) -> float:
    """The largest share of its tokens that a grid of even sides can merge."""
    return 0.5 if destinations == "parity" else 1 - 1 / STRIDE**2


def count_sources(height: int, width: int, destinations: Destinations) -> int:
    """How many positions of a grid may merge."""
    if destinations == "parity":
        halves = parity(height * width)
        return halves.sources if halves.destinations else 0
    return height * width - -(-height // STRIDE) * -(-width // STRIDE)


def make_partition(
    height: int, width: int, timestep: Tensor, *, downsample: int, destinations: Destinations, seed: int
) -> Partition:
    """Roles of a grid's positions at one step.

    The seed, the timestep and the resolution fix the draw, and nothing else does: the same call gives the same
    image, whatever ran before. No generator is advanced.

    Args:
        height: rows.
        width: columns.
        timestep: without dimensions, on the device of the tokens.
        downsample: of the grid.
        destinations: "grid" or "parity".
        seed: of the draw.
    """
    if destinations == "parity":
        return parity(height * width)
    cells = -(-height // STRIDE) * -(-width // STRIDE)
    key = mix((timestep.float() * 1024).long() + seed * 40503 + downsample * 9973 + 1)
    draw = mix(torch.arange(cells, device=timestep.device) * 2654435761 + key)
    return grid(height, width, draw, STRIDE)
