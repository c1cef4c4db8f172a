"""Runners of a vision tower: its blocks, what gives their tokens back, and what refuses merged ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Refuse, ResidualBlock, Restore
from turbo.adapters.rotary import RotaryBlock
from turbo.attention import proportional_attention
from turbo.engine.acceleration import Acceleration, Flow
from turbo.engine.arguments import Arguments
from turbo.engine.runner import Runner
from turbo.engine.score import Match, match_tokens
from turbo.engine.trace import BlockTrace
from turbo.errors import TurboError
from turbo.merging import add_up, merge, unmerge

_Step = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]


class BlockRunner(Runner):
    """A transformer block on fewer tokens: attention, merge, MLP."""

    acceleration: Acceleration

    def __init__(self, block: ResidualBlock, depth: int, acceleration: Acceleration) -> None:
        super().__init__(block.module, acceleration)
        self.block = block
        self.depth = depth
        self.arguments = Arguments(block)
        drop = acceleration.settings.schedule.drop
        self.asked_for_nothing = drop == 0 or (isinstance(drop, tuple) and drop[depth] == 0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs[self.arguments.first]
        flow = self.acceleration.enter(self.depth, x)
        if self.asked_for_nothing and flow.size is None:
            output = self.original(*args, **kwargs)
            self.acceleration.leave(flow._replace(depth=self.depth + 1))
            return output
        if not torch.compiler.is_compiling():
            self._require_tokens(x)
        others = self.arguments.others(args, kwargs)
        self.arguments.require_tokens_only(others)
        places = self.arguments.merged_places(x, flow, others)
        drop = flow.counts[self.depth]
        recompute = self.block.checkpointing()
        if recompute is None:
            x, size, value, assignment = self._step(x, flow.size, flow.value, places, drop)
        else:
            x, size, value, assignment = recompute(self._step, x, flow.size, flow.value, places, drop)
        if assignment is None:
            assignment = flow.assignment
        elif flow.assignment is not None:
            assignment = assignment.gather(1, flow.assignment)
        self.acceleration.leave(Flow(self.depth + 1, flow.counts, size, value, assignment))
        return x

    def _step(self, x: Tensor, size: Tensor | None, value: Tensor | None, places: Tensor | None, drop: int) -> _Step:
        """The block's arithmetic: ``b n d`` -> ``b n-drop d``, new sizes and values, and where each token went."""
        # A function of its own, so that q, k and v are gone before the MLP needs its memory.
        x, size, value, assignment = self._attend_and_merge(x, size, value, places, drop)
        return x + self.block.mlp(x), size, value, assignment

    def _attend_and_merge(
        self, x: Tensor, size: Tensor | None, value: Tensor | None, places: Tensor | None, drop: int
    ) -> _Step:
        block = self.block
        q, k, v = block.qkv(x)
        if places is not None and isinstance(block, RotaryBlock):
            q, k = block.turn(q, k, places)
        dropout = block.dropout() if block.module.training else 0.0
        y = proportional_attention(q, k, v, size, scale=block.scale, dropout=dropout)
        # Before the projection: attention has just read the keys, and afterwards they are out of cache.
        match = self._match(q, k, size, value, drop) if drop else None
        del q, k, v
        x = x + block.project(y.transpose(1, 2).flatten(2))
        return (x, size, value, None) if match is None else self._merge(x, size, match)

    def _match(self, q: Tensor, k: Tensor, size: Tensor | None, value: Tensor | None, drop: int) -> Match:
        return match_tokens(
            q,
            k,
            self.block.query(q),
            size,
            value,
            drop=drop,
            depth=self.depth,
            protected=self.block.protected,
            scale=self.block.scale,
            settings=self.acceleration.settings,
        )

    def _merge(self, x: Tensor, size: Tensor | None, match: Match) -> _Step:
        matching, value = match.matching, match.value
        x, size = merge(x, matching, size)
        assignment = matching.assignment if self.acceleration.tracks else None
        recorder = self.acceleration.state.recorder
        if recorder is not None and assignment is not None:  # a recorder tracks
            recorder.blocks.append(self._trace(match, assignment, size))
        carried = add_up(value, matching) if self.acceleration.settings.momentum else None
        return x, size, carried, assignment

    def _trace(self, match: Match, assignment: Tensor, size: Tensor) -> BlockTrace:
        source = torch.arange(assignment.shape[1], device=assignment.device)[match.source]
        return BlockTrace(
            self.depth,
            assignment,
            size,
            match.candidates,
            match.priority,
            match.value,
            source,
            self.block.protected,
        )

    def _require_tokens(self, x: Tensor) -> None:
        """Without this check a model that indexes what its blocks return computes on the images of a batch."""
        if not isinstance(x, Tensor) or x.ndim != 3:
            found = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            why = ": does a block return a tuple? turbo's blocks return the tokens alone" if self.depth else ""
            raise TurboError(f"{type(self.module).__name__} got {found}, not b n d{why}")


class RestoreRunner(Runner):
    """A module whose output gets its full sequence back; the last one of a model ends the forward pass."""

    acceleration: Acceleration

    def __init__(self, site: Restore, acceleration: Acceleration) -> None:
        super().__init__(site.module, acceleration)
        self.last = site is [s for s in acceleration.sites if isinstance(s, Restore)][-1]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.original(*args, **kwargs)
        flow = self.acceleration.state.flow
        if flow is None or flow.assignment is None or flow.depth < len(self.acceleration.blocks):
            return output
        if not isinstance(output, Tensor) or output.ndim != 3:
            found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise TurboError(
                f"{type(self.module).__name__} returned {found}: the adapter {self.acceleration.adapter_name} asked "
                "for its full sequence back, which needs a tensor of all tokens, b n d; Restore the last module that "
                "returns them (the last block, where no norm runs on all tokens)"
            )
        if self.last:
            self.acceleration.state.flow = None
        return unmerge(output, flow.assignment)


class RefuseRunner(Runner):
    """A method that would return nonsense on merged tokens, and says so instead."""

    acceleration: Acceleration

    def __init__(self, site: Refuse, acceleration: Acceleration) -> None:
        self.method = site.method
        super().__init__(site.module, acceleration)
        self.reason = site.reason

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.acceleration.settings.schedule.is_off():
            return self.original(*args, **kwargs)
        raise TurboError(
            f"{type(self.module).__name__}.{self.method} does not work on merged tokens: {self.reason}; "
            "turbo.restore(model) first"
        )


def make_runners(acceleration: Acceleration) -> list[Runner]:
    """A runner for every site, in the order in which they are to be installed."""
    runners: list[Runner] = []
    for site in acceleration.sites:
        if isinstance(site, ResidualBlock):
            depth = sum(isinstance(runner, BlockRunner) for runner in runners)
            runners.append(BlockRunner(site, depth, acceleration))
        elif isinstance(site, Refuse):
            runners.append(RefuseRunner(site, acceleration))
        elif isinstance(site, Restore):
            runners.append(RestoreRunner(site, acceleration))
    return runners
