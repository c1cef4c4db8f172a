"""One accelerated model: its settings, its plans, and what travels from block to block in a forward pass."""

from __future__ import annotations

import operator
import threading
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from turbo import defaults
from turbo.adapters.base import ResidualBlock, Restore, Site
from turbo.adapters.reader import Reader
from turbo.adapters.rotary import RotaryBlock
from turbo.engine.by_tensor import ByTensor
from turbo.engine.measure import measure_blocks
from turbo.engine.readings import Readings
from turbo.engine.times import Calibration
from turbo.errors import TurboError, TurboWarning
from turbo.flops import BlockFlops
from turbo.fusion import Strategy
from turbo.partition import Halves
from turbo.plan import Plan
from turbo.schedule import Schedule

if TYPE_CHECKING:
    from turbo.engine.trace import Trace


Metric = Literal["keys", "queries", "hidden"]
"""What tokens are compared by. "queries" is for tokens that stay merged, "hidden" for denoisers."""


@dataclass(frozen=True)
class Settings:
    """What `accelerate` was asked for, checked."""

    strategy: Strategy
    strategy_name: str
    schedule: Schedule
    metric: Metric
    semantic_units: Literal["relative", "probability"]
    destinations: Halves = defaults.DESTINATIONS
    momentum: float = defaults.MOMENTUM
    cross_modal: float = defaults.CROSS_MODAL


class Flow(NamedTuple):
    """What a block hands to the next one.

    Attributes:
        depth: index of the block that comes next.
        counts: tokens each block merges.
        size: ``b n``, patches per token; None while nothing has merged.
        value: ``b n``, running semantic value; None while nothing has merged, and where no block asks for it.
        assignment: ``b N`` int64, each entering token's present position; None where nobody needs it.
    """

    depth: int
    counts: tuple[int, ...]
    size: Tensor | None
    value: Tensor | None
    assignment: Tensor | None


class _ThreadState(threading.local):
    """One forward pass at a time per thread. Never copied with the model."""

    flow: Flow | None = None
    recorder: Trace | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _ThreadState:
        return _ThreadState()

    def __reduce__(self) -> tuple[type[_ThreadState], tuple[()]]:
        return _ThreadState, ()


class Acceleration:
    """What all sites of one accelerated model share."""

    def __init__(
        self, tower: nn.Module, adapter_name: str, sites: list[Site], shape: tuple[int, int], settings: Settings
    ) -> None:
        self.tower = tower
        self.adapter_name = adapter_name
        self.settings = settings
        self.sites = sites
        self.blocks = [site for site in self.sites if isinstance(site, ResidualBlock)]
        self.restores = any(isinstance(site, Restore) for site in self.sites)
        self.rotary = any(isinstance(block, RotaryBlock) for block in self.blocks)
        self.n, self.width = _checked(shape, adapter_name)
        self.last_n: int | None = None
        self.state = _ThreadState()
        # A checkpointed block runs again by itself, on the very tensor it saw: the flow that came with it.
        self.entries = ByTensor()
        self.readers = [site for site in sites if isinstance(site, Reader)]
        merging = [reader for reader in self.readers if reader.merges] if settings.cross_modal else []
        asked = settings.schedule
        read = Schedule(ratio=settings.cross_modal or None, threshold=asked.threshold, min_tokens=asked.min_tokens)
        self.readings = Readings(merging, read, expected=not asked.is_off())
        self.runners: list[Any] = []
        self.calibration: Calibration | None = None
        self._plans: dict[int, Plan] = {}

    @property
    def protected(self) -> int:
        """Leading tokens that never merge."""
        return self.blocks[0].protected

    @cached_property
    def flops(self) -> list[BlockFlops]:
        """Cost of each block, counted once by torch on fake tensors."""
        return measure_blocks(self.blocks, self.width)

    def plan(self, n: int) -> Plan:
        """The plan for n tokens, solved once; what it cannot do as asked is warned about then."""
        plan = self._plans.get(n)
        if plan is None:
            schedule = self.settings.schedule
            if self.calibration is not None:
                plan = self.calibration.plan(schedule, n, self.protected)
            else:
                flops = self.flops if schedule.speedup is not None else None
                plan = schedule.plan(n, len(self.blocks), self.protected, flops)
            self._keep(plan)
        return plan

    def read(self, n: int) -> tuple[int, ...]:
        """Image tokens that each text layer attends to, of n that leave the tower."""
        return self.readings.plan(n).tokens[:-1] if self.readings.merging else (n,) * len(self.readers)

    def adopt(self, plan: Plan, calibration: Calibration | None = None) -> None:
        """Take a plan as it is for its number of tokens, and plan for others by a calibration, if one is given."""
        self.calibration, self._plans = calibration, {}
        self._keep(plan)

    def copy(self) -> Acceleration:
        """The same model and settings, with no plan yet and nothing installed."""
        return Acceleration(self.tower, self.adapter_name, self.sites, (self.n, self.width), self.settings)

    def _keep(self, plan: Plan) -> None:
        self._plans[plan.n] = plan
        self.read(plan.tokens[-1])  # warns where none merge
        for note in plan.notes:
            warnings.warn(note, TurboWarning, stacklevel=4)  # the line that called accelerate

    def enter(self, depth: int, x: Tensor) -> Flow:
        """The flow that block `depth` starts from; the first block starts a new pass."""
        compiling = torch.compiler.is_compiling()
        if depth == 0:
            if not compiling:
                self._require_device(x)
                self.last_n = x.shape[1]
            return Flow(0, self.plan(x.shape[1]).counts, None, None, None)
        if not compiling and torch.is_grad_enabled() and (known := self.entries.get(x)) is not None:
            flow: Flow = known
            return flow
        current = self.state.flow
        if current is None or current.depth != depth:
            raise TurboError(
                f"block {depth} of {type(self.tower).__name__} ran without the blocks before it: an accelerated "
                "model runs its blocks in order from the first (sizes travel along). turbo.restore(model) first to "
                "run blocks by themselves; use use_reentrant=False if this is gradient checkpointing"
            )
        if not compiling and (torch.is_grad_enabled() or self.blocks[depth].module.training):
            self.entries.note(x, current)
        return current

    def _require_device(self, x: Tensor) -> None:
        device = next(self.blocks[0].module.parameters()).device
        if x.device != device:
            raise TurboError(
                f"{type(self.tower).__name__} got tokens on {x.device}, its weights are on {device}: move one to the "
                "other"
            )

    def leave(self, flow: Flow) -> None:
        """Hand the flow to the next block; after the last one only what restores or hands over keeps it."""
        done = flow.depth == len(self.blocks)
        self.state.flow = None if done and not self.restores and not self.readers else flow

    @property
    def tracks(self) -> bool:
        """Whether each entering token's position is needed."""
        return self.restores or self.rotary or self.state.recorder is not None


def _checked(shape: Any, adapter_name: str) -> tuple[int, int]:
    try:
        n, width = map(operator.index, shape)
    except (TypeError, ValueError):
        raise TurboError(
            f"shape() of {adapter_name} returned {shape!r}: it must return (tokens, width), two whole numbers"
        ) from None
    return n, width
