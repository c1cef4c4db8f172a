"""Scenes for the zoo's vision-language models: one to three small objects on a busy ground, with captions.

A scene has 112 x 112 pixels, 14 x 14 patches of 8. Its objects, handwritten digits and coloured shapes, cover
some 6% of it. They stand in a row or in a column, and the caption names them in that order: "a small red circle left
of a big blue three left of a small green seven".

There are two kinds of ground. "plain" has textures and dull strokes, which are alike, so redundancy alone tells
objects from ground. "distractors" adds 12 to 24 strokes in bright colours that no caption names: not redundant and yet
irrelevant, as most of a photograph is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from turbo.zoo.glyphs import GLYPH, LEVELS, STROKE, glyphs, strokes
from turbo.zoo.paint import (
    Floats,
    Ground,
    Images,
    Labels,
    check_ground,
    greys,
    ground,
    paste,
    saturated,
    uniform,
    windows,
)
from turbo.zoo.scans import SPLITS, Split, split_indices
from turbo.zoo.words import COLOURS, KINDS, NONE, SIZES

Thing = tuple[str, str, str]  # size, colour and kind of an object
SIDE, PATCH = 112, 8  # pixels
GRID = SIDE // PATCH
OBJECTS = 3  # at most
RELATIONS = ("left of", "above")
SHARES = (0.3, 0.4, 0.3)  # of scenes with one, two and three objects
CELLS = np.array([2, 3])  # patches along an object's side, for each of SIZES
_RADII = ((6.8, 7.6), (10.6, 11.6))  # pixels, for each of SIZES
_SHIFT = 1.0  # pixels that an object is off the patch grid, at most
_DULL, _BRIGHT = (4, 8), (12, 24)  # strokes of a scene, least and most
_BLOCK = 64  # scenes drawn at once: few enough for the canvas to stay in cache


@dataclass(frozen=True)
class Scenes:
    """Scenes and what they show.

    Attributes:
        images: uint8, `b 112 112 3`.
        size: indices into `SIZES`, `b 3`: a column for each object, in the caption's order; `NONE` where it is absent.
        colour: indices into `COLOURS`, `b 3`.
        kind: indices into `KINDS`, `b 3`.
        relation: indices into `RELATIONS`, `b`; `NONE` for a single object.
        cell: row and column of each object's first patch, `b 3 2`; `NONE` where there is none.
    """

    images: Images
    size: Labels
    colour: Labels
    kind: Labels
    relation: Labels
    cell: Labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> Scenes:
        """Takes some of the scenes (a slice, a mask or indices)."""
        return Scenes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def captions(self) -> list[str]:
        """Says in words what each scene shows."""
        return [self._caption(row) for row in range(len(self))]

    def _caption(self, row: int) -> str:
        return describe(self.things(row), int(self.relation[row]))

    def things(self, row: int) -> list[Thing]:
        """Names a scene's objects, in the caption's order."""
        return [
            (SIZES[self.size[row, slot]], COLOURS[self.colour[row, slot]], KINDS[self.kind[row, slot]])
            for slot in range(self.count(row))
        ]

    def count(self, row: int) -> int:
        """Counts a scene's objects."""
        return int((self.kind[row] != NONE).sum())

    def patches(self) -> Labels:
        """Says which object lies on each patch (`b 14 14`): its slot, or `NONE` for ground."""
        found = np.full((len(self), GRID, GRID), NONE, dtype=np.int64)
        axis = np.arange(GRID)
        for slot in range(OBJECTS):
            first, many = self.cell[:, slot, :, None], CELLS[self.size[:, slot]][:, None, None]
            inside = (axis >= first) & (axis < first + many) & (self.kind[:, slot] != NONE)[:, None, None]
            found[inside[:, 0, :, None] & inside[:, 1, None, :]] = slot
        return found


def describe(things: list[Thing], relation: int) -> str:
    """Says in words what stands in a row or in a column; the relation is an index into `RELATIONS`."""
    return f" {RELATIONS[relation]} ".join(f"a {size} {colour} {kind}" for size, colour, kind in things)


def draw_scenes(
    split: Split, count: int, seed: int, ground: Ground = "distractors", shares: tuple[float, ...] = SHARES
) -> Scenes:
    """Draws scenes.

    Args:
        split: which scans to take digits from; those of "test" and "validation" are never trained on, nor are their
            strokes.
        count: how many scenes, `b`.
        seed: the same arguments give the same scenes.
        ground: "plain" or "distractors"; the same objects stand on either at about the same places.
        shares: of scenes with one, two and three objects.

    Returns:
        The scenes.

    Raises:
        TurboError: the split or the ground is unknown.

    Examples:
        >>> scenes = draw_scenes("test", 2, seed=0, ground="plain")
        >>> scenes.images.shape
        (2, 112, 112, 3)
    """
    check_ground(ground)
    split_indices(split)  # refuses an unknown name
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    return draw_with(rng, split, count, ground, shares)


