"""Pairs of the zoo's scenes and texts: half of the texts are captions, half have something wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from turbo.zoo.scenes import RELATIONS, Scenes, Thing, describe
from turbo.zoo.words import COLOURS, KINDS, SIZES

MATCHED = "matched"  # kind of a pair whose text is the scene's caption


class Pair(NamedTuple):
    """A scene and a text.

    Attributes:
        row: index of the scene.
        text: in the form of a caption.
        matches: whether it is the scene's caption.
        kind: `MATCHED`, or what is wrong with the text, one of `MISMATCHES`.
    """

    row: int
    text: str
    matches: bool
    kind: str


def matching_pairs(scenes: Scenes, seed: int, mismatches: int = 1) -> list[Pair]:
    """Pairs each scene with its caption and with texts that are wrong.

    A caption names all objects in order, so a text that differs from it anywhere does not match.

    Args:
        scenes: what is described.
        seed: the same scenes and seed give the same pairs.
        mismatches: wrong texts of each scene, all of different kinds; a scene with one object has four kinds at most.
            With 1, half of all pairs match.

    Returns:
        The pairs, scene by scene, the one that matches first.

    Examples:
        >>> from turbo.zoo.scenes import draw_scenes
        >>> for pair in matching_pairs(draw_scenes("test", 1, seed=1), seed=0):
        ...     print(pair.text, pair.matches, pair.kind)
        a big yellow circle left of a big white circle True matched
        a big yellow circle left of a big white cross False object
    """
    rng = np.random.default_rng([seed, 2])
    captions, found = scenes.captions(), []
    for row, caption in enumerate(captions):
        found.append(Pair(row, caption, True, MATCHED))
        things, relation = scenes.things(row), int(scenes.relation[row])
        made = 0
        for kind in rng.permutation(MISMATCHES):
            if made >= mismatches:
                break
            text = _MAKERS[kind](things, relation, rng) if kind in _MAKERS else captions[rng.integers(len(captions))]
            if text is not None and text != caption:
                found.append(Pair(row, text, False, str(kind)))
                made += 1
    return found


def _changed(column: int, words: tuple[str, ...]) -> Callable[[list[Thing], int, np.random.Generator], str]:
    """Makes texts in which one object has another size, colour or kind."""

    def make(things: list[Thing], relation: int, rng: np.random.Generator) -> str:
        place = int(rng.integers(len(things)))
        thing = list(things[place])
        others = [word for word in words if word != thing[column]]
        thing[column] = others[rng.integers(len(others))]
        size, colour, kind = thing
        return describe([*things[:place], (size, colour, kind), *things[place + 1 :]], relation)

    return make


def _other_relation(things: list[Thing], relation: int, rng: np.random.Generator) -> str | None:
    return describe(things, (relation + 1) % len(RELATIONS)) if len(things) > 1 else None


def _other_order(things: list[Thing], relation: int, rng: np.random.Generator) -> str | None:
    """Neighbours change places; None where there is no neighbour, or none that differs."""
    places = [place for place in range(len(things) - 1) if things[place] != things[place + 1]]
    if not places:
        return None
    place = places[rng.integers(len(places))]
    return describe([*things[:place], things[place + 1], things[place], *things[place + 2 :]], relation)


_MAKERS: dict[str, Callable[[list[Thing], int, np.random.Generator], str | None]] = {
    "size": _changed(0, SIZES),
    "colour": _changed(1, COLOURS),
    "object": _changed(2, KINDS),
    "relation": _other_relation,
    "order": _other_order,
}
MISMATCHES = (*_MAKERS, "scene")  # "scene": the caption of another scene
