"""What models are measured on: images and their right answers, one class for each kind of task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

Images = Sequence["Image.Image"]
"""RGB images; those of a folder are read when they are asked for."""

Attributes = Callable[[int, str], dict[str, float]]
"""``(example, text) -> scores``: for each attribute of an example's right answer, whether a text got it right."""


@dataclass(frozen=True)
class Captions:
    """Images to be described, or to be found by their descriptions.

    Attributes:
        name: of the data, its part and seed.
        images: `b`.
        references: each image's captions, one or more.
        attributes: judges a caption attribute by attribute, where the data know more than captions.
    """

    name: str
    images: Images
    references: tuple[tuple[str, ...], ...]
    attributes: Attributes | None = None


@dataclass(frozen=True)
class Questions:
    """Questions about images.

    Attributes:
        name: of the data, its part and seed.
        images: `b`.
        image_of: index of the image that each question is about, `q`.
        questions: `q`.
        answers: the answers that people gave to each question, one or more.
        kinds: what kind of question each is; figures are reported for each kind, too.
    """

    name: str
    images: Images
    image_of: tuple[int, ...]
    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Labelled:
    """Images of known classes.

    Attributes:
        name: of the data, its part and seed.
        images: `b`.
        labels: index of each image's class, `b`.
        classes: names of the classes, in the order of a classifier's outputs.
        templates: sentences with ``{}`` for a class, for models that compare images with texts.
    """

    name: str
    images: Images
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    templates: tuple[str, ...] = ("a photo of a {}",)


Data = Captions | Questions | Labelled
