"""Figures with their 95% intervals: of a setting, and of its difference from another on the same examples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from turbo.evaluation.data import Captions, Data, Questions
from turbo.evaluation.metrics.intervals import Interval, Rows, bootstrap, disjoint, mean_interval, paired_interval
from turbo.evaluation.metrics.text_metrics import bleu_on
from turbo.evaluation.tasks.outcome import Outcome

LOWER_IS_BETTER = ("nll",)
RESAMPLES = 500  # corpora that are drawn for the interval of a figure that is no mean


class Side:
    """What one setting did on all the sets of data of a part: one for each seed, pooled.

    Args:
        data: the sets.
        outcomes: of each of them.
    """

    def __init__(self, data: Sequence[Data], outcomes: Sequence[Outcome]) -> None:
        self.data = data
        self.outcomes = outcomes

    @property
    def metrics(self) -> list[str]:
        """The names of its figures: those that every set of data has."""
        first, *others = ([*each.per_example, *each.corpus] for each in self.outcomes)
        return [name for name in first if all(name in other for other in others)]

    def values(self, metric: str) -> list[float]:
        """A metric of all examples, one set of data after the other."""
        return list(itertools.chain.from_iterable(each.per_example[metric] for each in self.outcomes))

    def groups(self, metric: str) -> list[int] | None:
        """What each value depends on, where several share it: the image of questions, and of texts that look for it."""
        parts: list[Sequence[int]] = []
        for each in self.data:
            if isinstance(each, Questions):
                parts.append(each.image_of)
            elif isinstance(each, Captions) and metric.startswith("text_to_image"):
                parts.append([row for row, texts in enumerate(each.references) for _ in texts])
        return disjoint(parts)

    def is_mean(self, metric: str) -> bool:
        """Whether a metric is a mean over examples."""
        return metric in self.outcomes[0].per_example

    @cached_property
    def bleu(self) -> tuple[Callable[[Rows], float], int]:
        """BLEU@4, the one figure that is no mean, of any choice of images, and their number."""
        captions: list[str] = []
        references: list[tuple[str, ...]] = []
        for each, outcome in zip(self.data, self.outcomes, strict=True):
            assert isinstance(each, Captions)
            assert outcome.predictions is not None
            captions += [str(text) for text in outcome.predictions]
            references += each.references
        return bleu_on(captions, references), len(captions)


def figure(side: Side, metric: str) -> Interval:
    """A metric of a side, over all of its data."""
    if side.is_mean(metric):
        return mean_interval(side.values(metric), side.groups(metric))
    score, count = side.bleu
    return bootstrap(score, count, resamples=RESAMPLES)


def difference(side: Side, other: Side, metric: str) -> Interval:
    """By how much a metric of one side is larger than that of another, example by example."""
    if side.is_mean(metric):
        return paired_interval(side.values(metric), other.values(metric), side.groups(metric))
    (first, count), (second, _) = side.bleu, other.bleu
    return bootstrap(lambda rows: first(rows) - second(rows), count, resamples=RESAMPLES)


def by_data(side: Side, metric: str) -> list[float]:
    """A metric of each set of data by itself."""
    return [outcome.metrics[metric] for outcome in side.outcomes]


def relative(change: Interval, value: Interval) -> float:
    """A difference as a share of what it is a difference from; NaN where that is 0.

    Args:
        change: the value minus another's.
        value: itself.
    """
    base = value.value - change.value
    return change.value / abs(base) if base else math.nan


def better(metric: str) -> int:
    """1 where a larger value is better, -1 where a smaller one is."""
    return -1 if metric in LOWER_IS_BETTER else 1


def verdict(change: Interval, metric: str) -> str:
    """Whether a difference is "better", "worse" or "even" (0 is inside its 95% interval)."""
    if np.isnan(change.value) or not change.excludes(0):
        return "even"
    return "better" if change.value * better(metric) > 0 else "worse"
