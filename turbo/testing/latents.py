"""A denoiser's inputs, changed in one respect: another size, another timestep, halves that are twins."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from turbo.testing.cases import AdapterCase
from turbo.testing.parts import DenoiserCall, role_in_inputs, watch_denoiser
from turbo.testing.results import NotApplicable
from turbo.testing.weights import seeded


def called(case: AdapterCase) -> DenoiserCall:
    """How the denoiser is called with the case's inputs.

    Raises:
        NotApplicable: the case's blocks keep their tokens merged.
    """
    if not case.round_trips:
        raise NotApplicable("about blocks that restore their tokens; here they stay merged")
    return watch_denoiser(case, case.make_model(), case.make_inputs())


def at_timesteps(case: AdapterCase, *timesteps: float) -> list[dict[str, Tensor]]:
    """The case's inputs at each of some timesteps, as a sampler gives them: all else is the same objects."""
    inputs = case.make_inputs()
    name = _input(called(case).timestep, inputs, "timestep")
    return [inputs | {name: torch.full_like(inputs[name], timestep)} for timestep in timesteps]


def resized(case: AdapterCase, height: int, width: int) -> dict[str, Tensor]:
    """The case's inputs with random latents of another size; what else is laid out on the same grid scales along."""
    inputs, latents = case.make_inputs(), called(case).latents
    _input(latents, inputs, "latents")
    with seeded(2):
        return {name: _resized(value, latents, height, width) for name, value in inputs.items()}


def twins(case: AdapterCase) -> dict[str, Tensor]:
    """Inputs for two, whose latents (and what is laid out like them) are the same, as guidance stacks them."""
    inputs, latents = case.make_inputs(), called(case).latents
    _input(latents, inputs, "latents")
    return {
        name: torch.cat([value[:1], value[:1]]) if _scales(value, latents) else value for name, value in inputs.items()
    }


def _input(value: object, inputs: Mapping[str, Tensor], role: str) -> str:
    name = role_in_inputs(value, inputs)
    if name is None:
        raise NotApplicable(f"the denoiser's {role} is none of the case's inputs")
    return name


def _scales(value: Tensor, latents: Tensor) -> bool:
    """Whether a tensor is laid out on the latents' grid, or on a finer one."""
    height, width = latents.shape[-2:]
    return value.ndim == 4 and value.shape[-2] % height == 0 and value.shape[-1] % width == 0


def _resized(value: Tensor, latents: Tensor, height: int, width: int) -> Tensor:
    if not _scales(value, latents):
        return value
    finer = value.shape[-2] // latents.shape[-2], value.shape[-1] // latents.shape[-1]
    return torch.randn(*value.shape[:2], height * finer[0], width * finer[1], dtype=value.dtype)
