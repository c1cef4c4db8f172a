"""What blocks cost in seconds, from a few measured points; and the plans that follow. Nothing is timed here."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from turbo.errors import TurboError
from turbo.flops import BlockFlops
from turbo.plan import Plan
from turbo.schedule import Schedule

Rates = tuple[tuple[int, float], ...]
"""Tokens and the seconds that one FLOP took with so many, the fewest tokens first."""


@dataclass(frozen=True)
class BlockTimes:
    """Seconds of one transformer block: `BlockFlops`, each FLOP at the rate that was measured near its tokens.

    Between two measured numbers of tokens the rate is interpolated, beyond them it is that of the nearest.

    Attributes:
        flops: the block's FLOPs.
        untouched: rates of the block's own forward.
        merging: rates under turbo where tokens merge.
        plain: rates under turbo where none does.

    Examples:
        >>> flops = BlockFlops(attention_per_token=8, mlp_per_token=16, width=1, metric_width=1)
        >>> times = BlockTimes(flops, untouched=((8, 1.0),), merging=((4, 3.0), (8, 2.0)), plain=((8, 1.0),))
        >>> times(8, 8) / flops(8, 8), times(8, 6) / flops(8, 6), times(6, 4) / flops(6, 4)
        (1.0, 2.0, 2.5)
    """

    flops: BlockFlops
    untouched: Rates
    merging: Rates
    plain: Rates

    def __call__(self, before: int, after: int) -> float:
        """Seconds under turbo: `before` tokens in attention, `after` in the MLP."""
        return self.flops(before, after) * rate_at(self.merging if after < before else self.plain, before)

    def seconds_untouched(self, n: int) -> float:
        """Seconds of the block's own forward on n tokens."""
        return self.flops(n, n) * rate_at(self.untouched, n)

    def joined(self, other: BlockTimes) -> BlockTimes:
        """Both blocks' points: those of the same block at other numbers of tokens."""
        pairs = ((self.untouched, other.untouched), (self.merging, other.merging), (self.plain, other.plain))
        return BlockTimes(self.flops, *(tuple(sorted({**dict(a), **dict(b)}.items())) for a, b in pairs))


def rate_at(rates: Rates, tokens: int) -> float:
    """The rate at a number of tokens: a straight line between neighbours, constant beyond the first and the last.

    Examples:
        >>> [rate_at(((10, 3.0), (20, 1.0)), n) for n in (5, 10, 15, 25)]
        [3.0, 3.0, 2.0, 1.0]
    """
    place = bisect_left(rates, (tokens,))
    if place in (0, len(rates)):
        return rates[min(place, len(rates) - 1)][1]
    (low, slow), (high, fast) = rates[place - 1 : place + 1]
    return slow + (fast - slow) * (tokens - low) / (high - low)


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios within rounds: a drift of the machine hits both times of a round.

    Args:
        over: seconds of each round.
        under: seconds of the same rounds.

    Examples:
        >>> median_ratio([4.0, 6.0, 5.0], [2.0, 3.0, 4.0])
        2.0
    """
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


@dataclass(frozen=True)
class Measured:
    """The whole stack of blocks, timed untouched and accelerated in turn, on random tokens.

    Attributes:
        n: tokens that entered the first block.
        images: images per call.
        seconds_untouched: of a call of the untouched blocks, the median over rounds.
        seconds: of a call of the accelerated blocks, the median over rounds.
        speedup: the untouched blocks' time / the accelerated ones' of the same round, the median over rounds.
        where: the type of the tokens and the device; a model that is moved afterwards keeps what was measured there.
    """

    n: int
    images: int
    seconds_untouched: float
    seconds: float
    speedup: float
    where: str

    def __str__(self) -> str:
        images = f"{self.images} image{'s' * (self.images > 1)}"
        before, after = (f"{1000 * seconds:.3g} ms" for seconds in (self.seconds_untouched, self.seconds))
        return f"measured: {before} untouched, {after} accelerated, {images} per call, {self.n} tokens, {self.where}"

    @classmethod
    def from_rounds(
        cls, n: int, images: int, untouched: Sequence[float], accelerated: Sequence[float], where: str
    ) -> Measured:
        """From the seconds of each round, untouched and accelerated.

        Examples:
            >>> print(Measured.from_rounds(197, 1, [0.4, 0.6, 0.5], [0.2, 0.3, 0.4], "float32 on cpu"))
            measured: 500 ms untouched, 300 ms accelerated, 1 image per call, 197 tokens, float32 on cpu
        """
        medians = statistics.median(untouched), statistics.median(accelerated)
        return cls(n, images, *medians, median_ratio(untouched, accelerated), where)


@dataclass(frozen=True)
class Calibration:
    """What a speed-up in time is solved from.

    Attributes:
        blocks: the times of each block, one by one.
        images: images per call.
        correction: what the untouched blocks' time is multiplied by, so that the plans that follow reach in the whole
            stack what the blocks promise one by one.
        measured: the whole stack with the plan for the model's own number of tokens.
    """

    blocks: tuple[BlockTimes, ...]
    images: int
    correction: float = 1.0
    measured: Measured | None = None

    def seconds_untouched(self, n: int) -> float:
        """Seconds of all untouched blocks on n tokens, corrected."""
        return self.correction * sum(block.seconds_untouched(n) for block in self.blocks)

    def predicted(self, plan: Plan) -> float:
        """By which factor a plan should make the blocks faster."""
        return plan.speedup(self.blocks, self.seconds_untouched(plan.n))

    def plan(self, schedule: Schedule, n: int, protected: int) -> Plan:
        """The plan for a speed-up in time.

        Raises:
            TurboError: it is out of reach.
        """
        untouched = self.seconds_untouched(n)
        try:
            return schedule.plan(n, len(self.blocks), protected, self.blocks, untouched=untouched)
        except TurboError as error:
            images = f"{self.images} image{'s' * (self.images > 1)}"
            raise TurboError(
                f"{error}. That is time, measured with {images} per call: ask for less, calibrate with the images per "
                "call that you will use, or leave calibrate out for a factor of FLOPs"
            ) from None

    def corrected(self, plan: Plan, measured: Measured) -> Calibration:
        """The same, after a plan was measured in the whole stack: what it predicts for that plan is then what was met.

        Examples:
            >>> rates = ((8, 1.0),)
            >>> times = BlockTimes(BlockFlops(8, 16, 1, 1), rates, rates, rates)
            >>> plan = Plan(8, (2, 2))
            >>> met = Measured.from_rounds(8, 1, [3.0], [2.0], "float32 on cpu")
            >>> round(Calibration((times, times), images=1).corrected(plan, met).predicted(plan), 6)
            1.5
        """
        correction = self.correction * measured.speedup / self.predicted(plan)
        return replace(self, correction=correction, measured=measured)
