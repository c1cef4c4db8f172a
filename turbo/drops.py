"""Named schedules: in which blocks the tokens of a speed-up merge. Whole numbers, standard library only.

A schedule maps a *level* to one count per block. Level 0 asks for nothing. One level more asks for the least more that
the schedule knows: by the end of no block for fewer tokens, and of none for more than one token more. So the level that
reaches a speed-up can be found by bisection (`turbo.levels`), and the plan hardly overshoots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Literal

Shape = Literal["constant", "decreasing", "increasing", "early"]

WEIGHTS: Mapping[str, Callable[[int], Sequence[int]]] = {
    "constant": lambda blocks: [1] * blocks,
    "decreasing": lambda blocks: range(blocks, 0, -1),
    "increasing": lambda blocks: range(1, blocks + 1),
}
"""By name: blocks -> what the counts are in proportion to, for the schedules that spread them."""


def constant(level: int, blocks: int) -> list[int]:
    """About the same count in every block: no two differ by more than one token.

    Examples:
        >>> constant(40000, blocks=12)
        [12, 11, 12, 11, 12, 11, 12, 12, 11, 12, 11, 12]
    """
    return _spread(level, WEIGHTS["constant"](blocks))


def decreasing(level: int, blocks: int) -> list[int]:
    """Counts that fall in a straight line, from the first block to 0 behind the last one.

    Examples:
        >>> decreasing(40000, blocks=6)
        [45, 38, 30, 23, 15, 8]
    """
    return sorted(_spread(level, WEIGHTS["decreasing"](blocks)), reverse=True)


def increasing(level: int, blocks: int) -> list[int]:
    """Counts that rise in a straight line, from 0 before the first block.

    Examples:
        >>> increasing(40000, blocks=6)
        [8, 15, 22, 31, 37, 46]
    """
    return sorted(_spread(level, WEIGHTS["increasing"](blocks)))


def early(level: int, blocks: int) -> list[int]:
    """All of it in the first block, which hands on what it cannot merge: half after half, down to a floor.

    Examples:
        >>> early(150, blocks=4)
        [150, 0, 0, 0]
    """
    return [level] + [0] * (blocks - 1)


SHAPES: Mapping[str, Callable[[int, int], list[int]]] = {
    "constant": constant,
    "decreasing": decreasing,
    "increasing": increasing,
    "early": early,
}
"""By name: (level, blocks) -> tokens that each block is asked to merge."""


def top_level(name: str, n: int, blocks: int) -> int:
    """A level at which every block is asked for all n tokens; none above it merges more.

    Examples:
        >>> top_level("early", n=197, blocks=12)
        256
    """
    level = 1
    while SHAPES[name](level, blocks)[0] < n:
        level *= 2
    return level


def share_out(name: str, tokens: int, blocks: int) -> list[int]:
    """The counts of a schedule that asks for so many tokens in all.

    Examples:
        >>> share_out("decreasing", 108, blocks=6)
        [31, 26, 20, 16, 10, 5]
    """
    levels_per_token = 1 if name == "early" else 2 * blocks * sum(WEIGHTS[name](blocks))  # see `_spread`
    return SHAPES[name](tokens * levels_per_token, blocks)


def _spread(level: int, weights: Sequence[int]) -> list[int]:
    """Counts in proportion to the weights, 2 · blocks · sum(weights) levels for each token that merges in all.

    Running totals are rounded in place of counts, so that rounding errors never add up.
    """
    blocks, whole = len(weights), sum(weights)
    # Several totals may pass a half at once. The last digit of a level lets them round up one by one, the last first.
    fine, late = divmod(level, blocks)
    totals = [
        ((fine + (depth >= blocks - late)) * weight + whole**2) // (2 * whole**2)
        for depth, weight in enumerate(accumulate(weights))
    ]
    return [total - before for before, total in pairwise([0, *totals])]
