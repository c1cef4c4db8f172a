"""Scenes of real handwritten digits on a busy canvas, for the small vision transformer of the zoo.

The handwriting is scikit-learn's bundled ``load_digits`` (1,797 scans of 8 x 8). Everything else
in a scene is drawn here: a low-contrast ground, saturated scribbles and blobs that carry no label,
and one digit in a bright colour. The digit covers a minority of the patches, so a method that
merges the wrong tokens loses it. Every shape is a product of a row profile and a column profile,
which keeps drawing down to small matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from turbo.zoo.paint import Floats, Ground, Images, Labels, check_ground, cubic, greys, saturated, uniform
from turbo.zoo.scans import GRID, SPLITS, Split, load_scans, split_indices
from turbo.zoo.scans import warp as warped

if TYPE_CHECKING:
    import torch


SIDE = 64  # pixels of a scene's side
DIGIT_SIZE = (20.0, 36.0)  # pixels, least and greatest
MEAN = STD = 0.5
_BLOCK = 16  # scenes drawn at once: few enough for the canvas to stay in cache
_AXIS: Floats = np.arange(SIDE, dtype=np.float32)


def preprocess(images: Images) -> torch.Tensor:
    """Turns images (uint8, `b h w 3`) into normalised pixel values (float32, `b 3 h w`)."""
    import torch

    # Bytes are rearranged, not floats: that is four times less to move.
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).contiguous()
    return pixels.float().div_(255).sub_(MEAN).div_(STD)


def digit_scenes(split: Split, count: int, seed: int, ground: Ground = "distractors") -> tuple[Images, Labels]:
    """Draws scenes that show one digit each.

    Digits are taken in shuffled rounds: `count=400` of the test part shows each of its scans once.

    Args:
        split: which scans to use; those of "test" and "validation" are never trained on.
        count: how many scenes, `b`.
        seed: the same arguments give the same scenes.
        ground: "distractors" has saturated strokes that carry no label, "plain" dull ones, which are alike.

    Returns:
        Images (uint8, `b 64 64 3`) and labels (int64, `b`).
    """
    images, labels, _ = scenes_with_ink(split, count, seed, ground=ground)
    return images, labels


def scenes_with_ink(
    split: Split, count: int, seed: int, warp: float = 0.0, spread: float = 1.0, ground: Ground = "distractors"
) -> tuple[Images, Labels, Floats]:
    """Draws scenes as `digit_scenes` does and says where the digit is.

    Args:
        split: which scans to use.
        count: how many scenes, `b`.
        seed: seed of the drawing.
        warp: strength of a random rotation and shear of the handwriting (training uses 1).
        spread: 0 centres every digit at the mean size, 1 gives the full range (training grows it).
        ground: "plain" or "distractors".

    Returns:
        Images (uint8, `b 64 64 3`), labels (`b`) and the digit's opacity (0 to 1, `b 64 64`).
    """
    check_ground(ground)
    digits, targets = load_scans()
    pool = split_indices(split)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    rounds = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
    chosen = np.concatenate([*rounds, pool[:0]])[:count]
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    ink = np.empty((count, SIDE, SIDE), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        images[block], ink[block] = _draw(warped(digits[chosen[block]], warp, rng), spread, ground, rng)
    return images, targets[chosen], ink


def _draw(digits: Floats, spread: float, ground: Ground, rng: np.random.Generator) -> tuple[Images, Floats]:
    """Draws one scene for each digit (`b g g`): images (`b 64 64 3`) and ink (`b 64 64`)."""
    count = len(digits)
    middle, reach = sum(DIGIT_SIZE) / 2, spread / 2
    size = middle + 2 * reach * (uniform(rng, *DIGIT_SIZE, (count, 1)) - middle)
    corner = uniform(rng, 0.5 - reach, 0.5 + reach, (count, 2)) * (SIDE - size)
    ink, box = _place(digits, corner, size)
    ink = np.clip(1.25 * ink, 0, 1) ** uniform(rng, 0.8, 1.25, (count, 1, 1))
    canvas = _ground(count, rng)
    colours = saturated if ground == "distractors" else greys
    # Clutter stops at the digit's box: behind the strokes it could make a digit unreadable.
    for shape in [*_blobs(count, 2, rng), *_scribbles(count, 3, rng)]:
        _paint(canvas, shape * (1 - box), colours(count, rng))
    _paint(canvas, ink, uniform(rng, 165, 255, (count, 3)))
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * 4
    np.clip(canvas + 0.5, 0, 255, out=canvas)
    return canvas.astype(np.uint8).transpose(0, 2, 3, 1), ink


def _place(digits: Floats, corner: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Resizes digits (`b g g`) to `size` (`b 1`) at `corner` (`b 2`): ink and box (`b 64 64`)."""
    # The outermost taps reach past the box; drawing into 94 % of it keeps all ink inside.
    scale = GRID / (0.94 * size)
    rows, columns = ((_AXIS + 0.5 - corner[:, [axis]] - 0.03 * size) * scale - 0.5 for axis in (0, 1))
    ink = cubic(rows, GRID) @ digits @ cubic(columns, GRID).transpose(0, 2, 1)
    inside = [((corner[:, [axis]] < _AXIS) & (corner[:, [axis]] + size > _AXIS)).astype(np.float32) for axis in (0, 1)]
    return np.clip(ink, 0, 1), inside[0][:, :, None] * inside[1][:, None, :]


