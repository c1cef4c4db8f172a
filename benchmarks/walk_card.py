"""The look of the pictures of docs/how-it-works.md: white cards, colours that any eye can tell apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor
from walk_scene import SIDE

from turbo.evaluation.pareto import require_matplotlib

plt = require_matplotlib()
SOURCE, DESTINATION, LINE, GREY = "#E69F00", "#56B4E9", "#0072B2", "#666666"  # Okabe and Ito's
LARGEST = 120_000  # bytes of a picture
_STYLE = {"font.size": 13, "axes.titlesize": 14, "axes.spines.top": False, "axes.spines.right": False}

Pixels = np.ndarray[Any, Any]


def card(width: float, height: float, *columns: float, rows: int = 1) -> tuple[Any, Any]:
    """A figure of `width` x `height` hundred pixels, and its panels: as many columns as there are relative widths."""
    plt.rcParams.update(_STYLE)
    return plt.subplots(
        rows,
        len(columns),
        figsize=(width, height),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"width_ratios": columns},
    )


def save(figure: Any, path: Path) -> None:
    """Writes a figure, in 256 colours.

    Raises:
        ValueError: the file is larger than `LARGEST`.
    """
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    written = io.BytesIO()
    figure.savefig(written, dpi=100, facecolor="white")
    plt.close(figure)
    small = Image.open(written).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}")
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB, {small.width} x {small.height}")


def show(panel: Any, image: Pixels, title: str = "", faint: float = 0.0) -> None:
    """Draws an image on a grid whose unit is a patch; `faint` mixes it with white."""
    panel.imshow(image * (1 - faint) + faint, extent=(0, SIDE, SIDE, 0), interpolation="nearest")
    bare(panel, title)


def bare(panel: Any, title: str = "") -> None:
    """Takes axes off and sets a title."""
    panel.set_axis_off()
    panel.set_title(title)


def heat(panel: Any, values: Tensor, colours: str, title: str, **limits: Any) -> Any:
    """Draws one number per patch; NaN is light grey."""
    palette = plt.get_cmap(colours).with_extremes(bad="#e4e4e4")
    grid = np.ma.masked_invalid(values.view(SIDE, SIDE).numpy())
    drawn = panel.imshow(grid, extent=(0, SIDE, SIDE, 0), cmap=palette, interpolation="nearest", **limits)
    bare(panel, title)
    return drawn


def lines(panel: Any, colour: str = "white", width: float = 0.6) -> None:
    """Draws the borders of all patches."""
    panel.hlines(range(SIDE + 1), 0, SIDE, color=colour, linewidth=width)
    panel.vlines(range(SIDE + 1), 0, SIDE, color=colour, linewidth=width)


def place(patch: int) -> tuple[float, float]:
    """The middle of a patch: x, y."""
    return patch % SIDE + 0.5, patch // SIDE + 0.5


def box(panel: Any, patch: int, colour: str, width: float = 2.0, **style: Any) -> None:
    """Draws a frame around a patch."""
    x, y = place(patch)
    panel.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=width, **style))


def arrow(panel: Any, source: int, partner: int, colour: str = "white", width: float = 1.8) -> None:
    """Draws an arrow from a patch to another, with a dark outline that shows on any ground."""
    style = {"arrowstyle": "-|>", "mutation_scale": 7 + 3 * width, "linewidth": width, "color": colour, "shrinkA": 0}
    outline = [withStroke(linewidth=width + 2, foreground="black")]
    panel.annotate("", place(partner), place(source), arrowprops=style | {"shrinkB": 0, "path_effects": outline})


def merged(panel: Any, image: Pixels, groups: Tensor, title: str, width: float = 0.9) -> None:
    """Draws each group of patches in its mean colour, with a line where two groups meet."""
    label = groups.view(SIDE, SIDE)
    patch = image.shape[0] // SIDE
    index = label.repeat_interleave(patch, 0).repeat_interleave(patch, 1).flatten()
    pixels = torch.from_numpy(image).reshape(-1, 3)
    total = torch.zeros(int(index.max()) + 1, 3, dtype=pixels.dtype).index_add(0, index, pixels)
    show(panel, (total / index.bincount()[:, None])[index].view(image.shape).numpy(), title)
    for row in range(SIDE):
        for column in range(SIDE):
            if column and label[row, column] != label[row, column - 1]:
                panel.plot((column, column), (row, row + 1), color="white", linewidth=width)
            if row and label[row, column] != label[row - 1, column]:
                panel.plot((column, column + 1), (row, row), color="white", linewidth=width)
