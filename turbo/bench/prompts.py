"""What is asked of a generator: class names of ImageNet, captions of the zoo's scenes, or a file's lines."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from turbo.errors import TurboError

if TYPE_CHECKING:
    from turbo.zoo.captioned import SceneLabels

SCENES = 2000
SCENES_SEED = 5  # of the held-out scenes; no other part of the project draws test scenes with it


@dataclass(frozen=True)
class Prompts:
    """Prompts of a run. Image i gets prompt i modulo their number, so more images never change earlier ones.

    Attributes:
        name: as it was asked for.
        texts: the prompts.
        labels: what each should show, where the scene judge can tell.
        drawn: images that show what the prompts say, uint8 ``n 3 h w``: a reference at hand.
    """

    name: str
    texts: tuple[str, ...]
    labels: SceneLabels | None = None
    drawn: Tensor | None = None

    def of(self, index: int) -> str:
        """The prompt of an image."""
        return self.texts[index % len(self.texts)]

    def labels_of(self, count: int) -> SceneLabels | None:
        """What the first `count` images should show; None where only a person can tell."""
        return None if self.labels is None else self.labels[[index % len(self.texts) for index in range(count)]]

    @property
    def digest(self) -> str:
        """A fingerprint of the texts: a file that was edited makes other images."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()[:16]


def find_prompts(spec: str) -> Prompts:
    """The prompts that a name stands for.

    Args:
        spec: "imagenet": ``a photo of a {class}`` for the 1,000 classes, as in the paper; "scenes": captions of the
            zoo's held-out scenes; or a text file, one prompt per line (empty lines are skipped).

    Raises:
        TurboError: no such file, an empty one, or the package with the class names is missing.
    """
    if spec == "imagenet":
        return Prompts(spec, tuple(f"a photo of a {name}" for name in _imagenet_classes()))
    if spec == "scenes":
        from turbo.zoo.captioned import captioned_scenes

        images, captions, labels = captioned_scenes("test", SCENES, SCENES_SEED)
        return Prompts(spec, tuple(captions), labels, torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    path = Path(spec)
    if not path.is_file():
        raise TurboError(f"prompts {spec!r}: must be imagenet, scenes or a text file, and there is no such file")
    texts = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not texts:
        raise TurboError(f"prompts {spec!r}: the file has no lines with text")
    return Prompts(spec, texts)


def _imagenet_classes() -> list[str]:
    try:
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    except ImportError as error:
        raise TurboError(
            'the class names of ImageNet come with open_clip_torch: pip install "turbo-vlm[eval]"'
        ) from error
    return list(IMAGENET_CLASSNAMES)
