"""One PNG of what merged: for each image its groups after some blocks, with A and E underneath. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from turbo.errors import TurboError
from turbo.viz.groups import groups_image
from turbo.viz.heat import OCTAVES, octaves, ranks
from turbo.viz.merged import MergedBlock, MergedImage, spread_blocks

_WIDE = 1.62
"""Inches of a column."""
_PAD = 0.02
_DPI = 120
_TITLE, _GAP = 0.5, 0.05
"""Inches of the titles of an image's first row, and between rows."""
_SIZE = 8.5
_VALUE, _DEGREE = "magma", "viridis"
_NONE = "0.86"
"""Grey of a patch that has no degree of its own."""
BLOCKS = 6
"""Blocks that are shown, at most."""


def save_merged(path: str | Path, merged: Sequence[MergedImage], *, blocks: int = BLOCKS) -> None:
    """Save a PNG: for each image, itself and its groups after each block, with heat maps underneath.

    The first row of an image fills each group of patches with its mean colour. Under it stand the semantic value A
    of each patch's token on entering the block, on a scale from 1/16 of the average to 16 times it, and its
    information degree E, as its place among the tokens of the block that may merge. Rows that a trace has no scores
    for are left out.

    Args:
        path: where it goes; folders are made.
        merged: by `merged_images`.
        blocks: how many of those that merge are shown, at most: the first, the last, and some between them.

    Raises:
        TurboError: there is nothing to draw, or matplotlib is missing.

    Examples:
        >>> save_merged("merged.png", merged_images(trace, pixels))  # doctest: +SKIP
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise TurboError('pictures need matplotlib: pip install "turbo-vlm[viz]"') from error
    if not merged or not all(image.blocks for image in merged):
        raise TurboError("nothing to draw: give images of which some tokens merged")
    shown = [spread_blocks(image.blocks, blocks) for image in merged]
    columns = 1 + max(map(len, shown))
    # An image's shape is that of its heat maps.
    tall = [_WIDE * image.pixels.shape[0] / image.pixels.shape[1] for image in merged]
    heights = [_TITLE + _rows(some) * (each + _GAP) for some, each in zip(shown, tall, strict=True)]
    layout = ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD, wspace=_PAD, hspace=_PAD / 2)
    figure = Figure(figsize=(_WIDE * columns, sum(heights)), layout=layout)
    parts = figure.subfigures(len(merged), 1, squeeze=False, height_ratios=heights)
    for part, image, some in zip(parts[:, 0], merged, shown, strict=True):
        axes = part.subplots(_rows(some), columns, squeeze=False)
        for each in axes.flat:
            each.set_axis_off()
        _draw(axes, image, some)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.05, pil_kwargs={"optimize": True})


def _rows(blocks: Sequence[MergedBlock]) -> int:
    return 1 + any(block.value is not None for block in blocks) + any(block.degree is not None for block in blocks)


def _draw(axes: Any, image: MergedImage, blocks: Sequence[MergedBlock]) -> None:
    """The rows of one image."""
    axes[0][0].imshow(image.pixels.numpy())
    first = blocks[0].groups
    axes[0][0].set_title(f"{_short(image.title)}\n{first.numel()} patches", fontsize=_SIZE)
    for axis, block in zip(axes[0][1:], blocks, strict=False):
        axis.imshow(groups_image(image.pixels, block.groups).numpy())
        where = f"{'after block' if image.unit == 'block' else 'in step'} {block.depth}"
        axis.set_title(f"{where}\n{block.entered} → {block.left} tokens", fontsize=_SIZE)
    row = 1
    if any(block.value is not None for block in blocks):
        _draw_values(axes[row], image, blocks)
        row += 1
    if any(block.degree is not None for block in blocks):
        _draw_degrees(axes[row], image, blocks)


def _draw_values(axes: Any, image: MergedImage, blocks: Sequence[MergedBlock]) -> None:
    drawn = None
    for axis, block in zip(axes[1:], blocks, strict=False):
        if block.value is not None:
            drawn = _heat(axis, octaves(block.value), image, _VALUE, (-OCTAVES, OCTAVES))
    ends = f"1/{2**OCTAVES}", f"{2**OCTAVES}x"
    _bar(
        axes[0],
        drawn,
        "A, semantic value",
        "of the token, on entering",
        [-OCTAVES, 0, OCTAVES],
        [ends[0], "average", ends[1]],
    )


def _draw_degrees(axes: Any, image: MergedImage, blocks: Sequence[MergedBlock]) -> None:
    drawn = None
    for axis, block in zip(axes[1:], blocks, strict=False):
        if block.degree is not None:
            drawn = _heat(axis, ranks(block.degree), image, _DEGREE, (0, 1))
    title = "E, information degree" + (f" ({image.strategy})" if len(image.strategy) in range(1, 9) else "")
    _bar(axes[0], drawn, title, "order within the block", [0, 1], ["stays", "merges\nfirst"], grey=True)


def _heat(axis: Any, scores: torch.Tensor, image: MergedImage, colours: str, span: tuple[float, float]) -> Any:
    import matplotlib as mpl

    height, width = image.pixels.shape[:2]
    shades = mpl.colormaps[colours].with_extremes(bad=_NONE)
    # As wide and high as the pictures above: patches need not be squares.
    return axis.imshow(
        scores.numpy(),
        cmap=shades,
        vmin=span[0],
        vmax=span[1],
        extent=(0, width, height, 0),
        interpolation="nearest",
        aspect="equal",
    )


def _bar(
    axis: Any, drawn: Any, title: str, text: str, ticks: list[float], labels: list[str], *, grey: bool = False
) -> None:
    """What the colours of a row mean, in the place under the image."""
    axis.text(0.5, 0.86, title, ha="center", va="center", fontsize=_SIZE, transform=axis.transAxes)
    axis.text(0.5, 0.72, text, ha="center", va="center", fontsize=_SIZE - 1.5, color="0.35", transform=axis.transAxes)
    place = axis.inset_axes((0.1, 0.5, 0.8, 0.1))
    bar = axis.figure.colorbar(drawn, cax=place, orientation="horizontal", ticks=ticks)
    bar.ax.set_xticklabels(labels, fontsize=_SIZE - 1.5)
    bar.ax.tick_params(length=2, pad=2)
    bar.outline.set_linewidth(0.5)
    if grey:
        key = axis.inset_axes((0.1, 0.1, 0.1, 0.1))
        key.set_facecolor(_NONE)
        key.set_xticks([])
        key.set_yticks([])
        axis.text(0.26, 0.15, "may only receive", va="center", fontsize=_SIZE - 1.5, transform=axis.transAxes)


def _short(title: str, most: int = 24) -> str:
    # matplotlib takes $ for mathematics.
    cut = title if len(title) <= most else f"{title[: most - 1]}…"
    return cut.replace("$", r"\$")
