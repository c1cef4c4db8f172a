"""How many tokens each block merges: from what the user asked for to one count per block.

Plain integers, standard library only: a plan depends on the number of tokens, never on their content, so
shapes are static and a model compiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from turbo import defaults
from turbo.drops import SHAPES, Shape, share_out, top_level
from turbo.errors import TurboError
from turbo.levels import find_level
from turbo.plan import Cost, Plan


def most_mergeable(n: int, protected: int = 0) -> int:
    """How many tokens of a sequence can merge at once: half of the unprotected ones, rounded down.

    Examples:
        >>> most_mergeable(197, protected=1), most_mergeable(1)
        (98, 0)
    """
    return max(0, n - protected) // 2


@dataclass(frozen=True)
class Schedule:
    """What the user asked for. At most one of drop, ratio and speedup.

    Attributes:
        drop: Υ, tokens merged per block: one count for all, or one per block.
        ratio: fraction of the tokens a block sees that it merges, above 0 and at most 0.5.
        speedup: wanted factor by which the blocks' FLOPs fall, above 1.
        threshold: a block merges only while its sequence is at least this long (supplement, section 1.1).
        min_tokens: no merge leaves fewer tokens than this; the last one is clipped.
        schedule: how a speedup is spread over the blocks, by name (see `turbo.drops`); None takes the default.

    Examples:
        >>> Schedule(drop=8).plan(n=50, blocks=3, protected=1).tokens
        (50, 42, 34, 26)
    """

    drop: int | tuple[int, ...] | None = None
    ratio: float | None = None
    speedup: float | None = None
    threshold: int = 0
    min_tokens: int = 0
    schedule: Shape | None = None

    def __post_init__(self) -> None:
        given = {k: v for k in ("drop", "ratio", "speedup") if (v := getattr(self, k)) is not None}
        if len(given) > 1:
            found = " and ".join(f"{k}={v!r}" for k, v in given.items())
            raise TurboError(f"{found} exclude each other: each alone says how much to merge; give one")
        for name, value in (("threshold", self.threshold), ("min_tokens", self.min_tokens)):
            _require_count(name, value)
        if self.drop is not None:
            object.__setattr__(self, "drop", _checked_drop(self.drop))
        if self.ratio is not None and not (_is_real(self.ratio) and 0 < self.ratio <= 0.5):
            raise TurboError(
                f"ratio={self.ratio!r}: a block can merge a fraction above 0 and at most 0.5 of its tokens (a "
                "token merges into one of the other half)"
            )
        if self.speedup is not None and not (_is_real(self.speedup) and self.speedup > 1):
            raise TurboError(f"speedup={self.speedup!r}: must be a factor above 1, such as 1.5")
        if self.schedule is not None:
            _check_schedule(self.schedule, given)

    def check_blocks(self, blocks: int) -> None:
        """Raise TurboError where a list of drops does not fit the number of blocks."""
        if isinstance(self.drop, tuple) and len(self.drop) != blocks:
            raise TurboError(
                f"drop has {len(self.drop)} counts and the model has {blocks} blocks: give one count per block, "
                "or a single int"
            )

    def is_off(self) -> bool:
        """True where the user asked for no merging at all (drop = 0)."""
        return self.drop == 0 or (isinstance(self.drop, tuple) and not any(self.drop))

    def plan(
        self,
        n: int,
        blocks: int,
        protected: int = 0,
        flops: Sequence[Cost] | None = None,
        *,
        untouched: float | None = None,
    ) -> Plan:
        """Solve for one count per block.

        Args:
            n: tokens that enter the first block.
            blocks: number of blocks.
            protected: leading tokens that never merge.
            flops: cost of each block; only `speedup` needs it.
            untouched: what all blocks cost untouched, where that is another cost than `flops` says of n tokens in and
                out of each: where costs are seconds.

        Returns:
            The plan, with a note on everything that could not be done as asked.

        Raises:
            TurboError: counts do not fit the blocks, a drop is no smaller than the whole sequence, or the
                speed-up is out of reach.
        """
        self.check_blocks(blocks)
        if self.speedup is not None:
            if flops is None:
                raise TurboError("a speedup needs the blocks' FLOPs; give a drop instead")
            return self._plan_speedup(n, protected, flops, untouched)
        wanted = self._wanted(n, blocks, protected)
        counts, capped = self._run(n, protected, wanted)
        return Plan(n, tuple(counts), self._notes(n, counts, capped))

    def _wanted(self, n: int, blocks: int, protected: int) -> list[Callable[[int], int]]:
        """For each block the count asked for, as a function of the tokens it sees."""
        if self.ratio is not None:
            ratio = self.ratio
            # Rounding may not exceed what the ratio's bound of one half allows once tokens are protected.
            return [lambda left: min(round(ratio * left), most_mergeable(left, protected))] * blocks
        if self.drop is None:
            drops = share_out(defaults.SCHEDULE, round(defaults.MERGED_SHARE * n), blocks)
        else:
            drops = [self.drop] * blocks if isinstance(self.drop, int) else list(self.drop)
            if max(drops) >= n:
                raise TurboError(f"drop={max(drops)}: the model has only {n} tokens; give a smaller drop")
        return [_constant(count) for count in drops]

    def _run(self, n: int, protected: int, wanted: Sequence[Callable[[int], int]]) -> tuple[list[int], list[int]]:
        """Counts per block, and the blocks where half the tokens was not enough for the count asked for."""
        counts, capped, left = [], [], n
        for depth, want in enumerate(wanted):
            count = want(left) if left >= self.threshold else 0
            # The floor is a promise and clips in silence; half of the tokens is a limit and is reported.
            count = min(count, max(0, left - self.min_tokens))
            if count > (most := most_mergeable(left, protected)):
                capped.append(depth)
                count = most
            counts.append(count)
            left -= count
        return counts, capped

    def _notes(self, n: int, counts: list[int], capped: list[int]) -> tuple[str, ...]:
        notes = []
        if capped:
            drop = "the default amount" if self.drop is None else f"drop={self.drop}"
            notes.append(
                f"{drop} is more than half of the tokens in block{'s' * (len(capped) > 1)} "
                f"{', '.join(map(str, capped))} (from {n} tokens): as many as possible merge there"
            )
        if not any(counts) and not self.is_off():
            why = "too few tokens"
            if n < self.threshold:
                why = f"threshold={self.threshold} leaves nothing to merge"
            elif self.min_tokens > 1 and n <= self.min_tokens:
                why = f"min_tokens={self.min_tokens} leaves nothing to merge"
            notes.append(f"no block merges anything: the model has {n} tokens ({why})")
        return tuple(notes)

    def _plan_speedup(self, n: int, protected: int, costs: Sequence[Cost], untouched: float | None) -> Plan:
        """The first plan of the named schedule that reaches the factor."""
        name, speedup = self.schedule or defaults.SCHEDULE, self.speedup
        assert speedup is not None
        plan, _ = self._search(name, speedup, n, protected, costs, untouched)
        if plan is None:
            reached = {shape: self._search(shape, math.inf, n, protected, costs, untouched)[1] for shape in SHAPES}
            falls = "FLOPs fall" if untouched is None else "their time falls"
            raise TurboError(
                f"speedup={speedup} is out of reach: with {n} tokens in {len(costs)} blocks, schedule={name!r}, "
                f"threshold={self.threshold} and min_tokens={self.min_tokens}, {falls} by {_most(reached, name)}"
            )
        if not any(plan.counts):  # of seconds only: turbo's attention may be faster than the model's own
            return replace(plan, notes=(f"speedup={speedup} is reached without a merge: no block merges anything",))
        return plan

    def _search(
        self, shape: str, speedup: float, n: int, protected: int, costs: Sequence[Cost], untouched: float | None
    ) -> tuple[Plan | None, float]:
        """A schedule's first plan that reaches a factor, or None, and the largest factor that was met."""
        blocks = len(costs)

        def plan_at(level: int) -> Plan:
            totals = accumulate(SHAPES[shape](level, blocks))
            # As many tokens as should be left: so what a block cannot merge, the next one is asked for.
            return Plan(n, tuple(self._run(n, protected, [_down_to(n - total) for total in totals])[0]))

        level, most = find_level(
            factor=lambda level: plan_at(level).speedup(costs, untouched),
            merging=lambda level: sum(seen >= self.threshold for seen in plan_at(level).tokens[:-1]),
            top=top_level(shape, n, blocks),
            wanted=speedup,
        )
        return None if level is None else plan_at(level), most


