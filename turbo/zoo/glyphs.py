"""What the zoo's larger scenes are made of: strokes of a split, shapes and handwritten digits, in small windows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from turbo.zoo.paint import Floats, Labels, cubic, uniform
from turbo.zoo.scans import GRID, SPLITS, Split, load_scans, split_indices
from turbo.zoo.scans import warp as warped
from turbo.zoo.words import SHAPES

STROKE = 32  # pixels of a stroke's window
GLYPH = 28  # pixels of an object's window
_STROKES = 1024  # different strokes of a split

LEVELS = np.array(
    [(225, 45, 45), (55, 190, 65), (60, 105, 240), (242, 222, 55), (240, 240, 240), (190, 65, 215)], dtype=np.float32
)


@lru_cache(maxsize=3)
def strokes(split: Split) -> Floats:
    """Draws the strokes of a split (`s 32 32`, 0 to 1): rows of dots along curves, no two alike."""
    rng = np.random.default_rng([7, SPLITS.index(split)])
    axis = np.arange(STROKE, dtype=np.float32)
    step = np.linspace(0, 1, 40, dtype=np.float32)
    basis = np.stack([(1 - step) ** 2, 2 * step * (1 - step), step**2])
    dots = uniform(rng, 2, STROKE - 3, (_STROKES, 2, 3)) @ basis
    width = uniform(rng, 1.1, 1.9, (_STROKES, 1, 1))
    rows, columns = (np.exp(-(((axis - dots[:, i, :, None]) / width) ** 2)) for i in (0, 1))
    drawn: Floats = np.clip(rows.transpose(0, 2, 1) @ columns, 0, 1)
    return drawn


def glyphs(
    kind: Labels,
    centre: Floats,
    radius: Floats,
    split: Split,
    rng: np.random.Generator,
    side: int = GLYPH,
    warp: float = 0.0,
) -> Floats:
    """Draws shapes and digits, each in a window of its own.

    Args:
        kind: indices into `KINDS`, `m`.
        centre: row and column of each one's centre in its window, pixels, `m 2`.
        radius: pixels, `m`.
        split: which scans to take digits from.
        rng: random numbers.
        side: pixels of a window's side.
        warp: strength of a random rotation and shear of digits (training uses 1).

    Returns:
        Opacity, 0 to 1, `m side side`.
    """
    axis = np.arange(side, dtype=np.float32) + 0.5
    # Place in the object's own box, -1 to 1, along rows and columns.
    rows, columns = ((axis - centre[:, [i]]) / radius[:, None] for i in (0, 1))
    mask = np.empty((len(kind), side, side), dtype=np.float32)
    for shape, name in enumerate(SHAPES):
        some = np.flatnonzero(kind == shape)
        inside = _depth(name, rows[some][:, :, None], columns[some][:, None, :])
        mask[some] = np.clip(inside * radius[some, None, None] + 0.5, 0, 1)
    some = np.flatnonzero(kind >= len(SHAPES))
    scans, targets = load_scans()
    pool = split_indices(split)
    order = pool[np.argsort(targets[pool], kind="stable")]
    many = np.bincount(targets[pool], minlength=10)
    digit = kind[some] - len(SHAPES)
    # The n-th scan of its class, for a random n.
    scan = order[(np.cumsum(many) - many)[digit] + (rng.random(len(some)) * many[digit]).astype(np.int64)]
    taps = [cubic((place[some] + 1) / 2 * GRID - 0.5, GRID) for place in (rows, columns)]
    ink = taps[0] @ warped(scans[scan], warp, rng) @ taps[1].transpose(0, 2, 1)
    mask[some] = np.clip(1.3 * ink, 0, 1)
    return mask


def _depth(shape: str, row: Floats, column: Floats) -> Floats:
    """Gives how deep inside a shape each place is, in units of its radius; negative outside."""
    tall, wide = np.abs(row), np.abs(column)
    depth: Any
    if shape == "square":
        depth = 0.88 - np.maximum(tall, wide)
    elif shape == "triangle":
        depth = np.minimum(0.86 - row, ((row + 1) * 0.53 - wide) * 0.88)
    elif shape == "cross":
        depth = np.minimum(0.3 - np.minimum(tall, wide), 0.97 - np.maximum(tall, wide))
    else:
        distance = np.sqrt(tall**2 + wide**2)
        depth = np.minimum(0.97 - distance, distance - 0.55 if shape == "ring" else 1)
    return np.asarray(depth, dtype=np.float32)
