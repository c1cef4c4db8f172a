"""Images found by texts and texts by images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from turbo.evaluation.data import Captions
from turbo.evaluation.metrics.retrieval import recall_at
from turbo.evaluation.tasks.embeddings import embed_images, embed_texts, temperature
from turbo.evaluation.tasks.job import Job
from turbo.evaluation.tasks.outcome import Outcome

RANKS = (1, 5, 10)


class Finding(Job[Captions]):
    """Retrieval by the cosine of embeddings. Texts are encoded once; turbo leaves them as they are.

    A text that is longer than the model reads is cut, as in CLIP's own protocol.

    - ``image_to_text_r1``, ``_r5``, ``_r10``: of each image, whether one of its texts is among the first k.
    - ``text_to_image_r1`` and so on: of each text, whether its image is.
    - ``mean_r1``: for each image, the mean of the two: its own hit and the mean of its texts' hits. Where all images
      have as many texts this is the mean of both R@1.
    - ``nll``: the model's contrastive loss over all candidates, mean of both directions: minus the log-probability
      (nats) of what is right, smooth where R@1 jumps. Only where the model has its temperature.
    """

    main: ClassVar[str] = "mean_r1"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        pairs = [(row, text) for row, texts in enumerate(self.data.references) for text in texts]
        self.image_of, self.lines = [row for row, _ in pairs], [text for _, text in pairs]
        self._text: Tensor | None = None

    def outcome(self, on_batch: Callable[[], None] = lambda: None) -> Outcome:
        """Run the model as it is now on all images, and look for everything."""
        image = torch.cat([embed_images(self.model, self.pixels.take(rows)) for rows in self.rows(on_batch)])
        scores = (image @ self._encoded().T).cpu()
        found = recall_at(scores, self.image_of, RANKS, texts=self.lines)
        per_example: dict[str, list[float]] = {}
        directions = {"image_to_text": found.image_to_text, "text_to_image": found.text_to_image}
        for name, hits in directions.items():
            per_example |= {f"{name}_r{rank}": hits[rank].tolist() for rank in RANKS}
        per_example["mean_r1"] = self._both(found.image_to_text[1], found.text_to_image[1])
        if (scale := temperature(self.model)) is not None:
            per_example["nll"] = self._loss(scale * scores)
        return Outcome(per_example)

    def _encoded(self) -> Tensor:
        if self._text is None:
            parts = [self.lines[start : start + 256] for start in range(0, len(self.lines), 256)]
            self._text = torch.cat([embed_texts(self.model, self.texts(part, cut=True)) for part in parts])
        return self._text

    def _loss(self, logits: Tensor) -> list[float]:
        logits, image_of = logits.double(), torch.tensor(self.image_of)
        own = logits[image_of, torch.arange(len(image_of))]
        # Any of an image's texts is right for it.
        shares = (own - logits.logsumexp(1)[image_of]).exp().numpy()
        forth = -np.log(np.bincount(self.image_of, weights=shares))
        return self._both(forth, (logits.logsumexp(0) - own).numpy())

    def _both(self, by_image: Any, by_text: Any) -> list[float]:
        """A value of each image with the mean of its texts' values."""
        texts = np.bincount(self.image_of, weights=by_text) / np.bincount(self.image_of)
        mean: list[float] = ((by_image + texts) / 2).tolist()
        return mean
