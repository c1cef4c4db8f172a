"""Scenes of real handwritten digits on a busy canvas, for the small vision transformer of the zoo.

The handwriting is scikit-learn's bundled ``load_digits`` (1,797 scans of 8 x 8). Everything else
in a scene is drawn here: a low-contrast ground, saturated scribbles and blobs that carry no label,
and one digit in a bright colour. The digit covers a minority of the patches, so a method that
merges the wrong tokens loses it. Every shape is a product of a row profile and a column profile,
which keeps drawing down to small matrix products.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Split = Literal["train", "validation", "test"]
Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

SIDE = 64  # pixels of a scene's side
TEST_COUNT, VALIDATION_COUNT = 400, 200
DIGIT_SIZE = (20.0, 36.0)  # pixels, least and greatest
MEAN = STD = 0.5
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_SPLIT_SEED = 20240
_GRID = 16  # side that digits are smoothed to before they are placed
_BLOCK = 16  # scenes drawn at once: few enough for the canvas to stay in cache
_AXIS: Floats = np.arange(SIDE, dtype=np.float32)


def preprocess(images: Images) -> torch.Tensor:
    """Turns images (uint8, `b h w 3`) into normalised pixel values (float32, `b 3 h w`)."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return ((pixels.float() / 255 - MEAN) / STD).contiguous()


@lru_cache(maxsize=1)
def _load() -> tuple[Floats, Labels]:
    """Loads the scans, smoothed to (`n grid grid`, 0 to 1), and their labels (`n`)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        from turbo.errors import TurboError

        raise TurboError('turbo.zoo needs scikit-learn for its digits: pip install "turbo-vlm[zoo]"') from error
    data: Any = load_digits()
    taps = _cubic((np.arange(_GRID, dtype=np.float32) + 0.5) * 8 / _GRID - 0.5, 8)
    smooth = taps @ (np.asarray(data.images, dtype=np.float32) / 16) @ taps.T
    return np.clip(smooth, 0, 1), np.asarray(data.target, dtype=np.int64)


@lru_cache(maxsize=3)
def split_indices(split: Split) -> Labels:
    """Gives the indices (`m`) of the scans that belong to a split; the three never overlap.

    Each scan is ranked inside its class by a fixed shuffle; ordering all scans by relative rank
    makes every prefix stratified, so the first 400 are the test part and the next 200 validation.
    """
    if split not in _SPLITS:
        from turbo.errors import TurboError

        raise TurboError(f"unknown split {split!r}: choose one of {', '.join(_SPLITS)}")
    labels = _load()[1]
    rng = np.random.default_rng(_SPLIT_SEED)
    rank = np.empty(len(labels))
    for label in range(10):
        members = np.flatnonzero(labels == label)
        rank[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.argsort(rank, kind="stable").astype(np.int64)
    held = TEST_COUNT + VALIDATION_COUNT
    parts = {
        "test": order[:TEST_COUNT],
        "validation": order[TEST_COUNT:held],
        "train": order[held:],
    }
    return np.sort(parts[split])


def scenes(split: Split, count: int, seed: int) -> tuple[Images, Labels]:
    """Draws scenes that show one digit each.

    Digits are taken in shuffled rounds: `count=400` of the test part shows each of its scans once.

    Args:
        split: which scans to use; those of "test" and "validation" are never trained on.
        count: how many scenes, `b`.
        seed: the same seed, split and count give the same scenes.

    Returns:
        Images (uint8, `b 64 64 3`) and labels (int64, `b`).
    """
    images, labels, _ = scenes_with_ink(split, count, seed)
    return images, labels


def scenes_with_ink(
    split: Split, count: int, seed: int, warp: float = 0.0, spread: float = 1.0
) -> tuple[Images, Labels, Floats]:
    """Draws scenes as `scenes` does and says where the digit is.

    Args:
        split: which scans to use.
        count: how many scenes, `b`.
        seed: seed of the drawing.
        warp: strength of a random rotation and shear of the handwriting (training uses 1).
        spread: 0 centres every digit at the mean size, 1 gives the full range (training grows it).

    Returns:
        Images (uint8, `b 64 64 3`), labels (`b`) and the digit's opacity (0 to 1, `b 64 64`).
    """
    digits, targets = _load()
    pool = split_indices(split)
    rng = np.random.default_rng([seed, _SPLITS.index(split)])
    rounds = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
    chosen = np.concatenate([*rounds, pool[:0]])[:count]
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    ink = np.empty((count, SIDE, SIDE), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        images[block], ink[block] = _draw(_warp(digits[chosen[block]], warp, rng), spread, rng)
    return images, targets[chosen], ink


def _draw(digits: Floats, spread: float, rng: np.random.Generator) -> tuple[Images, Floats]:
    """Draws one scene for each digit (`b g g`): images (`b 64 64 3`) and ink (`b 64 64`)."""
    count = len(digits)
    middle, reach = sum(DIGIT_SIZE) / 2, spread / 2
    size = middle + 2 * reach * (_uniform(rng, *DIGIT_SIZE, (count, 1)) - middle)
    corner = _uniform(rng, 0.5 - reach, 0.5 + reach, (count, 2)) * (SIDE - size)
    ink, box = _place(digits, corner, size)
    ink = np.clip(1.25 * ink, 0, 1) ** _uniform(rng, 0.8, 1.25, (count, 1, 1))
    canvas = _ground(count, rng)
    # Clutter stops at the digit's box: behind the strokes it could make a digit unreadable.
    for shape in [*_blobs(count, 2, rng), *_scribbles(count, 3, rng)]:
        _paint(canvas, shape * (1 - box), _saturated(count, rng))
    _paint(canvas, ink, _uniform(rng, 165, 255, (count, 3)))
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * 4
    np.clip(canvas + 0.5, 0, 255, out=canvas)
    return canvas.astype(np.uint8).transpose(0, 2, 3, 1), ink


def _place(digits: Floats, corner: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Resizes digits (`b g g`) to `size` (`b 1`) at `corner` (`b 2`): ink and box (`b 64 64`)."""
    # The outermost taps reach past the box; drawing into 94 % of it keeps all ink inside.
    scale = _GRID / (0.94 * size)
    rows, columns = ((_AXIS + 0.5 - corner[:, [axis]] - 0.03 * size) * scale - 0.5 for axis in (0, 1))
    ink = _cubic(rows, _GRID) @ digits @ _cubic(columns, _GRID).transpose(0, 2, 1)
    inside = [((corner[:, [axis]] < _AXIS) & (corner[:, [axis]] + size > _AXIS)).astype(np.float32) for axis in (0, 1)]
    return np.clip(ink, 0, 1), inside[0][:, :, None] * inside[1][:, None, :]