def _ground(count: int, rng: np.random.Generator) -> Floats:
    """Draws low-contrast smooth noise at three scales (`b 3 64 64`)."""
    canvas = np.empty((count, 3, SIDE, SIDE), dtype=np.float32)
    canvas[:] = uniform(rng, 30, 95, (count, 3, 1, 1))
    for cells, contrast in ((3, 22.0), (8, 12.0), (20, 10.0)):
        taps = cubic(1 + _AXIS * (cells - 3) / (SIDE - 1), cells)
        # Fine noise is grey: hue varies slowly over real surfaces.
        tints = 3 if cells < 20 else 1
        noise = rng.standard_normal((count, tints, cells, cells), dtype=np.float32)
        canvas += contrast * (taps @ noise @ taps.T)
    return canvas


def _blobs(count: int, many: int, rng: np.random.Generator) -> list[Floats]:
    """Draws soft-edged ellipses, each (`b 64 64`); some fall outside and are not seen."""
    shapes = []
    for _ in range(many):
        centre = uniform(rng, -4, SIDE + 4, (count, 2, 1))
        radius = uniform(rng, 2.5, 6, (count, 2, 1))
        profile = np.exp(-(((_AXIS - centre) / radius) ** 2))
        shapes.append(np.clip((profile[:, 0, :, None] * profile[:, 1, None, :] - 0.3) * 5, 0, 1))
    return shapes


def _scribbles(count: int, many: int, rng: np.random.Generator) -> list[Floats]:
    """Draws short curved strokes, each (`b 64 64`), as rows of dots along a quadratic curve."""
    shapes = []
    step = np.linspace(0, 1, 24, dtype=np.float32)
    basis = np.stack([(1 - step) ** 2, 2 * step * (1 - step), step**2])
    for _ in range(many):
        middle = uniform(rng, 0, SIDE, (count, 2, 1))
        dots = (middle + uniform(rng, -13, 13, (count, 2, 3))) @ basis
        profile = np.exp(-(((_AXIS - dots[..., None]) / 1.2) ** 2))
        shapes.append(np.clip(profile[:, 0].transpose(0, 2, 1) @ profile[:, 1], 0, 1))
    return shapes


def _paint(canvas: Floats, opacity: Floats, colour: Floats) -> None:
    """Lays a colour (`b 3`) over a canvas (`b 3 h w`, changed in place) by opacity (`b h w`)."""
    canvas += opacity[:, None] * (colour[:, :, None, None] - canvas)
