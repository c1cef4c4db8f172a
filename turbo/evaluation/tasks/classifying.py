"""Images told apart by their classes: by a classifier's logits, or by the texts that name the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from turbo.errors import TurboError
from turbo.evaluation.data import Labelled
from turbo.evaluation.metrics.retrieval import top_1
from turbo.evaluation.tasks.embeddings import embed_images, embed_texts, embeds_both, temperature
from turbo.evaluation.tasks.job import Job
from turbo.evaluation.tasks.outcome import Outcome


class Classifying(Job[Labelled]):
    """Classification.

    - ``top1``: whether the right class is first.
    - ``nll``: minus the log-probability (nats) of the right class.

    A model with images and texts in one space compares each image with its classes, as CLIP does (Radford et al.,
    ICML 2021): the vector of a class is the mean over the templates, encoded once.
    """

    main: ClassVar[str] = "top1"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._classes: Tensor | None = None

    def outcome(self, on_batch: Callable[[], None] = lambda: None) -> Outcome:
        """Run the model as it is now on all images."""
        logits = torch.cat([self._logits(self.pixels.take(rows)) for rows in self.rows(on_batch)]).cpu()
        labels = torch.tensor(self.data.labels)
        per_example = {"top1": top_1(logits, self.data.labels).tolist()}
        if not embeds_both(self.model) or temperature(self.model) is not None:
            per_example["nll"] = functional.cross_entropy(logits, labels, reduction="none").tolist()
        return Outcome(per_example, predictions=logits.argmax(1).tolist())

    def _logits(self, pixels: Tensor) -> Tensor:
        if embeds_both(self.model):
            return (temperature(self.model) or 1.0) * embed_images(self.model, pixels) @ self._encoded().T
        found = self.model(pixels)
        logits: Tensor = getattr(found, "logits", found).float()
        if logits.shape[1:] != (len(self.data.classes),):
            classes = " x ".join(map(str, logits.shape[1:]))
            raise TurboError(
                f"{self.loaded.name} tells {classes} classes apart, and {self.data.name} has "
                f"{len(self.data.classes)}: give the data that it was trained for"
            )
        return logits

    def _encoded(self) -> Tensor:
        """A unit vector for each class, `c d`."""
        if self._classes is None:
            found = []
            for name in self.data.classes:
                lines = [template.format(name) for template in self.data.templates]
                found.append(embed_texts(self.model, self.texts(lines, cut=True)).mean(0))
            self._classes = functional.normalize(torch.stack(found), dim=-1)
        return self._classes
