"""How sure a figure is: 95% confidence intervals of means, of paired differences and of corpus figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from turbo.errors import TurboError

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
_NORMAL_95 = 1.959964  # standard errors on either side that hold 95% of a normal distribution


@dataclass(frozen=True)
class Interval:
    """A figure and its 95% confidence interval, in the figure's own unit.

    Attributes:
        value: the figure.
        low: lower end.
        high: upper end.
        count: examples that it was computed from.
    """

    value: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def excludes(self, number: float) -> bool:
        """Whether a number is outside, as 0 is for a significant difference; never, where the ends are NaN."""
        return number < self.low or number > self.high


def disjoint(parts: Iterable[Sequence[int] | None]) -> list[int] | None:
    """Groups of several sets of data one after the other: those of different sets are different ones.

    Examples:
        >>> disjoint([[0, 0, 1], [0, 1]])
        [0, 0, 1, 2, 3]
    """
    found: list[int] = []
    for part in parts:
        start = 1 + max(found, default=-1)
        found += [start + group for group in part or ()]
    return found or None


def mean_interval(values: Sequence[float] | Floats, groups: Sequence[int] | None = None) -> Interval:
    """The mean of per-example values and its interval, by the central limit theorem: 1.96 standard errors.

    NaN says that a value does not exist for an example; such examples are left out, and `count` is of the others.
    With fewer than two examples or groups left the ends are NaN, with none the mean too. The interval is for dozens
    of examples and more; below that, and where all values are the same, it is too narrow.

    Args:
        values: one for each example.
        groups: what each example belongs to, as the image of a question. Values of one group may depend on each
            other; the error is then estimated from the groups' sums (the cluster-robust estimate; Liang & Zeger,
            Biometrika 1986). Without it, examples are taken to be independent.

    Returns:
        The mean and its interval.

    Raises:
        TurboError: a value is infinite, or there are not as many groups as values.

    Examples:
        >>> mean = mean_interval([0.0, 1.0, 1.0, 0.0, float("nan")])
        >>> mean.value, round(mean.half_width, 3), mean.count
        (0.5, 0.566, 4)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise TurboError(f"values of shape {numbers.shape}: give one for each example")
    if np.isinf(numbers).any():
        raise TurboError("a value is infinite: it has no mean")
    if groups is not None and len(groups) != len(numbers):
        raise TurboError(f"{len(groups)} groups for {len(numbers)} values: say for each what it belongs to")
    kept = ~np.isnan(numbers)
    group = np.arange(len(numbers)) if groups is None else np.asarray(groups)
    numbers, group = numbers[kept], group[kept]
    if not len(numbers):
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(numbers.mean())
    _, index = np.unique(group, return_inverse=True)
    sums = np.bincount(index, weights=numbers - mean)
    if len(sums) < 2:
        return Interval(mean, math.nan, math.nan, len(numbers))
    error = math.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(numbers)
    return Interval(mean, mean - _NORMAL_95 * error, mean + _NORMAL_95 * error, len(numbers))


def paired_interval(
    first: Sequence[float] | Floats, second: Sequence[float] | Floats, groups: Sequence[int] | None = None
) -> Interval:
    """The mean of ``first - second``, example by example, and its interval.

    Both sides saw the same examples, so what makes an example hard cancels out: far smaller differences can be told
    from chance than by two separate intervals. An example with NaN on either side is left out.

    Args:
        first: one value for each example.
        second: the other side's, in the same order.
        groups: as for `mean_interval`.

    Returns:
        The mean difference and its interval; it is significant where the interval `excludes(0)`.

    Raises:
        TurboError: the sides differ in length, or as for `mean_interval`.

    Examples:
        >>> paired_interval([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]).excludes(0)
        True
    """
    if len(first) != len(second):
        raise TurboError(f"{len(first)} values against {len(second)}: a paired difference needs the same examples")
    for side in (first, second):
        if np.isinf(np.asarray(side, dtype=np.float64)).any():
            raise TurboError("a value is infinite: it has no mean")
    return mean_interval(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), groups)


def bootstrap(statistic: Callable[[Rows], float], count: int, *, resamples: int = 1000, seed: int = 0) -> Interval:
    """The interval of a figure that is no mean of examples, such as BLEU, by the percentile bootstrap (Efron, 1979).

    For a difference of two sides give one statistic that takes the same rows of both, so that they stay paired:
    ``bootstrap(lambda rows: first(rows) - second(rows), count)``.

    Args:
        statistic: indices of examples, some repeated -> the figure of the corpus they make up.
        count: number of examples, `b`.
        resamples: how many corpora of `b` examples are drawn, with replacement.
        seed: the same seed draws the same corpora.

    Returns:
        The figure of all examples, and the range that holds the middle 95% of the drawn ones.

    Raises:
        TurboError: fewer than 2 examples or 100 resamples, or the figure is not finite for some corpus.

    Examples:
        >>> values = np.arange(50.0)
        >>> found = bootstrap(lambda rows: float(np.median(values[rows])), 50)
        >>> found.value, found.excludes(24.5), found.excludes(0)
        (24.5, False, True)
    """
    if count < 2 or resamples < 100:
        raise TurboError(f"{count} examples, {resamples} resamples: a bootstrap needs 2 and 100 or more")
    rng = np.random.default_rng(seed)
    value = statistic(np.arange(count))
    drawn = [statistic(rng.integers(count, size=count)) for _ in range(resamples)]
    if not np.isfinite([value, *drawn]).all():
        raise TurboError("the figure is not finite for some choice of examples, so it has no interval")
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(float(value), float(low), float(high), count)