def draw_with(
    rng: np.random.Generator,
    split: Split,
    count: int,
    ground: Ground,
    shares: tuple[float, ...] = SHARES,
    warp: float = 0.0,
) -> Scenes:
    """Draws scenes with random numbers at hand; `warp` is the strength of what is done to handwriting in training."""
    labels = random_labels(count, rng, shares)
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    for first in range(0, count, _BLOCK):
        block = slice(first, min(first + _BLOCK, count))
        images[block] = _paint({name: column[block] for name, column in labels.items()}, split, ground, warp, rng)
    return Scenes(images, **labels)


def random_labels(count: int, rng: np.random.Generator, shares: tuple[float, ...] = SHARES) -> dict[str, Labels]:
    """Picks what scenes show and where; shapes and digits are equally likely."""
    many = 1 + (rng.random((count, 1)) > np.cumsum(shares)[:-1]).sum(1)
    absent = np.arange(OBJECTS) >= many[:, None]
    shape = rng.random((count, OBJECTS)) < 0.5
    size = rng.integers(len(SIZES), size=(count, OBJECTS))
    kind = np.where(shape, rng.integers(5, size=shape.shape), 5 + rng.integers(10, size=shape.shape))
    colour = rng.integers(len(COLOURS), size=(count, OBJECTS))
    relation = np.where(many > 1, rng.integers(len(RELATIONS), size=count), NONE)
    cell = _cells(np.where(absent, 0, CELLS[size]), relation, rng)
    for column in (size, colour, kind):
        column[absent] = NONE
    cell[absent] = NONE
    return {"size": size, "colour": colour, "kind": kind, "relation": relation, "cell": cell}


def _cells(cells: Labels, relation: Labels, rng: np.random.Generator) -> Labels:
    """Picks each object's first patch (`b 3 2`), so that no two overlap and only one relation fits.

    Along the axis of the relation the free patches are shared out before, between and after; across it, neighbours
    are no further apart than along it.
    """
    count = len(cells)
    free = GRID - cells.sum(1, keepdims=True)
    cuts = np.sort((rng.random((count, OBJECTS)) * (free + 1)).astype(np.int64), axis=1)
    along = cuts + np.cumsum(cells, 1) - cells
    across = np.empty_like(along)
    across[:, 0] = (rng.random(count) * (GRID - cells[:, 0] + 1)).astype(np.int64)
    for slot in range(1, OBJECTS):
        gap = (
            (along[:, slot] - along[:, slot - 1]) * 2 + cells[:, slot] - cells[:, slot - 1]
        )  # of centres, half patches
        middle = 2 * across[:, slot - 1] + cells[:, slot - 1] - cells[:, slot]
        low = np.maximum(0, -((gap - 1 - middle) // 2))
        high = np.minimum(GRID - cells[:, slot], (middle + gap - 1) // 2)
        across[:, slot] = low + (rng.random(count) * (high - low + 1)).astype(np.int64)
    # Rows and columns, of objects in a row; a column is its transpose. A single object may lie anywhere.
    found = np.stack([across, along], 2)
    return np.where((relation == 1)[:, None, None], found[..., ::-1], found)


def _paint(labels: dict[str, Labels], split: Split, kind: Ground, warp: float, rng: np.random.Generator) -> Images:
    count = len(labels["kind"])
    canvas = ground(count, SIDE, rng)
    bare = canvas.copy()
    _clutter(canvas, _DULL, greys, split, rng)
    if kind == "distractors":
        _clutter(canvas, _BRIGHT, saturated, split, rng)
    for slot in range(OBJECTS):
        row = np.flatnonzero(labels["kind"][:, slot] != NONE)
        size = labels["size"][row, slot]
        centre = PATCH * (labels["cell"][row, slot] + CELLS[size][:, None] / 2)
        centre = centre.astype(np.float32) + uniform(rng, -_SHIFT, _SHIFT, (len(row), 2))
        radius = np.stack([uniform(rng, low, high, (len(row),)) for low, high in _RADII])[size, np.arange(len(row))]
        corner = np.clip(centre - GLYPH / 2, 0, SIDE - GLYPH).astype(np.int64)
        centre -= corner
        # Clutter stops at the object's box: behind the strokes it could make a digit unreadable.
        axis = np.arange(GLYPH, dtype=np.float32) + 0.5
        box = np.clip(radius[:, None, None] + 1 - np.abs(axis - centre[:, :, None]), 0, 1)
        paste(canvas, row, corner, box[:, 0, :, None] * box[:, 1, None, :], bare[windows(row, corner, GLYPH)])
        mask = glyphs(labels["kind"][row, slot], centre, radius, split, rng, warp=warp)
        paste(canvas, row, corner, mask, LEVELS[labels["colour"][row, slot]] + uniform(rng, -12, 12, (len(row), 3)))
    images: Images = (np.clip(canvas, 0, 255) + 0.5).astype(np.uint8)
    return images


def _clutter(canvas: Floats, many: tuple[int, int], colours: Any, split: Split, rng: np.random.Generator) -> None:
    """Lays strokes of random forms and colours over canvases, in place."""
    forms = strokes(split)
    count = rng.integers(many[0], many[1] + 1, size=len(canvas))
    for index in range(many[1]):
        row = np.flatnonzero(count > index)
        corner = rng.integers(0, SIDE - STROKE + 1, size=(len(row), 2))
        paste(canvas, row, corner, forms[rng.integers(len(forms), size=len(row))], colours(len(row), rng))
