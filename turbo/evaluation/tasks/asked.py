"""What tasks share in which a model is asked about images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from turbo.evaluation.data import Questions
from turbo.evaluation.tasks.job import Job


class Asked(Job[Questions]):
    """A model that is asked about images: each image of a batch is encoded once, for all its questions."""

    @property
    def examples(self) -> int:
        """Questions."""
        return len(self.data.questions)

    def look(self, rows: range) -> tuple[Tensor, list[int]]:
        """The image tokens that questions are about, `b n d`, and the index among them of each question's image."""
        shown = sorted({self.data.image_of[row] for row in rows})
        states: Tensor = self.model.vision_model(self.pixels.take(shown)).last_hidden_state
        return states, [shown.index(self.data.image_of[row]) for row in rows]

    def by_kind(self, metric: str, values: Sequence[float]) -> dict[str, list[float]]:
        """Splits a metric of all questions by their kinds: ``METRIC_KIND``, NaN for questions of other kinds."""
        return {
            f"{metric}_{kind}": [
                each if its == kind else math.nan for each, its in zip(values, self.data.kinds, strict=True)
            ]
            for kind in sorted(set(self.data.kinds))
        }
