"""Images of a diffusers pipeline, untouched and accelerated, from the same noise: text to image and image to image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

import turbo
from turbo import defaults
from turbo.engine.trace import Trace
from turbo.errors import TurboError
from turbo.fusion import Strategy
from turbo.viz.difference import GAIN, difference_image
from turbo.viz.merged import MergedImage
from turbo.viz.sheet import Panel
from turbo.viz.steps import merged_steps

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Drawn:
    """What a pipeline drew from the same noise, untouched and with turbo.

    Attributes:
        prompts: what was asked for.
        untouched: for each prompt the untouched pipeline's image.
        merged: for each prompt the image with turbo.
        starts: for image to image, what each prompt changed; otherwise empty.
        traces: what merged in each call of the pipeline, if it was recorded; otherwise empty.
        batch: images per call.
        strategy: name of the strategy.
    """

    prompts: tuple[str, ...]
    untouched: tuple[Image.Image, ...]
    merged: tuple[Image.Image, ...]
    starts: tuple[Image.Image, ...] = ()
    traces: tuple[Trace, ...] = ()
    batch: int = 1
    strategy: str = ""

    def panels(self, *, difference: bool = False, gain: float = GAIN) -> list[Panel]:
        """For each prompt the start, if there is one, the untouched image, the one with turbo.

        Args:
            difference: add where these two differ, as `difference_image`; each image then has a title.
            gain: what the difference is multiplied by; the title says so.
        """
        titles = ("untouched", "turbo", f"difference x{gain:g}") if difference else ()
        panels = []
        for row, (prompt, left, right) in enumerate(zip(self.prompts, self.untouched, self.merged, strict=True)):
            images = [left, right, difference_image(left, right, gain)] if difference else [left, right]
            start = self.starts[row : row + 1]
            panels.append(Panel((*start, *images), prompt, ("start",) * bool(start and titles) + titles))
        return panels

    def steps(self, *, block: int | None = None, part: str | None = None) -> list[MergedImage]:
        """Which latents merged at each step, on the images with turbo: see `merged_steps`. For `save_page`.

        Raises:
            TurboError: nothing was recorded, or not this part.
        """
        if not self.traces:
            raise TurboError("what merged was not recorded: draw_both(..., record=True)")
        found: list[MergedImage] = []
        for trace, rows in zip(self.traces, _batches(len(self.merged), self.batch), strict=True):
            titles, images = self.prompts[rows.start : rows.stop], self.merged[rows.start : rows.stop]
            found += merged_steps(trace, images, block=block, part=part, titles=titles, strategy=self.strategy)
        return found


def draw_both(
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
    record: bool = False,
) -> Drawn:
    """Draw each prompt twice from the same noise: untouched, and with turbo.

    Args:
        pipe: the pipeline; it is left untouched.
        prompts: what is asked for.
        starts: for image to image, what each prompt changes.
        strategy: as for `turbo.accelerate`.
        options: further keyword arguments of `turbo.accelerate`, such as ``{"ratio": 0.5}``.
        seed: image i starts from the noise of seed + i.
        batch: images per call; all at once without it.
        arguments: of the pipeline's call, such as "num_inference_steps" or "strength".
        on_batch: called after each call of the pipeline.
        record: keep which latents merged, for `Drawn.steps`: an index map for each part, step and image.

    Raises:
        TurboError: prompts and starts do not fit together, or the pipeline cannot do it.

    Examples:
        >>> from turbo import zoo
        >>> pipe = zoo.load("t2i-scenes")
        >>> few = {"num_inference_steps": 2}
        >>> drawn = draw_both(pipe, ["a big red ring on plain ground"], arguments=few, record=True)
        >>> drawn.panels(difference=True)[0].titles
        ('untouched', 'turbo', 'difference x4')
        >>> [block.left for block in drawn.steps()[0].blocks]
        [512, 512]
    """
    if not prompts or (batch is not None and batch < 1):
        raise TurboError(f"{len(prompts)} prompts, batch={batch}: give one or more of either")
    if starts is not None:
        if len(starts) != len(prompts):
            raise TurboError(f"{len(prompts)} prompts have {len(starts)} images to start from: give one for each")
        if not _starts_from_images(pipe):
            raise TurboError(f"a {type(pipe).__name__} starts from no image: see as_image_to_image")

    def draw(rows: range) -> list[Image.Image]:
        noise = [torch.Generator().manual_seed(seed + row) for row in rows]
        given = {} if starts is None else {"image": [starts[row] for row in rows]}
        images: list[Image.Image] = pipe(
            [prompts[row] for row in rows], generator=noise, **given, **(arguments or {})
        ).images
        on_batch()
        return images

    calls = _batches(len(prompts), batch or len(prompts))
    untouched: list[Image.Image] = []
    merged: list[Image.Image] = []
    traces: list[Trace] = []
    with torch.inference_mode():
        for rows in calls:
            untouched += draw(rows)
        with turbo.accelerated(pipe, strategy, **(options or {})):
            for rows in calls:
                with turbo.recording(pipe) if record else nullcontext() as trace:
                    merged += draw(rows)
                traces += [] if trace is None else [trace]
    return Drawn(
        tuple(prompts),
        tuple(untouched),
        tuple(merged),
        tuple(starts or ()),
        tuple(traces),
        batch or len(prompts),
        strategy if isinstance(strategy, str) else type(strategy).__name__,
    )


def draw_pairs(
    pipe: Any,
    prompts: Sequence[str],
    *,
    difference: bool = False,
    **settings: Any,
) -> list[Panel]:
    """Draw each prompt twice from the same noise: left untouched, right with turbo.

    Args:
        pipe: the pipeline; it is left untouched.
        prompts: what is asked for.
        difference: add a third image, the absolute difference, amplified as its title says.
        settings: as for `draw_both`.

    Returns:
        For each prompt the images, with it as the text: two; one more before them with a start, one after them with
        the difference.

    Raises:
        TurboError: prompts and starts do not fit together, or the pipeline cannot do it.

    Examples:
        >>> from turbo import zoo
        >>> pipe = zoo.load("t2i-scenes")
        >>> draw_pairs(pipe, ["a big red ring on plain ground"], arguments={"num_inference_steps": 1})[0].images[0].size
        (32, 32)
    """
    return draw_both(pipe, prompts, **settings).panels(difference=difference)


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


def _batches(images: int, batch: int) -> list[range]:
    return [range(first, min(first + batch, images)) for first in range(0, images, batch)]
