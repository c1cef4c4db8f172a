"""Merged groups drawn on their image: each filled with its mean colour, outlined where it meets another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo.errors import TurboError


def groups_image(image: Tensor, groups: Tensor, *, outline: bool = True) -> Tensor:
    """Fill each group of patches with its mean colour.

    Args:
        image: ``h w c`` in [0, 1].
        groups: ``rows columns`` integers, the token that each patch belongs to.
        outline: draw a line between patches of different groups.

    Returns:
        ``h w c`` in [0, 1].

    Raises:
        TurboError: the grid does not divide the image.

    Examples:
        >>> groups_image(torch.rand(8, 8, 3), torch.tensor([[0, 0], [1, 0]])).shape
        torch.Size([8, 8, 3])
    """
    (height, width, _), (rows, columns) = image.shape, groups.shape
    if height % rows or width % columns:
        raise TurboError(f"a grid of {rows} x {columns} patches does not divide an image of {height} x {width}")
    label = groups.repeat_interleave(height // rows, 0).repeat_interleave(width // columns, 1)
    index = label.flatten()
    count = index.bincount(minlength=int(index.max()) + 1).clamp_min(1)
    total = torch.zeros(len(count), image.shape[2]).index_add(0, index, image.reshape(-1, image.shape[2]).float())
    filled = (total / count[:, None])[index].view_as(image)
    if outline:
        edge = torch.zeros_like(label, dtype=torch.bool)
        edge[1:] |= label[1:] != label[:-1]
        edge[:, 1:] |= label[:, 1:] != label[:, :-1]
        filled[edge] = 1.0
    return filled


def patch_grid(groups: Tensor, protected: int) -> Tensor:
    """``n`` group numbers with protected tokens in front -> ``rows columns`` of a square grid."""
    patches = groups[protected:]
    side = round(len(patches) ** 0.5)
    if side * side != len(patches):
        raise TurboError(f"{len(patches)} patches are no square grid")
    return patches.view(side, side)


def save_groups(
    path: str | Path, images: Tensor, by_block: Sequence[Tensor], *, protected: int = 1, titles: Sequence[str] = ()
) -> None:
    """Save a picture: one row per image, the original first, then its groups after each block.

    Args:
        path: where the PNG goes.
        images: ``b h w c`` in [0, 1].
        by_block: for each column ``b n``, the token of each entering token (see `Trace.groups`).
        protected: leading tokens that are no patches.
        titles: one per column, the original's first.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise TurboError('pictures need matplotlib: pip install "turbo-vlm[viz]"') from error
    scale = max(1, 256 // images.shape[1])
    large = F.interpolate(images.permute(0, 3, 1, 2), scale_factor=scale, mode="nearest").permute(0, 2, 3, 1)
    columns = 1 + len(by_block)
    figure, axes = plt.subplots(
        len(images), columns, figsize=(1.5 * columns, 1.55 * len(images) + 0.3), squeeze=False, layout="constrained"
    )
    for row, image in enumerate(large):
        pictures = [image, *(groups_image(image, patch_grid(groups[row], protected)) for groups in by_block)]
        for column, picture in enumerate(pictures):
            axes[row][column].imshow(picture.numpy())
            axes[row][column].set_axis_off()
            if row == 0 and column < len(titles):
                axes[row][column].set_title(titles[column], fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
