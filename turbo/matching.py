"""Bipartite soft matching: which tokens merge, and into which.

Pure tensor functions. A *partition* (`turbo.partition`) splits the sequence into sources and destinations; *select*
takes the sources of highest priority and says where every token goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from turbo.partition import Partition


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
        >>> from turbo.partition import parity
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


def in_order(matching: Matching) -> Matching:
    """The same merges, with the tokens that stay in the order in which they came.

    Protected tokens came first, so they stay in front.

    Examples:
        >>> from turbo.partition import parity
        >>> m = select(torch.tensor([[0.1, 0.9]]), torch.tensor([[0, 1]]), 1, parity(5, protected=1))
        >>> m.kept, in_order(m).kept  # token 4 merges into token 3
        (tensor([[0, 2, 1, 3]]), tensor([[0, 1, 2, 3]]))
        >>> in_order(m).assignment
        tensor([[0, 1, 2, 3, 3]])
    """
    kept, order = matching.kept.sort(dim=1)
    place = order.argsort(dim=1)  # of each place so far, its new one
    return Matching(place.gather(1, matching.assignment), kept, matching.merged, matching.destination)


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
        >>> from turbo.partition import parity
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
    staying = torch.empty(batch, remaining + 1, dtype=torch.int64, device=device)
    staying = staying.scatter(1, slot, source_position.expand(batch, -1))
    kept = torch.cat(
        [
            position[:protected].expand(batch, -1),
            staying[:, :remaining],
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
