"""Recording what merged where. Costs nothing while nobody records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from turbo.fusion import Candidates


@dataclass(frozen=True)
class BlockTrace:
    """What one block merged.

    Attributes:
        depth: index of the block.
        assignment: ``b n`` int64, for each token that entered, its position after the merge.
        size: ``b n-r``, patches per token after the merge.
        candidates: what the strategy saw.
        priority: ``b m``, what it answered.
    """

    depth: int
    assignment: Tensor
    size: Tensor
    candidates: Candidates
    priority: Tensor


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
        """
        chosen = [block for block in self.blocks if upto is None or block.depth <= upto]
        if self.parts:
            raise ValueError("a denoiser's tokens are restored after each part: see `parts`")
        if not chosen:
            raise ValueError("nothing merged up to that block")
        groups = chosen[0].assignment
        for block in chosen[1:]:
            groups = block.assignment.gather(1, groups)
        return groups


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
