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
        kept: ``b n-r`` int64, for each position of the merged sequence the token that stays there.
        merged: ``b r`` int64, the tokens that merge away.
        receiver: ``b r`` int64, the positions in the merged sequence that receive them.
    """

    kept: Tensor
    merged: Tensor
    receiver: Tensor

    @property
    def destination(self) -> Tensor:
        """``b r`` int64, the tokens (old positions) that receive the merged ones."""
        return self.kept.gather(1, self.receiver)

    @property
    def assignment(self) -> Tensor:
        """``b n`` int64, for each token its position in the merged sequence. Made when asked for: few need it."""
        batch, left = self.kept.shape
        position = torch.arange(left, device=self.kept.device).expand(batch, -1)
        n = left + self.merged.shape[1]
        assignment = torch.empty(batch, n, dtype=torch.int64, device=self.kept.device).scatter(1, self.kept, position)
        return assignment.scatter(1, self.merged, self.receiver)


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
        matching.kept.repeat(times, 1), matching.merged.repeat(times, 1), matching.receiver.repeat(times, 1)
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
    return Matching(kept, matching.merged, place.gather(1, matching.receiver))


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
    remaining, left = sources - drop, protected + sources + destinations - drop
    chosen = priority.topk(drop, dim=1, sorted=False).indices
    stays = torch.ones(batch, sources, dtype=torch.bool, device=device).scatter(1, chosen, False)

    position = torch.arange(left + drop, device=device)
    source = position[partition.source]
    # What stays in any case, with a gap for the remaining sources. They write their position there, each at its rank;
    # those that merge write into a spare last slot.
    gap = position[:remaining]
    outline = torch.cat([position[:protected], gap, position[partition.destination], gap.new_zeros(1)])
    slot = torch.where(stays, stays.cumsum(dim=1) + (protected - 1), left)
    kept = outline.expand(batch, -1).scatter(1, slot, source.expand(batch, -1))[:, :left]
    return Matching(kept, merged=source[chosen], receiver=partner.gather(1, chosen) + (protected + remaining))
