"""Which details of the zoo's scenes a caption gets right."""

from __future__ import annotations

import math
from dataclasses import dataclass

from turbo.zoo.scenes import RELATIONS, Scenes
from turbo.zoo.words import COLOURS, DIGITS, KINDS, SIZES

ATTRIBUTES = ("exact", "size", "colour", "kind", "digit", "small", "count", "relation")
_FIELDS = {word: index for index, words in enumerate((SIZES, COLOURS, KINDS)) for word in words}
_SMALL = SIZES[0]

Thing = tuple[str | None, str | None, str | None]
"""Size, colour and kind of an object, each None where nothing is said of it."""


@dataclass(frozen=True)
class Said:
    """What a caption says.

    Attributes:
        things: its objects in the order in which it names them.
        relations: how each is said to lie to the next.
    """

    things: tuple[Thing, ...]
    relations: tuple[str, ...]


def parse_caption(text: str) -> Said:
    """Reads a caption of the zoo's grammar; one that a model got wrong is read as far as it goes.

    An object ends at "a", at a relation, or where it would get a second size, colour or kind. Other words are
    passed over: they cannot be right, and `exact` counts them.

    Args:
        text: a caption, in any case.

    Returns:
        Its objects and relations.

    Examples:
        >>> parse_caption("a small red circle left of a big blue three")
        Said(things=(('small', 'red', 'circle'), ('big', 'blue', 'three')), relations=('left of',))
    """
    words = text.lower().split()
    things: list[list[str | None]] = []
    relations = []
    new = True
    for place, word in enumerate(words):
        relation = next((name for name in RELATIONS if words[place : place + len(name.split())] == name.split()), None)
        if relation is not None:
            relations.append(relation)
        if relation is not None or word == "a":
            new = True
        elif word in _FIELDS:
            field = _FIELDS[word]
            if new or things[-1][field] is not None:
                things.append([None, None, None])
            things[-1][field] = word
            new = False
    return Said(tuple((thing[0], thing[1], thing[2]) for thing in things), tuple(relations))


class SceneAttributes:
    """Judges captions of scenes, detail by detail; the `Attributes` of the zoo's captions.

    A call with a scene's index and a text gives, 0 (wrong) to 1 (right) or NaN (the scene has no such thing):

    - ``exact``: the text is the caption, word for word.
    - ``size``, ``colour``, ``kind``: the share of the scene's objects for which it is right. Objects are compared by
      their place in the caption, so naming them in the wrong order is wrong.
    - ``digit``: the same share of kinds, over the objects that are digits; NaN without any.
    - ``small``: the share of the small objects that are wholly right; NaN without any.
    - ``count``: as many objects are named as there are.
    - ``relation``: some relation is named, and none but the scene's; NaN for a single object.

    Args:
        scenes: whose captions are judged; their images are not kept.

    Examples:
        >>> from turbo.zoo.scenes import draw_scenes
        >>> scenes = draw_scenes("test", 2, seed=0)
        >>> SceneAttributes(scenes)(0, scenes.captions()[0])["exact"]
        1.0
    """

    def __init__(self, scenes: Scenes) -> None:
        self._captions = tuple(scenes.captions())
        self._shown = tuple(parse_caption(caption) for caption in self._captions)

    def __call__(self, example: int, text: str) -> dict[str, float]:
        """Scores a text as the caption of a scene."""
        said, shown = parse_caption(text), self._shown[example]
        named = (*said.things, *[(None, None, None)] * len(shown.things))  # what is not named is wrong
        pairs = list(zip(shown.things, named, strict=False))
        sizes, colours, kinds = ([thing[field] == name[field] for thing, name in pairs] for field in range(3))
        scores = {
            "exact": text.lower().split() == self._captions[example].split(),
            "size": _share(sizes),
            "colour": _share(colours),
            "kind": _share(kinds),
            "digit": _share([thing[2] == name[2] for thing, name in pairs if thing[2] in DIGITS]),
            "small": _share([thing == name for thing, name in pairs if thing[0] == _SMALL]),
            "count": len(said.things) == len(shown.things),
            "relation": set(said.relations) == set(shown.relations) if shown.relations else math.nan,
        }
        return {name: float(scores[name]) for name in ATTRIBUTES}


def _share(right: list[bool]) -> float:
    return sum(right) / len(right) if right else math.nan
