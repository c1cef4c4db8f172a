"""Images in any form as pictures, ``b h w 3`` in [0, 1], whose sides are multiples of a grid of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo.errors import TurboError

_SLACK = 0.02
"""How far outside [0, 1] a pixel may be: rounding, and resizing that overshoots."""
_FLATTEST = 2.0
"""Height of a patch on the image over its width, or the reverse, at most: a processor may squash."""


def find_grid(patches: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the patches of an image: those whose patches are nearest to squares.

    Args:
        patches: how many there are.
        height: of the image.
        width: of the image.

    Raises:
        TurboError: no grid of so many patches comes near.

    Examples:
        >>> find_grid(96, 64, 96)
        (8, 12)
    """
    fits = [(rows, patches // rows) for rows in range(1, patches + 1) if patches % rows == 0]

    def flatness(grid: tuple[int, int]) -> float:
        return abs(math.log(height / grid[0] / (width / grid[1])))

    best = min(fits, key=flatness, default=None)
    if best is None or flatness(best) > math.log(_FLATTEST) + 1e-6:
        raise TurboError(
            f"{patches} patches are no grid on an image of {height} x {width}: give the image that the model saw, and "
            "an adapter whose `protected` counts every token in front that is no patch"
        )
    return best


def as_pictures(images: Tensor | Sequence[Any], mean: Sequence[float], std: Sequence[float]) -> list[Tensor]:
    """Pixel values, arrays or PIL images -> ``h w 3`` each, float32 in [0, 1] on the CPU.

    Args:
        images: pixel values ``b 3 h w`` as the model got them, or for each image a PIL image or an array ``h w 3`` or
            ``h w``, of bytes or in [0, 1].
        mean: of each channel of pixel values, which the processor took away.
        std: of each channel of pixel values, by which it divided.

    Raises:
        TurboError: it is none of these, or outside [0, 1].
    """
    if isinstance(images, Tensor):
        if images.ndim != 4 or images.shape[1] != 3:
            raise TurboError(f"images of shape {tuple(images.shape)}: pixel values are b 3 h w")
        shift, scale = (torch.tensor(list(each), dtype=torch.float32)[:, None, None] for each in (mean, std))
        return [_checked(image.detach().float().cpu() * scale + shift).permute(1, 2, 0) for image in images]
    return [_one(image) for image in images]


def fit_grid(picture: Tensor, rows: int, columns: int, *, resize: bool) -> Tensor:
    """Make the sides of ``h w 3`` multiples of a grid.

    Args:
        picture: the image.
        rows: of the grid.
        columns: of the grid.
        resize: stretch it; otherwise what is left over at the right and below is cut off, as patch embeddings do.
    """
    height, width = picture.shape[:2]
    if not resize and height >= rows and width >= columns:
        return picture[: height // rows * rows, : width // columns * columns]
    size = (max(1, round(height / rows)) * rows, max(1, round(width / columns)) * columns)
    if size == (height, width):
        return picture
    stretched = F.interpolate(picture.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)
    return stretched[0].permute(1, 2, 0).clamp(0, 1)


def _one(image: Any) -> Tensor:
    if hasattr(image, "convert"):
        image = image.convert("RGB")
    import numpy as np

    array = np.array(image)
    found = torch.from_numpy(array) if array.dtype.kind in "uif" else torch.zeros(0)
    if found.ndim == 2:
        found = found[..., None].expand(-1, -1, 3)
    if found.ndim != 3 or found.shape[2] != 3:
        raise TurboError(
            f"an image is a {type(image).__name__} of shape {tuple(array.shape)}: give PIL images, arrays h w 3, or "
            "all of them as pixel values b 3 h w"
        )
    return _checked(found.float() / 255 if found.dtype == torch.uint8 else found.float())


def _checked(image: Tensor) -> Tensor:
    low, high = image.min().item(), image.max().item()
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN too
        raise TurboError(
            f"an image has values from {low:.3g} to {high:.3g}, not in [0, 1]: pass the mean= and std= of the "
            "model's processor with its pixel values"
        )
    return image.clamp(0, 1)
