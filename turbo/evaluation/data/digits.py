"""The scenes of the zoo's classifier as data, on either ground."""

from __future__ import annotations

from turbo.evaluation.data import Labelled
from turbo.evaluation.data.images import images_of_arrays
from turbo.zoo.digits import digit_scenes
from turbo.zoo.paint import Ground
from turbo.zoo.scans import Split
from turbo.zoo.words import DIGITS


def labelled_digits(ground: Ground, split: Split, count: int, seed: int) -> Labelled:
    """Scenes of one handwritten digit each.

    Args:
        ground: "plain" or "distractors".
        split: "train", "validation" or "test".
        count: scenes; the test part has 400 scans, which are shown in turn.
        seed: of the drawing.

    Returns:
        The scenes and their digits.

    Raises:
        TurboError: the split or the ground is unknown, or scikit-learn is not installed.
    """
    images, labels = digit_scenes(split, count, seed, ground=ground)
    name = f"digits:{ground} {split} seed {seed}"
    return Labelled(name, images_of_arrays(images), tuple(labels.tolist()), DIGITS, ("a {}",))