def _constant(count: int) -> Callable[[int], int]:
    return lambda left: count


def _down_to(due: int) -> Callable[[int], int]:
    return lambda left: left - due  # never below 0: nothing merges beyond what has been due so far


def _most(reached: dict[str, float], name: str) -> str:
    """What is in reach of a schedule, and of the one that reaches most; rounded down, so that both can be asked for."""
    most = {shape: f"{math.floor(100 * factor) / 100:.2f}x" for shape, factor in reached.items()}
    best = max(reached, key=reached.__getitem__)
    more = "no other schedule reaches more" if most[best] == most[name] else f"schedule={best!r} reaches {most[best]}"
    return f"{most[name]} at most; {more}"


def _is_real(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and (isinstance(x, int) or math.isfinite(x))


def _require_count(name: str, x: object) -> None:
    if not isinstance(x, int) or isinstance(x, bool) or x < 0:
        raise TurboError(f"{name}={x!r}: must be a whole number of tokens, 0 or more")


def _checked_drop(drop: object) -> int | tuple[int, ...]:
    if isinstance(drop, int):
        _require_count("drop", drop)
        return drop
    if isinstance(drop, str) or not isinstance(drop, Sequence):
        raise TurboError(f"drop={drop!r}: must be an int, or one int per block")
    for depth, count in enumerate(drop):
        _require_count(f"drop[{depth}]", count)
    return tuple(drop)


def _check_schedule(schedule: object, given: dict[str, object]) -> None:
    if schedule not in tuple(SHAPES):
        raise TurboError(f"schedule={schedule!r}: must be {' or '.join(map(repr, SHAPES))}")
    if "speedup" not in given:
        found = "".join(f"; {name}={value!r} says how many merge in each already" for name, value in given.items())
        raise TurboError(
            f"schedule={schedule!r} says in which blocks the tokens of a speedup merge{found}: give a speedup"
            + (" instead" if given else "")
        )
