"""Recording what merged where. Costs nothing while nobody records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from turbo.errors import TurboError
from turbo.fusion import Candidates


@dataclass(frozen=True)
class BlockTrace:
    """What one block merged.

    Attributes:
        depth: index of the block.
        assignment: ``b n`` int64, for each token that entered, its position after the merge.
        size: ``b n-r``, patches per token after the merge.
        candidates: what the strategy saw of each source.
        priority: ``b m``, what it answered.
        value: ``b n``, A of every token that entered, as a share of attention (they add up to 1).
        source: ``m`` int64, the positions of the sources among the tokens that entered.
        protected: tokens in front that never merge.
    """

    depth: int
    assignment: Tensor
    size: Tensor
    candidates: Candidates
    priority: Tensor
    value: Tensor
    source: Tensor
    protected: int

    @property
    def merged(self) -> Tensor:
        """``b n`` bool, the tokens that merged away: a source that stays shares its new position with no other."""
        together = torch.zeros_like(self.assignment).scatter_add(1, self.assignment, torch.ones_like(self.assignment))
        may = torch.zeros_like(self.assignment, dtype=torch.bool)
        may[:, self.source] = True
        return may & (together.gather(1, self.assignment) > 1)

    def per_token(self, scores: Tensor) -> Tensor:
        """Scores of the sources, ``b m`` -> of all tokens that entered, ``b n``.

        NaN where a token has none of its own: those that may only receive, and protected ones.

        Examples:
            >>> block.per_token(block.candidates.redundancy)  # doctest: +SKIP
        """
        spread = torch.full(self.assignment.shape, torch.nan, device=scores.device)
        spread[:, self.source] = scores.float()
        return spread


@dataclass(frozen=True)
class PartTrace:
    """What one part of a round-trip block ran on.

    Attributes:
        block: index of the block.
        part: name of the part.
        height: rows of the grid of tokens.
        width: its columns.
        assignment: ``b n`` int64, for each token the merged one whose output it received.
    """

    block: int
    part: str
    height: int
    width: int
    assignment: Tensor


@dataclass
class Trace:
    """What merged while it was recorded, in order.

    Attributes:
        blocks: of a model whose tokens stay merged.
        parts: of a denoiser, step after step.
    """

    blocks: list[BlockTrace]
    parts: list[PartTrace]

    def groups(self, upto: int | None = None) -> Tensor:
        """Which token each patch belongs to after block `upto` (the last by default): ``b N`` int64.

        Protected tokens are counted among the N, in front.

        Raises:
            TurboError: the trace is of a denoiser or of several forward passes, or nothing merged up to that block.
        """
        self.require_one_pass()
        chosen = [block for block in self.blocks if upto is None or block.depth <= upto]
        if not chosen:
            merged = f"the first merge was in block {self.blocks[0].depth}" if self.blocks else "no block merged any"
            raise TurboError(f"no tokens merged up to block {upto}: {merged}")
        groups = chosen[0].assignment
        for block in chosen[1:]:
            groups = block.assignment.gather(1, groups)
        return groups

    def per_patch(self, block: BlockTrace, scores: Tensor) -> Tensor:
        """Scores of the tokens that entered one of the blocks, ``b n`` -> of the tokens of the first, ``b N``.

        A patch that merged before has the score of its group. Protected tokens are counted among the N, in front.

        Examples:
            >>> trace.per_patch(trace.blocks[-1], trace.blocks[-1].value)  # doctest: +SKIP
        """
        earlier = [each for each in self.blocks if each.depth < block.depth]
        return scores.gather(1, self.groups(earlier[-1].depth)) if earlier else scores

    def require_one_pass(self) -> None:
        """Raise TurboError where blocks of several forward passes, or of a denoiser, cannot be put together."""
        if self.parts:
            raise TurboError("a denoiser's tokens are restored after each part: see `parts`")
        depths = [block.depth for block in self.blocks]
        if any(later <= earlier for earlier, later in pairwise(depths)):
            raise TurboError(
                f"the trace holds {1 + sum(b <= a for a, b in pairwise(depths))} forward passes, whose groups have "
                "nothing to do with each other: record one call of the model at a time"
            )


@contextmanager
def recording(model: object) -> Iterator[Trace]:
    """Record the forward passes of an accelerated model, in this thread.

    Examples:
        >>> with recording(model) as trace:  # doctest: +SKIP
        ...     model(images)
        >>> trace.groups().shape  # doctest: +SKIP
        torch.Size([4, 197])
    """
    from turbo.engine.install import require_acceleration  # it imports the runners, which record

    acceleration = require_acceleration(model)
    trace = Trace([], [])
    before, acceleration.state.recorder = acceleration.state.recorder, trace
    try:
        yield trace
    finally:
        acceleration.state.recorder = before
