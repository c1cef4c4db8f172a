"""How many tokens merge in each block, settled, and what that saves. Plain integers, standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from turbo.flops import BlockFlops

Cost = Callable[[int, int], float]
"""What a block costs with so many tokens in attention and so many in the MLP: FLOPs, or seconds."""


@dataclass(frozen=True)
class Plan:
    """What will happen to a sequence of n tokens.

    Attributes:
        n: tokens that enter the first block.
        counts: tokens that merge in each block.
        notes: what could not be done as asked, in words; empty where all is as asked.

    Examples:
        >>> Plan(10, (3, 2), ()).tokens
        (10, 7, 5)
    """

    n: int
    counts: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens before the first block and after each."""
        tokens = [self.n]
        for count in self.counts:
            tokens.append(tokens[-1] - count)
        return tuple(tokens)

    def flops(self, blocks: Sequence[BlockFlops]) -> list[int]:
        """FLOPs of each block for one image."""
        steps = zip(blocks, pairwise(self.tokens), strict=True)
        return [block(before, after) for block, (before, after) in steps]

    def speedup(self, costs: Sequence[Cost], untouched: float | None = None) -> float:
        """By which factor the blocks' cost falls.

        Args:
            costs: of each block.
            untouched: of all untouched blocks; None takes what `costs` says of n tokens in and out of each.
        """
        before = sum(cost(self.n, self.n) for cost in costs) if untouched is None else untouched
        steps = zip(costs, pairwise(self.tokens), strict=True)
        return before / sum(cost(seen, left) for cost, (seen, left) in steps)
