"""What the blocks of a denoiser share during one step, and what is kept from step to step. Per thread."""

from __future__ import annotations

import threading
import weakref
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from turbo.engine.round_trip.scores import BlockScores
from turbo.matching import Matching
from turbo.partition import Partition

if TYPE_CHECKING:
    from turbo.engine.trace import Trace


class Found:
    """What was worked out about the tokens; steps that keep their matchings share one.

    Attributes:
        twins: whether the batch's two halves hold the same latents, as classifier-free guidance stacks them. Known
            on the CPU; elsewhere a bool tensor without dimensions, so that nothing waits for the device.
        partitions: downsample -> roles of the positions of that grid.
        scores: index of a block -> its tokens' scores.
        matchings: index of a block, kind of value, count -> which tokens merge.
    """

    def __init__(self, twins: Tensor | bool) -> None:
        self.twins = twins
        self.partitions: dict[int, Partition] = {}
        self.scores: dict[int, BlockScores] = {}
        self.matchings: dict[tuple[int, str, int], Matching] = {}


@dataclass
class Step:
    """One call of the denoiser.

    Attributes:
        owner: the `Generation` whose denoiser was called.
        height: of the latents.
        width: of the latents.
        ratios: share of its tokens that each part merges at this step.
        timestep: a tensor without dimensions.
        found: what was worked out.
        recorder: of this thread's `turbo.recording`.
        outer: the step that was under way before, where a denoiser is called inside another.
    """

    owner: Any
    height: int
    width: int
    ratios: dict[str, float]
    timestep: Tensor
    found: Found
    recorder: Trace | None
    outer: Step | None


@dataclass
class Kept:
    """The image under way, where matchings are kept from step to step.

    Attributes:
        text: a weak reference to its conditioning: a caller that passes another object draws another image.
        shape: of its latents.
        timestep: of its last step; a sampler goes down, so up means another image.
        age: steps since the matchings were made.
        found: the matchings.
    """

    text: Any
    shape: tuple[int, ...]
    timestep: float
    age: int
    found: Found

    @classmethod
    def start(cls, text: Any, shape: tuple[int, ...], timestep: float, found: Found) -> Kept:
        """A new image, or a new set of matchings of the same one."""
        return cls(_reference(text), shape, timestep, 0, found)

    def continues(self, text: Any, shape: tuple[int, ...], timestep: float) -> bool:
        """Whether a step belongs to the same image."""
        return self.text() is text and self.shape == shape and timestep < self.timestep


def _reference(text: Any) -> Any:
    return weakref.ref(text) if isinstance(text, Tensor) else lambda: text


CURRENT: ContextVar[Step | None] = ContextVar("turbo_step", default=None)
"""The step under way. A context variable: one per thread, and `torch.compile` reads and writes it correctly."""


PROBE: ContextVar[Literal["untouched", "accelerated"] | None] = ContextVar("turbo_probe", default=None)
"""Set while `turbo.report` counts what a step costs: such a step is no part of any image, and leaves no trace."""


class ThreadState(threading.local):
    """What a thread remembers between steps. Never copied with the model."""

    kept: Kept | None = None
    recorder: Trace | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ThreadState:
        return ThreadState()

    def __reduce__(self) -> tuple[type[ThreadState], tuple[()]]:
        return ThreadState, ()
