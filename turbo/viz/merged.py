"""What merged in each image, block after block: made from a trace, so it works for every adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from turbo.engine.trace import BlockTrace, Trace
from turbo.errors import TurboError
from turbo.viz.pixels import as_pictures, find_grid, fit_grid


@dataclass(frozen=True)
class MergedBlock:
    """One block that merged, seen from the patches of one image.

    Attributes:
        depth: index of the block.
        groups: ``rows columns`` int64, the token that each patch belongs to after the block: 0, 1, … in order,
            protected tokens not counted.
        entered: tokens that entered the block, protected ones included.
        left: tokens after it, protected ones included.
        value: ``rows columns``, A of each patch's token on entering, relative: 1 is average. None where the trace
            has none.
        redundancy: ``rows columns``, R of each patch's token with its partner; NaN where it may only receive. None
            where the trace has none.
        degree: ``rows columns``, the information degree of each patch's token: the strategy's priority, the highest
            merge. NaN where it may only receive, None where the trace has none.
        merged: ``rows columns`` bool, whether the token of this patch merged away in this block. None where the
            trace has none.
    """

    depth: int
    groups: Tensor
    entered: int
    left: int
    value: Tensor | None
    redundancy: Tensor | None
    degree: Tensor | None
    merged: Tensor | None


@dataclass(frozen=True)
class MergedImage:
    """One image and the blocks that merged its tokens.

    Attributes:
        pixels: ``h w 3`` in [0, 1], what the model saw; its sides are multiples of the grid of patches.
        title: what it is called.
        protected: tokens in front that are no patches and never merge.
        blocks: those that merged, in order.
        strategy: name of the strategy; "" where it is not known.
        unit: what the blocks are: "block", or "step" of a denoiser, whose tokens are all given back after it.
    """

    pixels: Tensor
    title: str
    protected: int
    blocks: tuple[MergedBlock, ...]
    strategy: str
    unit: Literal["block", "step"] = "block"


def merged_images(
    trace: Trace,
    images: Tensor | Sequence[Any],
    *,
    titles: Sequence[str] = (),
    strategy: str = "",
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
) -> list[MergedImage]:
    """What merged in each image of one forward pass.

    Args:
        trace: of that pass, by `turbo.recording`.
        images: what the model saw, in any of these forms: its pixel values ``b 3 h w``; PIL images; arrays ``h w 3``
            of bytes or in [0, 1]. An image that the processor cropped must be given cropped, so pixel values are
            the safest. Their grid of patches is found from how many there are and from the image's shape.
        titles: one for each image, or none.
        strategy: name of the strategy, to be shown.
        mean: of each channel of pixel values, as in the model's processor.
        std: of each channel of pixel values.

    Returns:
        For each image the blocks that merged, all on the CPU.

    Raises:
        TurboError: the trace is not of one pass over these images, nothing merged, or the patches are no grid.

    Examples:
        >>> import torch
        >>> import turbo
        >>> from turbo import zoo
        >>> model = turbo.accelerate(zoo.load("vit-digits"), drop=20)
        >>> pixels = zoo.preprocess(zoo.digit_scenes("test", 2, seed=0)[0])
        >>> with torch.no_grad(), turbo.recording(model) as trace:
        ...     _ = model(pixels)
        >>> image = merged_images(trace, pixels, mean=[0.5] * 3, std=[0.5] * 3)[0]
        >>> image.blocks[0].groups.shape, image.blocks[0].left
        (torch.Size([16, 16]), 237)
    """
    trace.require_one_pass()
    if not trace.blocks:
        raise TurboError("the trace holds no merge: nothing ran while it was recorded, or the plan merges nothing")
    batch, entered = trace.blocks[0].assignment.shape
    pictures = as_pictures(images, mean, std)
    if len(pictures) != batch:
        raise TurboError(f"the model saw {batch} images, {len(pictures)} are given: give those that it saw, in order")
    if titles and len(titles) != batch:
        raise TurboError(f"{len(titles)} titles for {batch} images: give one for each, or none")
    protected = trace.blocks[0].protected
    patches = entered - protected
    grids = [find_grid(patches, *picture.shape[:2]) for picture in pictures]
    blocks = [_per_patch(trace, block, protected) for block in trace.blocks]
    resize = not isinstance(images, Tensor)
    return [
        MergedImage(
            fit_grid(picture, *grid, resize=resize),
            titles[row] if titles else f"image {row}",
            protected,
            tuple(_of_image(block, row, grid) for block in blocks),
            strategy,
        )
        for row, (picture, grid) in enumerate(zip(pictures, grids, strict=True))
    ]


def _per_patch(trace: Trace, block: BlockTrace, protected: int) -> MergedBlock:
    """A block of the whole batch: its fields are ``b patches``."""

    def on_patches(scores: Tensor) -> Tensor:
        return trace.per_patch(block, scores)[:, protected:].cpu()

    n = block.assignment.shape[1]
    return MergedBlock(
        depth=block.depth,
        groups=trace.groups(block.depth)[:, protected:].cpu() - protected,
        entered=n,
        left=block.size.shape[1],
        value=on_patches(block.value.float() * n),
        redundancy=on_patches(block.per_token(block.candidates.redundancy)),
        degree=on_patches(block.per_token(block.priority)),
        merged=on_patches(block.merged),
    )


def _of_image(block: MergedBlock, row: int, grid: tuple[int, int]) -> MergedBlock:
    def one(scores: Tensor | None) -> Tensor | None:
        return None if scores is None else scores[row].view(grid)

    return replace(
        block,
        groups=block.groups[row].view(grid),
        value=one(block.value),
        redundancy=one(block.redundancy),
        degree=one(block.degree),
        merged=one(block.merged),
    )


def spread_blocks(blocks: Sequence[MergedBlock], most: int) -> list[MergedBlock]:
    """At most so many blocks: the first, the last, and some between them at even steps.

    Raises:
        TurboError: `most` is below 1.
    """
    if most < 1:
        raise TurboError(f"blocks={most}: show one or more")
    if len(blocks) <= most:
        return list(blocks)
    if most == 1:
        return [blocks[-1]]
    return [blocks[round(place * (len(blocks) - 1) / (most - 1))] for place in range(most)]
