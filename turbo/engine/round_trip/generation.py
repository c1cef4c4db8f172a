"""One accelerated denoiser: its settings, its blocks, and the step under way."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from turbo.adapters.base import Site
from turbo.adapters.round_trip import Denoiser, RoundTrip
from turbo.engine.round_trip.partition import count_sources, make_partition
from turbo.engine.round_trip.settings import RoundTripSettings
from turbo.engine.round_trip.step import CURRENT, PROBE, Found, Kept, Step, ThreadState
from turbo.errors import TurboError, TurboWarning
from turbo.matching import Matching, repeat, select
from turbo.partition import Partition


class Generation:
    """What all sites of one accelerated denoiser share."""

    def __init__(
        self,
        tower: nn.Module,
        adapter_name: str,
        sites: list[Site],
        settings: RoundTripSettings,
    ) -> None:
        self.tower = tower
        self.adapter_name = adapter_name
        self.settings = settings
        self.denoiser = _only_denoiser(sites, adapter_name)
        self.blocks = [site for site in sites if isinstance(site, RoundTrip)]
        self.active = self._active()
        self.last_latents = self.denoiser.size
        self.last_timestep = 500.0
        self.state = ThreadState()
        self.runners: list[Any] = []
        self._capped: set[tuple[int, float]] = set()

    def _active(self) -> tuple[int, ...]:
        """Indices of the blocks that merge: those at a resolution fine enough."""
        most = self.settings.max_downsample
        return tuple(index for index, block in enumerate(self.blocks) if block.downsample <= most)

    def begin(self, latents: Tensor, timestep: Any, text: Any) -> None:
        """A call of the denoiser starts: settle what its blocks share."""
        settings, probe = self.settings, PROBE.get()
        height, width = latents.shape[-2:]
        number = self.last_timestep
        if probe is None:
            if settings.ratios.varies or settings.refresh_every > 1:  # else nothing waits for the device
                number = _one_timestep(timestep)
            self.last_latents, self.last_timestep = (height, width), number
        step = Step(
            self,
            height,
            width,
            {} if probe == "untouched" else settings.ratios.at(number),
            torch.as_tensor(timestep, device=latents.device).reshape(-1)[0],
            Found(_twins(latents)),
            self.state.recorder if probe is None else None,
            CURRENT.get(),
        )
        if settings.refresh_every > 1 and probe is None:
            self._keep(step, latents.shape, number, text)
        CURRENT.set(step)

    def _keep(self, step: Step, shape: tuple[int, ...], timestep: float, text: Any) -> None:
        """Take over the last step's matchings where they are of the same image and young enough."""
        kept = self.state.kept
        if kept is not None and kept.continues(text, shape, timestep) and kept.age + 1 < self.settings.refresh_every:
            kept.age += 1
            kept.timestep = timestep
            step.found = kept.found
        else:
            self.state.kept = Kept.start(text, shape, timestep, step.found)

    def end(self) -> None:
        """A call of the denoiser is over."""
        step = CURRENT.get()
        CURRENT.set(None if step is None else step.outer)

    def step_of(self, index: int) -> Step:
        """The step under way, for a block that runs."""
        step = CURRENT.get()
        if step is None or step.owner is not self:
            raise TurboError(
                f"block {index} of {type(self.tower).__name__} ran outside a call of it, where turbo reads the size of "
                "the latents and the timestep: call the model itself, not its forward; turbo.restore(model) first to "
                "run blocks by themselves. Gradient checkpointing, which runs them again in the backward pass, is not "
                "supported: disable_gradient_checkpointing()"
            )
        return step

    def partition(self, index: int, device: torch.device) -> Partition:
        """Roles of the tokens of a block at this step; drawn once per resolution."""
        step, downsample = self.step_of(index), self.blocks[index].downsample
        found = step.found.partitions
        if downsample not in found:
            height, width = self.grid(downsample, step.height, step.width)
            found[downsample] = make_partition(
                height,
                width,
                step.timestep.to(device),
                downsample=downsample,
                destinations=self.settings.destinations,
                seed=self.settings.seed,
            )
        return found[downsample]

    def grid(self, downsample: int, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens of blocks at a resolution, for latents of height x width."""
        return -(-height // downsample), -(-width // downsample)

    def count(self, ratio: float, height: int, width: int) -> int:
        """How many tokens of a grid merge; one of odd sides has fewer sources than its ratio may ask for."""
        n, sources = height * width, count_sources(height, width, self.settings.destinations)
        wanted = round(ratio * n)
        if wanted > sources and (n, ratio) not in self._capped and not torch.compiler.is_compiling():
            self._capped.add((n, ratio))
            warnings.warn(
                f"ratio={ratio:g} of {n} tokens is {wanted}; only {sources} can merge (the grid's sides are odd): as "
                "many as possible merge",
                TurboWarning,
                stacklevel=2,
            )
        return min(wanted, sources)

    def match(self, index: int, kind: str, count: int) -> Matching:
        """Which `count` tokens of a block merge; made once for all parts with the same value and count."""
        found = self.step_of(index).found
        key = (index, kind, count)
        if key not in found.matchings:
            scores = found.scores[index]
            priority = scores.priority(kind, index, self.settings)
            matching = select(priority, scores.partner, count, scores.partition)
            found.matchings[key] = matching if scores.copies == 1 else repeat(matching, scores.copies)
        return found.matchings[key]


def _twins(latents: Tensor) -> Tensor | bool:
    batch = latents.shape[0]
    if batch % 2:
        return False
    same = (latents[: batch // 2] == latents[batch // 2 :]).all()
    known = type(latents) is Tensor and latents.device.type == "cpu"  # a fake tensor has no values
    return bool(same) if known else same


def _one_timestep(timestep: Any) -> float:
    if not isinstance(timestep, Tensor):
        return float(timestep)
    first, *others = timestep.flatten().tolist()
    if any(other != first for other in others):
        raise TurboError(
            f"timesteps {timestep.flatten().tolist()} differ within a batch: a ratio that follows the timestep and "
            "refresh_every need one for all"
        )
    return float(first)


def _only_denoiser(sites: list[Site], name: str) -> Denoiser:
    found = [site for site in sites if isinstance(site, Denoiser)]
    if len(found) != 1:
        raise TurboError(f"sites() of {name} lists {len(found)} Denoisers: RoundTrip blocks need one around them")
    return found[0]
