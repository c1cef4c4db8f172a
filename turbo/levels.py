"""The search for the first level of a schedule that reaches a factor. Whole numbers, standard library only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise


def find_level(
    factor: Callable[[int], float], merging: Callable[[int], int], top: int, wanted: float
) -> tuple[int | None, float]:
    """A level that reaches a factor while the one before it does not.

    The more is asked for, the more merges, until a block falls below the threshold: it and all after it merge nothing
    then, and the factor drops. Between two such falls the factor rises, so it is highest at the last level before one.
    Only where a block's scoring costs more than its merge saves, as it may in seconds, the factor may fall elsewhere;
    then a coarse search is left.

    Args:
        factor: of a level, from 0 to `top`.
        merging: of a level, how many blocks are not below the threshold; it never rises.
        top: the last level, 1 or more.
        wanted: the factor to reach.

    Returns:
        The level, 0 where that reaches it, None where none was found; and the largest factor that was met.

    Examples:
        >>> find_level(lambda level: 1 + level / 10, lambda level: 12, top=30, wanted=1.75)
        (8, 4.0)
    """
    most = factor(0)
    if most >= wanted:
        return 0, most
    for levels in (last_levels(merging, top), rungs(top)):
        for low, high in pairwise([0, *levels]):
            reached = factor(high)
            most = max(most, reached)
            if reached >= wanted:
                return first_level(low, high, lambda level: factor(level) >= wanted), most
    return None, most


def first_level(low: int, high: int, passes: Callable[[int], bool]) -> int:
    """By bisection a level that passes while the one before it does not.

    Args:
        low: a level that does not pass.
        high: a level above it that does.
        passes: the test.

    Examples:
        >>> first_level(0, 1000, lambda level: level**2 >= 500)
        23
    """
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def last_levels(count: Callable[[int], int], top: int) -> list[int]:
    """The last level of each stretch of levels with the same count, from level 0 to `top`.

    Args:
        count: of a level; it never rises.
        top: the last level.

    Examples:
        >>> last_levels(lambda level: -(level // 10), top=25)
        [9, 19, 25]
    """
    found: list[int] = []
    low = 0
    while low <= top:
        found.append(_last_alike(count, low, top))
        low = found[-1] + 1
    return found


def rungs(top: int) -> list[int]:
    """Levels from 1 to `top`, each at most an eighth above the one before, or 1.

    Examples:
        >>> rungs(20)
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20]
    """
    levels = [1]
    while levels[-1] < top:
        levels.append(min(top, levels[-1] + max(1, levels[-1] // 8)))
    return levels


def _last_alike(count: Callable[[int], int], low: int, top: int) -> int:
    now = count(low)
    return top if count(top) == now else first_level(low, top, lambda level: count(level) != now) - 1
