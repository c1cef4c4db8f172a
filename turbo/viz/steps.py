"""Which latents of a denoiser merged, step after step, on the image that was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.engine.trace import PartTrace, Trace
from turbo.errors import TurboError
from turbo.viz.merged import MergedBlock, MergedImage
from turbo.viz.pixels import as_pictures, fit_grid


def merged_steps(
    trace: Trace,
    images: Sequence[Any],
    *,
    block: int | None = None,
    part: str | None = None,
    titles: Sequence[str] = (),
    strategy: str = "",
) -> list[MergedImage]:
    """What one part of a denoiser ran on, at each step of one call of a pipeline.

    A denoiser gives all tokens back after each part, so the steps do not build on each other, and its trace has
    groups but no scores.

    Args:
        trace: of that call, by `turbo.recording`.
        images: what the call drew, as for `merged_images`.
        block: index of the block; the first that merged without one.
        part: "self_attention", "cross_attention" or "feed_forward"; the first of the block that merged without one.
        titles: one for each image, or none.
        strategy: name of the strategy, to be shown.

    Returns:
        For each image one `MergedBlock` for each step, counted from 1. Under guidance the rows are those of the
        prompt, not of the empty prompt.

    Raises:
        TurboError: the trace has no such part, or is not of one call that drew these images.
    """
    found = _steps_of(trace, block, part)
    pictures = as_pictures(images, (0.0,) * 3, (1.0,) * 3)
    first = found[0]
    rows, grid = first.assignment.shape[0], (first.height, first.width)
    if any(each.assignment.shape[0] != rows or (each.height, each.width) != grid for each in found):
        raise TurboError("the trace holds calls of different sizes: record one call of the pipeline at a time")
    if not pictures or rows not in (len(pictures), 2 * len(pictures)):
        raise TurboError(
            f"the denoiser ran on {rows} rows, {len(pictures)} images are given: give those that the call drew, which "
            "are as many, or half as many under guidance"
        )
    if titles and len(titles) != len(pictures):
        raise TurboError(f"{len(titles)} titles for {len(pictures)} images: give one for each, or none")
    return [
        MergedImage(
            fit_grid(picture, *grid, resize=True),
            titles[row] if titles else f"image {row}",
            0,
            tuple(_step(each, number, row - len(pictures)) for number, each in enumerate(found, 1)),
            strategy,
            unit="step",
        )
        for row, picture in enumerate(pictures)
    ]


def _steps_of(trace: Trace, block: int | None, part: str | None) -> list[PartTrace]:
    if not trace.parts:
        raise TurboError("the trace holds no part of a denoiser that merged: see merged_images for other models")
    chosen = [each for each in trace.parts if block in (None, each.block)]
    if chosen and block is None:
        block = min(each.block for each in chosen)
        chosen = [each for each in chosen if each.block == block]
    if chosen and part is None:
        part = chosen[0].part
    found = [each for each in chosen if each.part == part]
    if not found:
        known = sorted({f"block {each.block}: {each.part}" for each in trace.parts})
        raise TurboError(f"nothing merged in block {block}, part {part}; there are {', '.join(known)}")
    return found


def _step(found: PartTrace, number: int, row: int) -> MergedBlock:
    groups: Tensor = found.assignment[row].cpu()
    return MergedBlock(
        depth=number,
        groups=groups.view(found.height, found.width),
        entered=len(groups),
        left=len(torch.unique(groups)),
        value=None,
        redundancy=None,
        degree=None,
        merged=None,
    )
