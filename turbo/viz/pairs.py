"""Images of a diffusers pipeline, untouched and accelerated, from the same noise: text to image and image to image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

import turbo
from turbo import defaults
from turbo.errors import TurboError
from turbo.fusion import Strategy
from turbo.viz.sheet import Panel

if TYPE_CHECKING:
    from PIL import Image


def draw_pairs(
    pipe: Any,
    prompts: Sequence[str],
    *,
    starts: Sequence[Image.Image] | None = None,
    strategy: str | Strategy = defaults.DENOISER_STRATEGY,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> list[Panel]:
    """Draw each prompt twice from the same noise: left untouched, right with turbo.

    Args:
        pipe: the pipeline; it is left untouched.
        prompts: what is asked for.
        starts: for image to image, what each prompt changes; each panel then begins with it.
        strategy: as for `turbo.accelerate`.
        options: further keyword arguments of `turbo.accelerate`, such as ``{"ratio": 0.5}``.
        seed: image i starts from the noise of seed + i.
        batch: images per call; all at once without it.
        arguments: of the pipeline's call, such as "num_inference_steps" or "strength".
        on_batch: called after each call of the pipeline.

    Returns:
        For each prompt the images, with it as the text: two, or three with the start.

    Raises:
        TurboError: prompts and starts do not fit together, or the pipeline cannot do it.

    Examples:
        >>> from turbo import zoo
        >>> pipe = zoo.load("t2i-scenes")
        >>> draw_pairs(pipe, ["a big red ring on plain ground"], arguments={"num_inference_steps": 1})[0].images[0].size
        (32, 32)
    """
    if not prompts or (batch is not None and batch < 1):
        raise TurboError(f"{len(prompts)} prompts, batch={batch}: give one or more of either")
    if starts is not None:
        if len(starts) != len(prompts):
            raise TurboError(f"{len(prompts)} prompts have {len(starts)} images to start from: give one for each")
        if not _starts_from_images(pipe):
            raise TurboError(f"a {type(pipe).__name__} starts from no image: see as_image_to_image")

    def draw() -> list[Image.Image]:
        found: list[Image.Image] = []
        step = batch or len(prompts)
        for first in range(0, len(prompts), step):
            rows = range(first, min(first + step, len(prompts)))
            noise = [torch.Generator().manual_seed(seed + row) for row in rows]
            given = {} if starts is None else {"image": [starts[row] for row in rows]}
            call = pipe([prompts[row] for row in rows], generator=noise, **given, **(arguments or {}))
            found += call.images
            on_batch()
        return found

    with torch.inference_mode():
        untouched = draw()
        with turbo.accelerated(pipe, strategy, **(options or {})):
            merged = draw()
    before = [()] * len(prompts) if starts is None else [(start,) for start in starts]
    sides = zip(before, untouched, merged, prompts, strict=True)
    return [Panel((*start, left, right), prompt) for start, left, right, prompt in sides]


def as_image_to_image(pipe: Any) -> Any:
    """A pipeline that starts from images, with the same parts; `pipe` itself where it does so already.

    Raises:
        TurboError: diffusers has none for it.
    """
    if _starts_from_images(pipe):
        return pipe
    try:
        from diffusers import AutoPipelineForImage2Image
    except ImportError as error:
        raise TurboError('pipelines come with diffusers: pip install "turbo-vlm[diffusers]"') from error
    try:
        made: Any = AutoPipelineForImage2Image.from_pipe(pipe)
    except ValueError as error:
        raise TurboError(f"diffusers has no image-to-image pipeline for a {type(pipe).__name__}: {error}") from error
    made.set_progress_bar_config(disable=True)
    return made


def _starts_from_images(pipe: Any) -> bool:
    # "image" alone may be a ControlNet's.
    return {"image", "strength"} <= set(inspect.signature(pipe.__call__).parameters)
