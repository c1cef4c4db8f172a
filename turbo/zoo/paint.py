"""Brushes of the zoo's scenes: smooth noise, grounds, colours, and windows pasted into a canvas.

A canvas of a larger scene is float32, `b side side 3`. What covers a small part of it is drawn in a window of its own
and pasted, so a stroke costs its own area and not the canvas's.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from turbo.errors import TurboError

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

Ground = Literal["plain", "distractors"]
GROUNDS: tuple[Ground, ...] = get_args(Ground)
"""What objects stand on: textures with dull strokes, which are alike; or with strokes in bright colours that nobody
names: not redundant and yet irrelevant, as most of a photograph is."""


def check_ground(ground: str) -> None:
    """Raises TurboError where there is no such ground."""
    if ground not in GROUNDS:
        raise TurboError(f"unknown ground {ground!r}: choose one of {', '.join(GROUNDS)}")


def cubic(where: npt.NDArray[np.floating[Any]], taps: int) -> Floats:
    """Gives Keys' cubic weights (`... taps`) that sample a row of values at `where` (`...`)."""
    gap = np.abs(where[..., None] - np.arange(taps, dtype=np.float32))
    near = (1.5 * gap - 2.5) * gap**2 + 1
    far = ((-0.5 * gap + 2.5) * gap - 4) * gap + 2
    weights: Floats = np.where(gap < 1, near, np.where(gap < 2, far, 0)).astype(np.float32)
    return weights


def uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Floats:
    """Draws float32 numbers between two bounds."""
    drawn: Floats = rng.random(shape, dtype=np.float32)
    drawn *= np.float32(high - low)
    drawn += np.float32(low)
    return drawn


def saturated(count: int, rng: np.random.Generator) -> Floats:
    """Draws colours (`b 3`) with one strong, one weak and one free channel."""
    levels = np.stack([uniform(rng, low, high, (count,)) for low, high in ((190, 255), (0, 50), (0, 255))], 1)
    return np.take_along_axis(levels, rng.random((count, 3)).argsort(1), 1)


def greys(count: int, rng: np.random.Generator) -> Floats:
    """Picks dull colours (`b 3`)."""
    return uniform(rng, 20, 170, (count, 1)) + uniform(rng, -12, 12, (count, 3))


def ground(count: int, side: int, rng: np.random.Generator) -> Floats:
    """Draws low-contrast textures (`b side side 3`): noise at three scales, grain and, in half of them, waves."""
    axis = np.arange(side, dtype=np.float32)
    canvas = np.empty((count, side, side, 3), dtype=np.float32)
    canvas[:] = uniform(rng, 30, 95, (count, 1, 1, 3))
    # Coarse and middling noise is coloured: hue varies slowly over real surfaces.
    for cells, contrast in ((4, 22.0), (10, 12.0)):
        taps = _taps(side, cells)
        noise = rng.standard_normal((3, count, cells, cells), dtype=np.float32)
        for channel in range(3):
            canvas[..., channel] += contrast * (taps @ noise[channel] @ taps.T)
    fine = _taps(side, 36) @ rng.standard_normal((count, 36, 36), dtype=np.float32) @ _taps(side, 36).T
    angle = uniform(rng, 0, np.pi, (count, 1))
    pace = 2 * np.pi / uniform(rng, 6, 14, (count, 1))
    down, right = (axis * pace * turn(angle) for turn in (np.sin, np.cos))
    height = uniform(rng, -16, 16, (count, 1, 1)).clip(0)
    # sin(a + b), from the waves along each axis.
    waves = np.sin(down)[:, :, None] * np.cos(right)[:, None] + np.cos(down)[:, :, None] * np.sin(right)[:, None]
    grain = rng.standard_normal((count, side, side), dtype=np.float32)
    canvas += (9 * fine + height * waves + 4 * grain)[..., None]
    return canvas


def _taps(side: int, cells: int) -> Floats:
    axis = np.arange(side, dtype=np.float32)
    return cubic(1 + axis * (cells - 3) / (side - 1), cells)


def paste(canvas: Floats, row: Any, corner: Labels, mask: Floats, colour: Floats) -> None:
    """Lays colours over parts of canvases, in place.

    Args:
        canvas: `b side side 3`.
        row: which canvas each window belongs to, `m`; no canvas twice.
        corner: row and column of each window's first pixel, `m 2`; windows lie inside of the canvas.
        mask: opacity, 0 to 1, `m w w`.
        colour: `m 3`, or one for each pixel, `m w w 3`.
    """
    index = windows(row, corner, mask.shape[1])
    below = canvas[index]
    if colour.ndim == 2:
        colour = colour[:, None, None, :]
    canvas[index] = below + mask[..., None] * (colour - below)


def windows(row: Any, corner: Labels, width: int) -> Any:
    """Indexes square windows (`m w w`) of canvases, as `paste` takes them."""
    place = corner[:, :, None] + np.arange(width)
    return np.asarray(row)[:, None, None], place[:, 0, :, None], place[:, 1, None, :]
