"""Merged groups drawn on their image: each filled with its mean colour, outlined where it meets another."""

from __future__ import annotations

import torch
from torch import Tensor

from turbo.errors import TurboError

PATCH = 12
"""Pixels of a drawn patch's side, at least: its outline takes one of them at each side."""
_SHADE = 0.6
_LUMINANCE = (0.2126, 0.7152, 0.0722)


def groups_image(image: Tensor, groups: Tensor, *, outline: bool = True) -> Tensor:
    """Fill each group of patches with its mean colour.

    Args:
        image: ``h w 3`` in [0, 1].
        groups: ``rows columns`` integers, the token that each patch belongs to.
        outline: enlarge the image by a whole number until a patch has at least 12 pixels, and draw a line where groups
            meet: one pixel on each side, in the group's own colour made lighter where it is dark and darker where it
            is light, so that it is seen on both.

    Returns:
        ``h w 3`` in [0, 1], with an outline a whole number of times as large.

    Raises:
        TurboError: the grid does not divide the image.

    Examples:
        >>> groups_image(torch.rand(8, 8, 3), torch.tensor([[0, 0], [1, 0]]), outline=False).shape
        torch.Size([8, 8, 3])
    """
    (height, width, _), (rows, columns) = image.shape, groups.shape
    if height % rows or width % columns:
        raise TurboError(f"a grid of {rows} x {columns} patches does not divide an image of {height} x {width}")
    colours = _mean_colours(image.float(), groups)
    tall, wide = height // rows, width // columns
    if not outline:
        return _enlarge(colours[groups], tall, wide)
    factor = -(-PATCH // min(tall, wide))
    label = _enlarge(groups, tall * factor, wide * factor)
    return torch.where(_edges(label)[..., None], _shaded(colours)[label], colours[label])


def _mean_colours(image: Tensor, groups: Tensor) -> Tensor:
    """The mean colour of each group, ``k 3``."""
    (height, width, channels), (rows, columns) = image.shape, groups.shape
    patches = image.view(rows, height // rows, columns, width // columns, channels).mean((1, 3)).flatten(0, 1)
    index = groups.flatten().long()
    count = index.bincount(minlength=1).clamp_min(1)
    total = torch.zeros(len(count), channels, device=image.device).index_add(0, index, patches)
    return total / count[:, None]


def _enlarge(grid: Tensor, tall: int, wide: int) -> Tensor:
    return grid.repeat_interleave(tall, 0).repeat_interleave(wide, 1)


def _edges(label: Tensor) -> Tensor:
    """The pixels that have one of another group above, below, left or right."""
    edge = torch.zeros_like(label, dtype=torch.bool)
    across, along = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edge[1:] |= across
    edge[:-1] |= across
    edge[:, 1:] |= along
    edge[:, :-1] |= along
    return edge


def _shaded(colours: Tensor) -> Tensor:
    """Dark colours made lighter, light ones darker, ``k 3``."""
    luminance = colours @ torch.tensor(_LUMINANCE, device=colours.device)
    target = (luminance < 0.5).to(colours)[:, None]
    return colours + _SHADE * (target - colours)
