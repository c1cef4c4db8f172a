"""What is drawn for the paper's figures: prompts, starting images, and what merges where in a vision model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import turbo
from turbo.engine.acceleration import Acceleration
from turbo.engine.install import require_acceleration
from turbo.engine.trace import recording
from turbo.errors import TurboError
from turbo.evaluation.data import Captions, Data, Labelled
from turbo.evaluation.settings import Setting
from turbo.evaluation.tasks.choice import default_decoding, make_job, tasks_of
from turbo.evaluation.tasks.inputs import Inputs
from turbo.evaluation.tasks.job import Decoding
from turbo.evaluation.tasks.seen import as_seen
from turbo.models import LoadedModel
from turbo.viz.groups import groups_image
from turbo.viz.merged import merged_images, spread_blocks
from turbo.viz.sheet import Panel
from turbo.zoo.captioned import captioned_scenes
from turbo.zoo.words import COLOURS, NONE

if TYPE_CHECKING:
    from PIL import Image

PAPER_PROMPT = "One female model wearing purple long sleeves and blue jeans stands on the coast"
"""The supplement's example (section 4)."""


def scene_prompts(count: int, seed: int) -> list[str]:
    """Captions of the zoo's held-out scenes of one object, for its text-to-image model."""
    return captioned_scenes("test", count, seed, pairs=0.0)[1]


def scene_changes(count: int, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Scenes of one object to start from, and their captions with another colour."""
    from PIL import Image

    scenes, _, labels = captioned_scenes("test", count, seed, pairs=0.0)
    colour = np.where(labels.colour == NONE, NONE, (labels.colour + 1) % len(COLOURS))
    return [Image.fromarray(scene) for scene in scenes], replace(labels, colour=colour).captions()


def merging_panels(
    loaded: LoadedModel,
    inputs: Inputs,
    images: Sequence[Image.Image],
    texts: Sequence[str],
    setting: Setting,
    *,
    decoding: Decoding | None = None,
    columns: int = 6,
) -> list[Panel]:
    """Draw which tokens of images are one after each block, and what a captioner writes with and without merging.

    Args:
        loaded: a vision model whose tokens stay merged; it is left untouched.
        inputs: of the model.
        images: any; what is drawn is what the model's processor makes of them.
        texts: written underneath, one for each image.
        setting: how the model is accelerated.
        decoding: how captions are written; the model's published protocol without it.
        columns: blocks that are shown, at most: of those that merge the first, the last, and some between them.

    Returns:
        For each image, itself and its groups, each filled with its mean colour.

    Raises:
        TurboError: the tokens are no grid, nothing merges, or the setting does not work with the model.
    """
    if columns < 2:
        raise TurboError(f"columns={columns}: show two or more blocks, the first that merges and the last")
    if len(texts) != len(images) or not images:
        raise TurboError(f"{len(images)} images, {len(texts)} texts: give one or more, and a text for each")
    weight = next(loaded.model.parameters())
    pixels = inputs.images(images)
    writes = "captioning" in tasks_of(loaded.model)
    with torch.inference_mode():
        before = _captions(loaded, inputs, images, decoding) if writes else None
        with turbo.accelerated(loaded.model, **setting.options):
            acceleration = require_acceleration(loaded.model)
            if not isinstance(acceleration, Acceleration):
                raise TurboError(f"the tokens of {loaded.name} are restored after each part: they stay no groups")
            with recording(loaded.model) as trace:
                loaded.images(pixels.to(weight.device, weight.dtype))
            after = _captions(loaded, inputs, images, decoding) if writes else None
    if not trace.blocks:
        raise TurboError(f"nothing merges in {loaded.name} with {setting.record}: there is nothing to show")
    panels = []
    for row, image in enumerate(merged_images(trace, as_seen(inputs, pixels, images[0].size))):
        blocks = spread_blocks(image.blocks, columns)
        drawn = [groups_image(image.pixels, block.groups) for block in blocks]
        shown = (_picture(_like(image.pixels, drawn[0])), *map(_picture, drawn))
        titles = (f"{blocks[0].entered} tokens", *(f"block {block.depth}: {block.left} tokens" for block in blocks))
        written = "" if before is None or after is None else f"\nuntouched: {before[row]}\nturbo: {after[row]}"
        panels.append(Panel(shown, texts[row] + written, titles))
    return panels


def texts_of(data: Data) -> list[str]:
    """What each image of data shows, or what is asked about it first, in words."""
    if isinstance(data, Captions):
        return [f"shown: {references[0]}" for references in data.references]
    if isinstance(data, Labelled):
        return [f"shown: {data.classes[label]}" for label in data.labels]
    first = {image: row for row, image in reversed(list(enumerate(data.image_of)))}
    asked = [first.get(image) for image in range(len(data.images))]
    return ["" if row is None else f"asked: {data.questions[row]}? {data.answers[row][0]}" for row in asked]


def _captions(
    loaded: LoadedModel, inputs: Inputs, images: Sequence[Image.Image], decoding: Decoding | None
) -> list[str]:
    """What the model's own `generate` writes."""
    data = Captions("pictures", images, (("",),) * len(images))
    chosen = decoding or default_decoding(loaded, "captioning")
    call = make_job("captioning", loaded, inputs, data, len(images), chosen).call(len(images))
    assert call is not None
    assert inputs.decode is not None
    ids: Any = call()
    return inputs.decode(ids)


def _like(image: Tensor, drawn: Tensor) -> Tensor:
    """An image as large as what is drawn on it: a whole number of times larger."""
    factor = drawn.shape[0] // image.shape[0]
    return image.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def _picture(image: Tensor) -> Image.Image:
    from PIL import Image

    return Image.fromarray((255 * image + 0.5).to(torch.uint8).numpy())
