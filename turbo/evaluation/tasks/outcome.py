"""What one setting of a model did on one set of data, as it is kept in a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_DIGITS = 6  # after the point, in files


@dataclass(frozen=True)
class Outcome:
    """What a model in one setting did on one set of data.

    Attributes:
        per_example: metric -> one value for each example (image, question or text), NaN where it has none.
        corpus: metrics that are no means of examples.
        predictions: texts that the model wrote or indices of classes, one for each example; None where it ranked.
    """

    per_example: Mapping[str, Sequence[float]]
    corpus: Mapping[str, float] = field(default_factory=dict)
    predictions: Sequence[str | int] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the whole data: means over the examples that have a value, and figures of the corpus."""
        means = {name: _mean(values) for name, values in self.per_example.items()}
        return {**means, **self.corpus}

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for `json.dumps`; NaN is null."""
        return {
            "metrics": {name: plain(value) for name, value in self.metrics.items()},
            "per_example": {name: [plain(value) for value in values] for name, values in self.per_example.items()},
            "corpus": dict(self.corpus),
            "predictions": None if self.predictions is None else list(self.predictions),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Outcome:
        """What `to_json` made."""
        values = {
            name: [math.nan if value is None else value for value in row] for name, row in found["per_example"].items()
        }
        return cls(values, found["corpus"], found["predictions"])


def plain(value: float) -> float | None:
    """A number as JSON has it: without NaN, and no longer than it is exact."""
    return round(float(value), _DIGITS) if math.isfinite(value) else None


def _mean(values: Sequence[float]) -> float:
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if len(numbers) else math.nan
