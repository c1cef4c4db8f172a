"""Counting a denoiser's FLOPs with torch's own counter, on fake tensors: nothing is computed or allocated."""

from __future__ import annotations

from typing import Any

import torch

from turbo.engine.round_trip.generation import Generation
from turbo.engine.round_trip.step import PROBE
from turbo.engine.runner import runner_of
from turbo.errors import TurboError


def count_flops(generation: Generation, height: int, width: int, *, untouched: bool) -> dict[str, int]:
    """FLOPs of one step for one image: path of a module, below the denoiser, -> of all that runs in it.

    Args:
        generation: of the denoiser; its runners are in place.
        height: of the latents.
        width: of the latents.
        untouched: count the model as it was before.

    Returns:
        The path "" is the denoiser itself. Scoring counts to the part in which it is done.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton, which takes a while

    _require_own_forwards(generation)
    token = PROBE.set("untouched" if untouched else "accelerated")
    model: Any = generation.denoiser.module
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            inputs = generation.denoiser.inputs(height, width)
            with FlopCounterMode(display=False) as counter:
                model(**inputs)
    except Exception as error:
        raise TurboError(
            f"cannot count the FLOPs of this {type(model).__name__}: a call on fake inputs failed with "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        PROBE.reset(token)
    name = type(model).__name__
    counts = counter.get_flop_counts()
    paths = {path: path.removeprefix(name).removeprefix(".") for path in counts if path.startswith(name)}
    return {short: sum(counts[path].values()) for path, short in paths.items()}


def _require_own_forwards(generation: Generation) -> None:
    """Hooks that move or cast weights would do so to fake ones, and leave the model broken."""
    for module in generation.denoiser.module.modules():
        foreign = "forward" in module.__dict__ and runner_of(module, "forward") is None
        if foreign or hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook"):
            raise TurboError(
                f"a {type(module).__name__} of this model has hooks of another library (offloading, casting), under "
                "which FLOPs cannot be counted: ask for the report before they are set"
            )