def _ground(count: int, rng: np.random.Generator) -> Floats:
    """Draws low-contrast smooth noise at three scales (`b 3 64 64`)."""
    canvas = np.empty((count, 3, SIDE, SIDE), dtype=np.float32)
    canvas[:] = _uniform(rng, 30, 95, (count, 3, 1, 1))
    for cells, contrast in ((3, 22.0), (8, 12.0), (20, 10.0)):
        taps = _cubic(1 + _AXIS * (cells - 3) / (SIDE - 1), cells)
        # Fine noise is grey: hue varies slowly over real surfaces.
        tints = 3 if cells < 20 else 1
        noise = rng.standard_normal((count, tints, cells, cells), dtype=np.float32)
        canvas += contrast * (taps @ noise @ taps.T)
    return canvas


def _blobs(count: int, many: int, rng: np.random.Generator) -> list[Floats]:
    """Draws soft-edged ellipses, each (`b 64 64`); some fall outside and are not seen."""
    shapes = []
    for _ in range(many):
        centre = _uniform(rng, -4, SIDE + 4, (count, 2, 1))
        radius = _uniform(rng, 2.5, 6, (count, 2, 1))
        profile = np.exp(-(((_AXIS - centre) / radius) ** 2))
        shapes.append(np.clip((profile[:, 0, :, None] * profile[:, 1, None, :] - 0.3) * 5, 0, 1))
    return shapes


def _scribbles(count: int, many: int, rng: np.random.Generator) -> list[Floats]:
    """Draws short curved strokes, each (`b 64 64`), as rows of dots along a quadratic curve."""
    shapes = []
    step = np.linspace(0, 1, 24, dtype=np.float32)
    basis = np.stack([(1 - step) ** 2, 2 * step * (1 - step), step**2])
    for _ in range(many):
        middle = _uniform(rng, 0, SIDE, (count, 2, 1))
        dots = (middle + _uniform(rng, -13, 13, (count, 2, 3))) @ basis
        profile = np.exp(-(((_AXIS - dots[..., None]) / 1.2) ** 2))
        shapes.append(np.clip(profile[:, 0].transpose(0, 2, 1) @ profile[:, 1], 0, 1))
    return shapes


def _saturated(count: int, rng: np.random.Generator) -> Floats:
    """Draws colours (`b 3`) with one strong, one weak and one free channel."""
    levels = np.stack([_uniform(rng, low, high, (count,)) for low, high in ((190, 255), (0, 50), (0, 255))], 1)
    return np.take_along_axis(levels, rng.random((count, 3)).argsort(1), 1)


def _paint(canvas: Floats, opacity: Floats, colour: Floats) -> None:
    """Lays a colour (`b 3`) over a canvas (`b 3 h w`, changed in place) by opacity (`b h w`)."""
    canvas += opacity[:, None] * (colour[:, :, None, None] - canvas)


def _warp(digits: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Rotates, shears and stretches digits (`b g g`) at random; strength 0 leaves them alone."""
    if not strength:
        return digits
    count = len(digits)
    matrix = np.eye(2, dtype=np.float32) + strength * _uniform(rng, -0.1, 0.1, (count, 2, 2))
    turn = strength * _uniform(rng, -0.2, 0.2, (count,))
    matrix[:, 0, 1] += turn
    matrix[:, 1, 0] -= turn
    grid = np.stack(np.meshgrid(*[np.arange(_GRID, dtype=np.float32)] * 2, indexing="ij"))
    middle = (_GRID - 1) / 2
    where = matrix @ (grid.reshape(2, -1) - middle) + middle
    inside = ((where > -1) & (where < _GRID)).all(1)
    where = np.clip(where, 0, _GRID - 1.001)
    base = where.astype(np.int64)
    part = where - base
    batch = np.arange(count)[:, None]
    warped = np.zeros(where[:, 0].shape, dtype=np.float32)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            warped += weight * digits[batch, base[:, 0] + down, base[:, 1] + right]
    warped *= inside
    return warped.reshape(digits.shape)


def _cubic(where: npt.NDArray[np.floating[Any]], taps: int) -> Floats:
    """Gives Keys' cubic weights (`... taps`) that sample a row of values at `where` (`...`)."""
    gap = np.abs(where[..., None] - np.arange(taps, dtype=np.float32))
    near = (1.5 * gap - 2.5) * gap**2 + 1
    far = ((-0.5 * gap + 2.5) * gap - 4) * gap + 2
    weights: Floats = np.where(gap < 1, near, np.where(gap < 2, far, 0)).astype(np.float32)
    return weights


def _uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Floats:
    """Draws float32 numbers between two bounds."""
    drawn: Floats = rng.random(shape, dtype=np.float32)
    drawn *= np.float32(high - low)
    drawn += np.float32(low)
    return drawn
