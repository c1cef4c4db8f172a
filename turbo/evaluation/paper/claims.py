"""What a table says, put as a comparison of two of its rows, and whether other figures say it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from turbo.evaluation.figures import Side, better, difference, figure
from turbo.evaluation.metrics.intervals import bootstrap
from turbo.evaluation.tasks.outcome import plain

Trend = Literal["rises", "falls", "even"]
EVEN = {"cider": 0.01, "nll": 0.01, "throughput": 0.02}
"""Changes that count as none: of CIDEr and throughput as a share of the first figure, of the likelihood in nats (it is
then 1% more or less likely that the right caption is written)."""
_ROUNDS = 5  # fewer say nothing about speed


@dataclass(frozen=True)
class Row:
    """The row that is compared: the only one that is named, or the one of best or worst CIDEr."""

    names: tuple[str, ...]
    which: Literal["best", "worst"] = "best"

    def pick(self, values: Mapping[str, float]) -> str:
        """Its name, by the figures of the table that is looked at."""
        return (max if self.which == "best" else min)(self.names, key=lambda name: values[name])


@dataclass(frozen=True)
class Claim:
    """What a table says about two of its rows.

    Attributes:
        text: in words, as a sentence.
        first: the row to start from.
        second: the row to go to.
        trend: what the figure does from the first to the second.
        metric: "cider", which is looked at together with the likelihood, or "throughput".
    """

    text: str
    first: Row
    second: Row
    trend: Trend
    metric: Literal["cider", "throughput"] = "cider"


@dataclass(frozen=True)
class Finding:
    """A claim, looked at in one set of figures.

    Attributes:
        metric: "cider" (0 to 10), "nll" (nats) or "throughput" (examples/s).
        rows: names of the first row and the second.
        values: their figures.
        change: second minus first; of throughput as a share of the first, in the median round.
        low: lower end of its 95% interval; None where there is none.
        high: upper end.
        seen: what it does, or "unclear".
    """

    metric: str
    rows: tuple[str, str]
    values: tuple[float, float]
    change: float
    low: float | None
    high: float | None
    seen: Trend | Literal["unclear"]

    @property
    def relative(self) -> float:
        """The change as a share of the first figure."""
        return self.change if self.metric == "throughput" else self.change / abs(self.values[0] or 1)

    def answer(self, trend: Trend) -> Literal["yes", "no", "unclear"]:
        """Whether it says what a claim says. A quality that rises is a likelihood whose minus logarithm falls."""
        if self.seen == "unclear":
            return "unclear"
        wanted = {"rises": "falls", "falls": "rises"}.get(trend, trend) if better(self.metric) < 0 else trend
        return "yes" if self.seen == wanted else "no"

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for `json.dumps`."""
        numbers = {name: plain(getattr(self, name)) for name in ("change", "relative")}
        ends = {name: None if (end := getattr(self, name)) is None else plain(end) for name in ("low", "high")}
        values = [plain(value) for value in self.values]
        return {"metric": self.metric, "rows": list(self.rows), "values": values, **numbers, **ends, "seen": self.seen}


def check_quality(claim: Claim, sides: Mapping[str, Side], metric: str) -> Finding:
    """Look at a claim about quality in what a model did in the settings of the rows, example by example."""
    ciders = {name: figure(sides[name], "cider").value for name in (*claim.first.names, *claim.second.names)}
    rows = claim.first.pick(ciders), claim.second.pick(ciders)
    first, second = (sides[name] for name in rows)
    change = difference(second, first, metric)
    values = figure(first, metric).value, figure(second, metric).value
    ends = [None if np.isnan(end) else end for end in (change.low, change.high)]
    margin = EVEN[metric] * (1 if metric == "nll" else abs(values[0]))
    seen = classify(claim.trend, change.low, change.high, margin)
    return Finding(metric, rows, values, change.value, ends[0], ends[1], seen)


def check_speed(claim: Claim, seconds: Mapping[str, Sequence[float]], count: int) -> Finding:
    """Look at a claim about speed in the rounds of the settings, timed in turn: in each, one time against the other.

    Args:
        claim: between two rows that are named alone.
        seconds: of each round, by the name of the row.
        count: examples of a call.
    """
    rows = claim.first.names[0], claim.second.names[0]
    first, second = (np.asarray(seconds[name]) for name in rows)
    values = count / float(np.median(first)), count / float(np.median(second))
    changes = first / second - 1
    if len(changes) < _ROUNDS:
        return Finding("throughput", rows, values, float(np.median(changes)), None, None, "unclear")
    found = bootstrap(lambda drawn: float(np.median(changes[drawn])), len(changes))
    seen = classify(claim.trend, found.low, found.high, EVEN["throughput"], small_is_even=True)
    return Finding("throughput", rows, values, found.value, found.low, found.high, seen)


def check_printed(claim: Claim, printed: Mapping[str, Mapping[str, float]]) -> tuple[str, str, float, float] | None:
    """The rows and figures that a paper has for a claim; None where it lacks a row.

    Args:
        claim: what is claimed.
        printed: row -> metric -> figure.
    """
    if not {*claim.first.names, *claim.second.names} <= set(printed):
        return None
    ciders = {name: row["cider"] for name, row in printed.items()}
    rows = claim.first.pick(ciders), claim.second.pick(ciders)
    return *rows, printed[rows[0]][claim.metric], printed[rows[1]][claim.metric]


def classify(
    trend: Trend, low: float, high: float, margin: float, *, small_is_even: bool = False
) -> Trend | Literal["unclear"]:
    """What an interval of a change says.

    Args:
        trend: what is claimed; a small but certain change counts as none only where "even" is claimed.
        low: lower end; NaN where it is unknown.
        high: upper end.
        margin: a change that counts as none.
        small_is_even: it counts as none whatever is claimed.

    Returns:
        "rises" or "falls" where 0 is outside, "even" where all of the interval is within the margin, else "unclear".

    Examples:
        >>> classify("falls", -9.0, -3.0, 1.0), classify("falls", -0.5, 0.4, 1.0), classify("falls", -9.0, 3.0, 1.0)
        ('falls', 'even', 'unclear')
        >>> classify("falls", -0.5, -0.1, 1.0), classify("even", -0.5, -0.1, 1.0)
        ('falls', 'even')
    """
    within = -margin <= low and high <= margin
    if within and (small_is_even or trend == "even" or low <= 0 <= high):
        return "even"
    if high < 0 or low > 0:
        if small_is_even and low < margin and high > -margin:
            return "unclear"  # beyond the margin or not: cannot be told
        return "falls" if high < 0 else "rises"
    return "unclear"
