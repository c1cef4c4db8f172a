"""Bipartite soft matching: which tokens may merge, and which tokens do.

Pure tensor functions. A *partition* splits the sequence into sources and destinations; *select* takes the
sources of highest priority and says where every token goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Matching:
    """Where every token of a sequence goes.

    Attributes:
        assignment: ``b n`` int64, for each token its position in the merged sequence.
        kept: ``b n-r`` int64, for each position of the merged sequence the token that stays there.
        merged: ``b r`` int64, the tokens that merge away.
        destination: ``b r`` int64, the tokens (old positions) that receive them.
    """

    assignment: Tensor
    kept: Tensor
    merged: Tensor
    destination: Tensor


def repeat(matching: Matching, times: int) -> Matching:
    """The same matching for a batch that holds the same tokens several times over, one after another.

    Examples:
        >>> m = select(torch.tensor([[0.1, 0.9]]), torch.tensor([[0, 1]]), 1, parity(4))
        >>> repeat(m, 2).merged
        tensor([[2],
                [2]])
    """
    return Matching(
        matching.assignment.repeat(times, 1),
        matching.kept.repeat(times, 1),
        matching.merged.repeat(times, 1),
        matching.destination.repeat(times, 1),
    )


def select(priority: Tensor, partner: Tensor, drop: int, partition: Partition) -> Matching:
    """Merge the `drop` sources of highest priority into their partners (supplement, section 1.1).

    The merged sequence is: protected tokens, remaining sources in order, destinations in order (the published
    algorithm's order). No sort: the choice needs a top-k only, and ranks come from a running count.

    Args:
        priority: ``b m``, one per source; the highest merge.
        partner: ``b m`` int64, each source's destination, counted among the destinations.
        drop: how many sources merge, at most the number of sources.
        partition: the roles of the n positions.

    Returns:
        The matching of the n tokens.

    Examples:
        >>> m = select(torch.tensor([[0.1, 0.9]]), torch.tensor([[0, 1]]), 1, parity(5, protected=1))
        >>> m.assignment  # the class token, destination 0, source 0, destination 1, source 1
        tensor([[0, 2, 1, 3, 3]])
    """
    batch, device = priority.shape[0], priority.device
    protected, sources, destinations = partition.protected, partition.sources, partition.destinations
    remaining = sources - drop
    chosen = priority.topk(drop, dim=1, sorted=False).indices
    stays = torch.ones(batch, sources, dtype=torch.bool, device=device).scatter(1, chosen, False)
    rank = stays.cumsum(dim=1) - 1
    first_destination = protected + remaining

    n = protected + sources + destinations
    position = torch.arange(n, device=device)
    source_position = position[partition.source]
    destination_position = position[partition.destination]

    assignment = torch.empty(batch, n, dtype=torch.int64, device=device)
    assignment[:, :protected] = position[:protected]
    assignment[:, partition.source] = torch.where(stays, protected + rank, first_destination + partner)
    assignment[:, partition.destination] = first_destination + position[:destinations]

    # Sources that stay write their position at their rank; those that merge write into a spare last slot.
    slot = torch.where(stays, rank, remaining)
    in_order = torch.empty(batch, remaining + 1, dtype=torch.int64, device=device)
    in_order = in_order.scatter(1, slot, source_position.expand(batch, -1))
    kept = torch.cat(
        [
            position[:protected].expand(batch, -1),
            in_order[:, :remaining],
            destination_position.expand(batch, -1),
        ],
        dim=1,
    )
    return Matching(
        assignment,
        kept,
        merged=source_position[chosen],
        destination=destination_position[partner.gather(1, chosen)],
    )
