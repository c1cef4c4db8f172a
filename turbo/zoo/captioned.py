"""Captioned scenes for the zoo's small text-to-image model: coloured shapes and digits on textured ground.

A scene shows one object, or two of which the first named is left of or above the other. A caption
reads "a small red circle left of a big blue three on striped ground". Digits are scikit-learn's
bundled scans, in the splits of `turbo.zoo.digits`; everything else is drawn here, by formula.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from turbo.zoo.glyphs import LEVELS, glyphs
from turbo.zoo.paint import Floats, Images, Labels, uniform
from turbo.zoo.scans import SPLITS, Split, split_indices
from turbo.zoo.words import COLOURS, KINDS, NONE, SIZES

SIDE = 32  # pixels of a scene's side
GROUNDS = ("plain", "striped", "dotted", "checkered")
RELATIONS = ("alone", "left", "above")
WORDS = tuple(sorted({"a", "of", "on", "ground", *SIZES, *COLOURS, *KINDS, *GROUNDS, *RELATIONS[1:]}))
_RADII = ((4.0, 4.8), (6.4, 7.4))  # pixels, for each of SIZES


@dataclass(frozen=True)
class SceneLabels:
    """What scenes show, as indices (int64).

    Attributes:
        size: indices into `SIZES`, `b 2`: one column for each object, the left or upper one first.
        colour: indices into `COLOURS`, `b 2`.
        kind: indices into `KINDS`, `b 2`.
        relation: indices into `RELATIONS`, `b`; where it is 0, the second column above is `NONE`.
        ground: indices into `GROUNDS`, `b`.
    """

    size: Labels
    colour: Labels
    kind: Labels
    relation: Labels
    ground: Labels

    def __len__(self) -> int:
        return len(self.ground)

    def __getitem__(self, rows: Any) -> SceneLabels:
        """Takes some of the scenes (a slice, a mask or indices)."""
        return SceneLabels(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def captions(self) -> list[str]:
        """Says in words what each scene shows."""
        return [self._caption(row) for row in range(len(self))]

    def _caption(self, row: int) -> str:
        first, second = (
            f"a {SIZES[self.size[row, slot]]} {COLOURS[self.colour[row, slot]]} {KINDS[self.kind[row, slot]]}"
            for slot in (0, 1)
        )
        middle = ("", f" left of {second}", f" above {second}")[self.relation[row]]
        return f"{first}{middle} on {GROUNDS[self.ground[row]]} ground"


def captioned_scenes(
    split: Split, count: int, seed: int, pairs: float = 0.5, side: int = SIDE
) -> tuple[Images, list[str], SceneLabels]:
    """Draws scenes with their captions.

    Args:
        split: which scans to take digits from; those of "test" and "validation" are never trained on.
        count: how many scenes, `b`.
        seed: the same seed, split and count give the same scenes.
        pairs: share of scenes with two objects.
        side: pixels of a scene's side; 16 is enough for one object, two need 32.

    Returns:
        Images (uint8, `b side side 3`), captions (`b`) and labels.
    """
    split_indices(split)  # refuses an unknown name
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    labels = random_labels(count, rng, pairs)
    return draw(labels, split, rng, side), labels.captions(), labels


def random_labels(count: int, rng: np.random.Generator, pairs: float = 0.5) -> SceneLabels:
    """Picks what `count` scenes show; shapes and digits are equally likely."""
    alone = rng.random(count) >= pairs
    shape = rng.random((count, 2)) < 0.5
    pick = {
        "size": rng.integers(len(SIZES), size=(count, 2)),
        "colour": rng.integers(len(COLOURS), size=(count, 2)),
        "kind": np.where(shape, rng.integers(5, size=(count, 2)), 5 + rng.integers(10, size=(count, 2))),
    }
    for column in pick.values():
        column[alone, 1] = NONE
    relation = np.where(alone, 0, rng.integers(1, 3, size=count))
    return SceneLabels(**pick, relation=relation, ground=rng.integers(len(GROUNDS), size=count))


def draw(labels: SceneLabels, split: Split, rng: np.random.Generator, side: int = SIDE) -> Images:
    """Draws one scene (uint8, `b side side 3`) for each row of labels."""
    return draw_with_ink(labels, split, rng, side)[0]


def draw_with_ink(
    labels: SceneLabels, split: Split, rng: np.random.Generator, side: int = SIDE
) -> tuple[Images, Floats]:
    """Draws scenes (uint8, `b side side 3`) and gives both objects' opacity (0 to 1, `b 2 side side`)."""
    count = len(labels)
    inks = np.zeros((count, 2, side, side), dtype=np.float32)
    radius = np.stack([uniform(rng, low, high, (count, 2)) for low, high in _RADII])
    radius = np.take_along_axis(radius, np.maximum(labels.size, 0)[None], 0)[0]
    centre = _places(labels, radius, rng, side)
    canvas = _grounds(labels.ground, rng, side)
    for slot in (0, 1):
        rows = np.flatnonzero(labels.kind[:, slot] != NONE)
        ink = glyphs(labels.kind[rows, slot], centre[rows, slot], radius[rows, slot], split, rng, side)
        inks[rows, slot] = ink
        colour = LEVELS[labels.colour[rows, slot]] + uniform(rng, -12, 12, (len(rows), 3))
        canvas[rows] += ink[:, None] * (colour[:, :, None, None] - canvas[rows])
    images: Images = (np.clip(canvas, 0, 255) + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return images, inks


def _places(labels: SceneLabels, radius: Floats, rng: np.random.Generator, side: int) -> Floats:
    """Picks centres (`b 2 2`: object, then row and column) so that both objects are whole and apart.

    Across the axis of their relation two objects overlap, so only one relation fits.
    """
    count = len(labels)
    centre = radius[..., None] + uniform(rng, 0, 1, (count, 2, 2)) * (side - 2 * radius[..., None])
    # Along the axis of the relation the free pixels are shared out: before, between and after.
    free = side - 2 * radius.sum(1)
    start, end = np.sort(uniform(rng, 0, 1, (2, count)), axis=0) * free
    along = np.stack([start + radius[:, 0], end + 2 * radius[:, 0] + radius[:, 1]], 1)
    shift = uniform(rng, -0.5, 0.5, (count,)) * radius.sum(1)
    for relation, axis in ((1, 1), (2, 0)):
        rows = labels.relation == relation
        centre[rows, :, axis] = along[rows]
        beside = centre[rows, 0, 1 - axis] + shift[rows]
        centre[rows, 1, 1 - axis] = np.clip(beside, radius[rows, 1], side - radius[rows, 1])
    return centre.astype(np.float32)


def _grounds(ground: Labels, rng: np.random.Generator, side: int) -> Floats:
    """Draws dark tinted grounds (`b 3 side side`) with their textures."""
    count = len(ground)
    axis = np.arange(side, dtype=np.float32)
    angle = np.where(ground == 1, uniform(rng, 0, np.pi, (count,)), uniform(rng, -0.25, 0.25, (count,)))
    pace = 2 * np.pi / uniform(rng, 4.5, 6.5, (count,)) * np.where(ground == 3, 0.6, 1)
    phase = uniform(rng, 0, 2 * np.pi, (2, count))
    down, right = pace * np.sin(angle), pace * np.cos(angle)
    across = np.sin((right[:, None] * axis)[:, None] + (down[:, None] * axis)[..., None] + phase[0, :, None, None])
    along = np.sin((right[:, None] * axis)[..., None] - (down[:, None] * axis)[:, None] + phase[1, :, None, None])
    kind = ground[:, None, None]
    wave = np.where(kind == 1, 2 * across, np.where(kind == 3, 4 * across * along, 3 * np.minimum(across, along) - 0.3))
    wave = np.where(kind == 0, 0, np.clip(wave, -1, 1)).astype(np.float32)
    tint = uniform(rng, 40, 80, (count, 3, 1, 1))
    return np.asarray(tint + uniform(rng, 22, 34, (count, 1, 1, 1)) * wave[:, None], dtype=np.float32)
