"""What takes the place of a module's forward while its model is accelerated.

A runner's bound method is set on the module instance. It is an ordinary object that refers to the module, so
deepcopy and pickle carry both along together.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from turbo.adapters.base import Refuse, ResidualBlock, Restore
from turbo.attention import proportional_attention
from turbo.engine.acceleration import Acceleration, Flow
from turbo.engine.score import Match, match_tokens
from turbo.engine.trace import BlockTrace
from turbo.errors import TurboError
from turbo.merging import add_up, merge, unmerge

_Step = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]


class Runner:
    """Base of the runners: takes the place of a method on a module instance, and gives it back.

    Attributes:
        method: the name of the method.
    """

    method = "forward"

    def __init__(self, module: nn.Module, acceleration: Any) -> None:
        self.module = module
        self.acceleration = acceleration
        self.previous: Any = None
        # Looked up here and not when it runs: `torch.compile` cannot trace attributes of every class.
        self.upstream = getattr(type(module), self.method)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What runs instead of the method."""
        raise NotImplementedError

    def original(self, *args: Any, **kwargs: Any) -> Any:
        """The method that this runner stands in for."""
        if self.previous is not None:
            return self.previous(*args, **kwargs)
        return self.upstream(self.module, *args, **kwargs)

    def install(self) -> None:
        """Take the place of the method, on this instance only."""
        self.previous = self.module.__dict__.get(self.method)
        self.module.__dict__[self.method] = self.forward

    def require_free(self) -> None:
        """Raise TurboError where another library has put a method of its own on the instance."""
        if self.method in self.module.__dict__ and runner_of(self.module, self.method) is None:
            raise TurboError(
                f"a {type(self.module).__name__} of this model has a {self.method} of its own on the instance (a hook "
                "of another library, such as accelerate's device_map offloading): turbo would bypass it; remove it "
                "first"
            )

    def require_in_place(self) -> None:
        """Raise TurboError where another library replaced the method since. Runners of one method lie upon another."""
        found = runner_of(self.module, self.method)
        if found is None or found.acceleration is not self.acceleration:
            raise TurboError(
                f"the {self.method} of {type(self.module).__name__} was replaced after turbo.accelerate: undo that "
                "first, then restore"
            )

    def uninstall(self) -> None:
        """Leave the module's attributes as they were found."""
        if self.previous is None:
            del self.module.__dict__[self.method]
        else:
            self.module.__dict__[self.method] = self.previous


def runner_of(module: nn.Module, method: str) -> Runner | None:
    """The runner that stands in for a module's method, the topmost one; None where there is none."""
    owner = getattr(module.__dict__.get(method), "__self__", None)
    return owner if isinstance(owner, Runner) else None


class BlockRunner(Runner):
    """A transformer block on fewer tokens: attention, merge, MLP."""

    acceleration: Acceleration

    def __init__(self, block: ResidualBlock, depth: int, acceleration: Acceleration) -> None:
        super().__init__(block.module, acceleration)
        self.block = block
        self.depth = depth
        self.first_argument = next(iter(inspect.signature(block.module.forward).parameters))
        drop = acceleration.settings.schedule.drop
        self.asked_for_nothing = drop == 0 or (isinstance(drop, tuple) and drop[depth] == 0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs[self.first_argument]
        flow = self.acceleration.enter(self.depth, x)
        if self.asked_for_nothing and flow.size is None:
            output = self.original(*args, **kwargs)
            self.acceleration.leave(flow._replace(depth=self.depth + 1))
            return output
        if not torch.compiler.is_compiling():
            self._require_tokens(x)
        self._require_tokens_only(args[1:], kwargs)
        drop = flow.counts[self.depth]
        recompute = self.block.checkpointing()
        if recompute is None:
            x, size, value, assignment = self._step(x, flow.size, flow.value, drop)
        else:
            x, size, value, assignment = recompute(self._step, x, flow.size, flow.value, drop)
        if assignment is None:
            assignment = flow.assignment
        elif flow.assignment is not None:
            assignment = assignment.gather(1, flow.assignment)
        self.acceleration.leave(Flow(self.depth + 1, flow.counts, size, value, assignment))
        return x

    def _step(self, x: Tensor, size: Tensor | None, value: Tensor | None, drop: int) -> _Step:
        """The block's arithmetic: ``b n d`` -> ``b n-drop d``, new sizes and values, and where each token went."""
        # A function of its own, so that q, k and v are gone before the MLP needs its memory.
        x, size, value, assignment = self._attend_and_merge(x, size, value, drop)
        return x + self.block.mlp(x), size, value, assignment

    def _attend_and_merge(self, x: Tensor, size: Tensor | None, value: Tensor | None, drop: int) -> _Step:
        block = self.block
        q, k, v = block.qkv(x)
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
        matching, candidates, priority, value = match
        x, size = merge(x, matching, size)
        assignment = matching.assignment if self.acceleration.tracks else None
        recorder = self.acceleration.state.recorder
        if recorder is not None and assignment is not None:  # a recorder tracks
            recorder.blocks.append(BlockTrace(self.depth, assignment, size, candidates, priority))
        carried = add_up(value, matching) if self.acceleration.settings.momentum else None
        return x, size, carried, assignment

    def _require_tokens(self, x: Tensor) -> None:
        """Without this check a model that indexes what its blocks return computes on the images of a batch."""
        if not isinstance(x, Tensor) or x.ndim != 3:
            found = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            why = ": does a block return a tuple? turbo's blocks return the tokens alone" if self.depth else ""
            raise TurboError(f"{type(self.module).__name__} got {found}, not b n d{why}")

    def _require_tokens_only(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse what a merged sequence cannot honour: masks, attention maps, causal order."""
        for name, value in [*enumerate(args, start=1), *kwargs.items()]:
            # Scalars (a loss's normaliser, say) refer to no patch.
            refers = isinstance(value, Tensor) and value.ndim > 0
            wanted = refers or (name in ("output_attentions", "is_causal") and value)
            if wanted and name != self.first_argument:
                found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
                label = name if isinstance(name, str) else f"positional argument {name}"
                raise TurboError(
                    f"{type(self.module).__name__} was called with {label} = {found}: masks and attention maps refer "
                    "to single patches, which merge here; call without it, or turbo.restore(model) first; if the model "
                    "itself passes it, this variant cannot be accelerated: raise Unsupported in sites()"
                )


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
        if not isinstance(output, Tensor):
            raise TurboError(
                f"{type(self.module).__name__} returned {type(output).__name__}: the adapter "
                f"{self.acceleration.adapter_name} asked for its full sequence back, which needs a tensor, b n d"
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
