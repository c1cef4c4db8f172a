"""Partitions: which tokens of a sequence may merge, and which may receive. Pure tensor functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Halves = Literal["parity", "alternating", "ordered"]
"""How a vision tower splits its tokens in halves, block after block: see `turbo.accelerate`."""

Positions = slice | Tensor
"""Positions of a sequence: a slice, or ``k`` int64."""


@dataclass(frozen=True)
class Partition:
    """Positions of a sequence by role. Protected tokens come first and have no role.

    Attributes:
        protected: number of leading tokens that never merge.
        source: positions of the tokens that may merge away.
        destination: positions of the tokens that may receive.
        sources: how many sources there are.
        destinations: how many destinations there are.
    """

    protected: int
    source: Positions
    destination: Positions
    sources: int
    destinations: int


def parity(n: int, protected: int = 0) -> Partition:
    """The published partition: unprotected tokens at even positions are sources, at odd ones destinations.

    Positions are those of the current sequence, protected tokens counted. For an odd number of tokens one part
    has one more than the other; two tokens give one pair; one token (or none) gives no pair.

    Examples:
        >>> parity(7, protected=1)
        Partition(protected=1, source=slice(2, 7, 2), destination=slice(1, 7, 2), sources=3, destinations=3)
    """
    first_even, first_odd = protected + protected % 2, protected + 1 - protected % 2
    source, destination = slice(first_even, n, 2), slice(first_odd, n, 2)
    return Partition(protected, source, destination, len(range(first_even, n, 2)), len(range(first_odd, n, 2)))


def alternating(n: int, protected: int = 0, depth: int = 0) -> Partition:
    """`parity` in the blocks of even depth; in the others its halves change roles.

    While nothing merges, each unprotected token is a source in one of any two successive blocks.

    Examples:
        >>> alternating(6, protected=1, depth=1)
        Partition(protected=1, source=slice(1, 6, 2), destination=slice(2, 6, 2), sources=3, destinations=2)
    """
    halves = parity(n, protected)
    if depth % 2 == 0:
        return halves
    return Partition(protected, halves.destination, halves.source, halves.destinations, halves.sources)


def grid(height: int, width: int, draw: Tensor, stride: int = 2) -> Partition:
    """One destination in every cell of stride x stride positions of a grid; all others are sources.

    Cells at the right and lower edge may be cut; each still has its destination.

    Args:
        height: rows of the grid, whose positions are counted row by row.
        width: columns.
        draw: int64, not negative, one number per cell, row by row: which of the cell's positions receives (taken
            modulo the cell's size).
        stride: side of a cell.

    Returns:
        The partition of the height·width positions; sources in order.

    Examples:
        >>> grid(2, 4, torch.tensor([0, 3])).destination
        tensor([0, 7])
    """
    rows, columns = -(-height // stride), -(-width // stride)
    cell = torch.arange(rows * columns, device=draw.device)
    top, left = cell // columns * stride, cell % columns * stride
    tall, wide = (height - top).clamp_max(stride), (width - left).clamp_max(stride)
    place = draw % (tall * wide)
    destination = (top + place // wide) * width + left + place % wide
    taken = torch.zeros(height * width, dtype=torch.int8, device=draw.device).scatter(0, destination, 1)
    sources = height * width - rows * columns
    source = taken.argsort(stable=True)[:sources]
    return Partition(0, source, destination, sources, rows * columns)
