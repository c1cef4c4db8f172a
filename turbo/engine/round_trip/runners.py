"""What takes the place of a part's forward while its denoiser is accelerated, and what marks a step's start and end."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from turbo.adapters.round_trip import Denoiser, PartName
from turbo.engine.round_trip.generation import Generation
from turbo.engine.round_trip.scores import BlockScores, add_text_value, score_tokens
from turbo.engine.runner import Runner
from turbo.engine.trace import PartTrace
from turbo.errors import TurboError
from turbo.merging import merge, unmerge


class StepHooks(Runner):
    """Hooks around a denoiser's call. Hooks, not another forward: offloading replaces the forward, before or after."""

    def __init__(self, site: Denoiser, generation: Generation) -> None:
        super().__init__(site.module, generation)
        self.site = site
        self.generation = generation
        self.names = list(inspect.signature(type(site.module).forward).parameters)[1:]
        for name in (site.latents, site.timestep, site.text):
            if name not in self.names:
                raise TurboError(
                    f"{type(site.module).__name__}.forward has no argument {name!r}, it has {', '.join(self.names)}: "
                    "name the right ones in the adapter's Denoiser"
                )
        self.handles: list[Any] = []

    def require_free(self) -> None:
        """Hooks stand beside whatever another library put there."""

    def require_in_place(self) -> None:
        """Nobody takes hooks off but who set them."""

    def install(self) -> None:
        self.handles = [
            self.module.register_forward_pre_hook(self.before, with_kwargs=True),
            self.module.register_forward_hook(self.after, always_call=True),
        ]

    def uninstall(self) -> None:
        for handle in self.handles:
            handle.remove()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A step starts."""
        wanted = (self.site.latents, self.site.timestep, self.site.text)
        latents, timestep, text = (self._argument(name, args, kwargs) for name in wanted)
        if isinstance(latents, Tensor) and timestep is not None:  # else the denoiser itself says what is missing
            self.generation.begin(latents, timestep, text)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A step is over."""
        self.generation.end()

    def _argument(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in kwargs:
            return kwargs[name]
        place = self.names.index(name)
        return args[place] if place < len(args) else None


class PartRunner(Runner):
    """A part of a block on merged tokens: merge, run, give every token its output."""

    def __init__(self, part: PartName, index: int, generation: Generation) -> None:
        self.block = generation.blocks[index]
        super().__init__(self.block.parts[part], generation)
        self.part = part
        self.index = index
        self.generation = generation
        self.first_argument = next(iter(inspect.signature(self.module.forward).parameters))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.generation.settings.ratios.is_off():
            return self.original(*args, **kwargs)
        step = self.generation.step_of(self.index)
        if not any(step.ratios.values()):
            return self.original(*args, **kwargs)
        x, rest, named = self._split(args, kwargs)
        grid = self.generation.grid(self.block.downsample, step.height, step.width)
        if self.part == "self_attention":
            self._score(x, grid)
        count = self.generation.count(step.ratios.get(self.part, 0.0), *grid)
        if count == 0:
            return self.original(*args, **kwargs)
        self.block.check_call(self.part, *rest, **named)
        kind = "text" if self.part == "cross_attention" and self.block.by_text else "visual"
        scores = step.found.scores[self.index]
        self._require_whole(x, grid, scores)
        if kind not in scores.values:
            query = self.block.text_query(*rest, **named)
            add_text_value(scores, self.block, query, x, step.found.twins, self.generation.settings)
        matching = self.generation.match(self.index, kind, count)
        assignment = matching.assignment
        if step.recorder is not None:
            step.recorder.parts.append(PartTrace(self.index, self.part, *grid, assignment))
        merged, size = merge(x, matching)
        if self.part == "self_attention":
            named |= self.block.self_attention_bias(size.log().to(x.dtype))
        return unmerge(self.original(merged, *rest, **named), assignment)

    def _score(self, x: Tensor, grid: tuple[int, int]) -> None:
        if x.shape[1] != grid[0] * grid[1]:
            raise TurboError(
                f"block {self.index} of {type(self.generation.tower).__name__} got {x.shape[1]} tokens; at downsample "
                f"{self.block.downsample} its latents make {grid[0]} x {grid[1]}: does the adapter "
                f"{self.generation.adapter_name} describe this model?"
            )
        step = self.generation.step_of(self.index)
        if self.index not in step.found.scores:
            partition = self.generation.partition(self.index, x.device)
            step.found.scores[self.index] = score_tokens(
                self.block, x, partition, step.found.twins, self.generation.settings
            )

    def _require_whole(self, x: Tensor, grid: tuple[int, int], scores: BlockScores) -> None:
        """A matching is of a whole batch of whole grids."""
        batch, n = scores.copies * scores.partner.shape[0], grid[0] * grid[1]
        if x.shape[:2] != (batch, n):
            raise TurboError(
                f"{self.part} of block {self.index} got {x.shape[0]} sequences of {x.shape[1]} tokens, its block has "
                f"{batch} of {n}: run it whole (set_chunk_feed_forward(None) on the block, if it runs in chunks)"
            )

    def _split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
        """The tokens, and what else the part is called with."""
        x = args[0] if args else kwargs.get(self.first_argument)
        if not isinstance(x, Tensor) or x.ndim != 3:
            found = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise TurboError(f"{type(self.module).__name__} got {found}, not b n d")
        return x, args[1:], {name: value for name, value in kwargs.items() if name != self.first_argument}


def make_round_trip_runners(generation: Generation) -> list[Runner]:
    """A runner for every part of the blocks that merge, and the hooks around the denoiser."""
    wanted = {"self_attention", *generation.settings.ratios.by_part}  # self-attention's input is what is scored
    parts = [PartRunner(part, i, generation) for i in generation.active for part in generation.blocks[i].parts]
    if len({runner.module for runner in parts}) < len(parts):
        raise TurboError(
            f"sites() of {generation.adapter_name} lists a module as a part of two blocks: each part needs its own"
        )
    return [StepHooks(generation.denoiser, generation), *(runner for runner in parts if runner.part in wanted)]
