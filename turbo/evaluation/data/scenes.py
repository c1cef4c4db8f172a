"""The zoo's scenes as data: captions, questions, pairs, retrieval and classes, on either ground."""

from __future__ import annotations

import math

import numpy as np

from turbo.evaluation.data import Captions, Labelled, Questions
from turbo.evaluation.data.images import images_of_arrays
from turbo.evaluation.metrics.attributes import SceneAttributes
from turbo.zoo.paint import Ground
from turbo.zoo.pairs import matching_pairs
from turbo.zoo.questions import ask
from turbo.zoo.scans import Split
from turbo.zoo.scenes import Scenes, draw_scenes
from turbo.zoo.words import COLOURS, KINDS, SIZES

QUESTIONS = 2  # about each scene, at most
_ALONE = (1.0, 0.0, 0.0)  # shares of scenes with one, two and three objects
TEMPLATES = tuple(f"a {size} {colour} {{}}" for size in SIZES for colour in COLOURS)


def scene_captions(ground: Ground, split: Split, count: int, seed: int) -> Captions:
    """Scenes with their one caption each, judged detail by detail.

    Args:
        ground: "plain" or "distractors"; the same seed puts the same objects on either.
        split: "train", "validation" or "test".
        count: scenes.
        seed: of the drawing.

    Returns:
        The captions.

    Raises:
        TurboError: the split or the ground is unknown, or scikit-learn is not installed.
    """
    scenes = draw_scenes(split, count, seed, ground)
    return _captions(scenes, _name(ground, split, seed), SceneAttributes(scenes))


def scene_retrieval(ground: Ground, split: Split, count: int, seed: int) -> Captions:
    """Scenes whose captions all differ, so that each has one right answer.

    More scenes are drawn than asked for, and of those with the same caption the first is kept. There are only 180
    captions of a single object, so in large sets fewer scenes have one than elsewhere.

    Args:
        ground: as for `scene_captions`; for the same seed the same captions are kept on either.
        split: as for `scene_captions`.
        count: scenes.
        seed: of the drawing.

    Returns:
        The captions, the first `count` different ones.

    Raises:
        TurboError: as for `scene_captions`.
    """
    drawn = count
    first: list[int] = []
    while len(first) < count:
        drawn = math.ceil(1.3 * drawn) + 10
        scenes = draw_scenes(split, drawn, seed, ground)
        first = sorted({caption: row for row, caption in reversed(list(enumerate(scenes.captions())))}.values())
    return _captions(scenes[np.array(first[:count])], f"{_name(ground, split, seed)} retrieval", None)


def scene_questions(ground: Ground, split: Split, count: int, seed: int) -> Questions:
    """Questions about scenes, at most two for each, with one answer each.

    Args:
        ground: as for `scene_captions`.
        split: as for `scene_captions`.
        count: scenes.
        seed: of the drawing and the questions.

    Returns:
        The questions, scene by scene.

    Raises:
        TurboError: as for `scene_captions`.
    """
    scenes = draw_scenes(split, count, seed, ground)
    rows, texts, answers, kinds = zip(*ask(scenes, seed, QUESTIONS), strict=True)
    return Questions(
        _name(ground, split, seed),
        images_of_arrays(scenes.images),
        image_of=tuple(rows),
        questions=tuple(texts),
        answers=tuple((answer,) for answer in answers),
        kinds=tuple(kinds),
    )


def scene_pairs(ground: Ground, split: Split, count: int, seed: int) -> Questions:
    """Scenes with two texts each, "yes" to its caption and "no" to one with something wrong.

    Args:
        ground: as for `scene_captions`.
        split: as for `scene_captions`.
        count: scenes.
        seed: of the drawing and the texts.

    Returns:
        The texts as questions, scene by scene, by kind of what is wrong.

    Raises:
        TurboError: as for `scene_captions`.
    """
    scenes = draw_scenes(split, count, seed, ground)
    pairs = matching_pairs(scenes, seed)
    return Questions(
        f"{_name(ground, split, seed)} matching",
        images_of_arrays(scenes.images),
        image_of=tuple(pair.row for pair in pairs),
        questions=tuple(pair.text for pair in pairs),
        answers=tuple(("yes" if pair.matches else "no",) for pair in pairs),
        kinds=tuple(pair.kind for pair in pairs),
    )


def scene_classes(ground: Ground, split: Split, count: int, seed: int) -> Labelled:
    """Scenes with a single object; its kind is the class. The templates name all sizes and colours.

    Args:
        ground: as for `scene_captions`.
        split: as for `scene_captions`.
        count: scenes.
        seed: of the drawing.

    Returns:
        The scenes and their classes.

    Raises:
        TurboError: as for `scene_captions`.
    """
    scenes = draw_scenes(split, count, seed, ground, _ALONE)
    labels = tuple(scenes.kind[:, 0].tolist())
    return Labelled(_name(ground, split, seed), images_of_arrays(scenes.images), labels, KINDS, TEMPLATES)


def _name(ground: str, split: str, seed: int) -> str:
    return f"scenes:{ground} {split} seed {seed}"


def _captions(scenes: Scenes, name: str, attributes: SceneAttributes | None) -> Captions:
    references = tuple((caption,) for caption in scenes.captions())
    return Captions(name, images_of_arrays(scenes.images), references, attributes)
