"""Questions about the zoo's scenes, each answered by one word."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from turbo.zoo.scenes import Scenes, Thing
from turbo.zoo.words import COLOURS, COUNTS, DIGITS, KINDS, SHAPES

Asked = tuple[str, str]  # a question and its answer
BESIDE = (("left of", "right of"), ("above", "below"))  # for each of RELATIONS: of the first object, of the second


class Question(NamedTuple):
    """A question about a scene.

    Attributes:
        row: index of the scene.
        text: the question.
        answer: one word.
        kind: one of `KINDS_OF_QUESTION`.
    """

    row: int
    text: str
    answer: str
    kind: str


def ask(scenes: Scenes, seed: int, per_scene: int = 2) -> list[Question]:
    """Asks questions of different kinds about each scene.

    Args:
        scenes: what is asked about.
        seed: the same scenes and seed give the same questions.
        per_scene: questions about each, at most; a scene with one object may allow fewer.

    Returns:
        The questions, scene by scene. Each has one right answer: nothing is asked about "the three" where
        there are two.

    Examples:
        >>> from turbo.zoo.scenes import draw_scenes
        >>> ask(draw_scenes("test", 1, seed=1), seed=0, per_scene=1)[0].row
        0
    """
    rng = np.random.default_rng([seed, 1])
    found = []
    for row in range(len(scenes)):
        things = scenes.things(row)
        asked = 0
        for kind in rng.permutation(KINDS_OF_QUESTION):
            if asked < per_scene and (possible := _MAKERS[kind](things, int(scenes.relation[row]), rng)):
                text, answer = possible[rng.integers(len(possible))]
                found.append(Question(row, text, answer, str(kind)))
                asked += 1
    return found


def _colours(things: list[Thing], relation: int, rng: np.random.Generator) -> list[Asked]:
    kinds = [kind for _, _, kind in things]
    return [(f"what colour is the {kind}", colour) for _, colour, kind in things if kinds.count(kind) == 1]


def _sizes(things: list[Thing], relation: int, rng: np.random.Generator) -> list[Asked]:
    named = [(colour, kind) for _, colour, kind in things]
    return [(f"what size is the {c} {k}", size) for size, c, k in things if named.count((c, k)) == 1]


def _digits(things: list[Thing], relation: int, rng: np.random.Generator) -> list[Asked]:
    return _by_colour("digit", DIGITS, things)


def _shapes(things: list[Thing], relation: int, rng: np.random.Generator) -> list[Asked]:
    return _by_colour("shape", SHAPES, things)


def _by_colour(noun: str, names: tuple[str, ...], things: list[Thing]) -> list[Asked]:
    some = [(colour, kind) for _, colour, kind in things if kind in names]
    colours = [colour for colour, _ in some]
    return [(f"which {noun} is {colour}", kind) for colour, kind in some if colours.count(colour) == 1]


def _counts(things: list[Thing], relation: int, rng: np.random.Generator) -> list[Asked]:
    digits = sum(kind in DIGITS for _, _, kind in things)
    colour = COLOURS[rng.integers(len(COLOURS))]
    if rng.random() < 0.5:  # else most answers would be "none"
        colour = things[rng.integers(len(things))][1]
    counts = {
        "things": len(things),
        "digits": digits,
        "shapes": len(things) - digits,
        f"{colour} things": sum(c == colour for _, c, _ in things),
    }
    return [(f"how many {noun} are there", COUNTS[count]) for noun, count in counts.items()]


def _relations(things: list[Thing], relation: int, rng: np.random.Generator) -> list[Asked]:
    if len(things) == 1:
        return []
    before, after = BESIDE[relation]
    named = [(colour, kind) for _, colour, kind in things]
    # Next to the end of the row there is one thing on that side, and so one answer.
    pairs = [(before, 1, 0), (after, len(things) - 2, len(things) - 1)]
    return [
        (f"what is {side} the {named[one][0]} {named[one][1]}", things[other][2])
        for side, one, other in pairs
        if named.count(named[one]) == 1
    ]


def _presence(things: list[Thing], relation: int, rng: np.random.Generator) -> list[Asked]:
    there = {(colour, kind) for _, colour, kind in things}
    colour, kind = sorted(there)[rng.integers(len(there))]
    if rng.random() < 0.5:
        return [(f"is there a {colour} {kind}", "yes")]
    # One detail is off.
    options = [(other, kind) for other in COLOURS] + [(colour, other) for other in KINDS]
    absent = [option for option in options if option not in there]
    colour, kind = absent[rng.integers(len(absent))]
    return [(f"is there a {colour} {kind}", "no")]


_MAKERS: dict[str, Callable[[list[Thing], int, np.random.Generator], list[Asked]]] = {
    "colour": _colours,
    "size": _sizes,
    "digit": _digits,
    "shape": _shapes,
    "count": _counts,
    "relation": _relations,
    "presence": _presence,
}
KINDS_OF_QUESTION = tuple(_MAKERS)
