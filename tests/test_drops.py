"""The named schedules, by hand, and the search among their levels."""

from itertools import accumulate, pairwise

import pytest

from turbo.drops import SHAPES, WEIGHTS, constant, decreasing, early, increasing, share_out, top_level
from turbo.levels import find_level, first_level, last_levels, rungs


def token(blocks, whole):
    """How many levels merge one token more in all."""
    return 2 * blocks * whole


def test_the_names():
    assert {"constant": constant, "decreasing": decreasing, "increasing": increasing, "early": early} == SHAPES
    assert {*WEIGHTS, "early"} == set(SHAPES)  # what `share_out` needs to know


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("tokens", "blocks"), [(0, 3), (1, 1), (7, 2), (108, 6), (5, 12), (12345, 31)])
def test_so_many_tokens_in_all(name, tokens, blocks):
    counts = share_out(name, tokens, blocks)
    assert sum(counts) == tokens
    weights = {"constant": [1] * blocks, "early": [1] + [0] * (blocks - 1), "increasing": [*range(1, blocks + 1)]}
    line = weights.get(name, [*range(blocks, 0, -1)])
    assert all(abs(count - tokens * weight / sum(line)) < 1 for count, weight in zip(counts, line, strict=True))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_level_0_asks_for_nothing(name, blocks):
    assert SHAPES[name](0, blocks) == [0] * blocks


@pytest.mark.parametrize(
    ("shape", "whole", "tokens", "counts"),
    [
        (constant, 4, 8, [2, 2, 2, 2]),
        (constant, 4, 9, [2, 3, 2, 2]),  # by the end of the blocks 2.25, 4.5, 6.75 and 9
        (constant, 4, 10, [3, 2, 3, 2]),  # 2.5, 5, 7.5 and 10
        (constant, 4, 11, [3, 3, 2, 3]),  # 2.75, 5.5, 8.25 and 11
        (decreasing, 10, 20, [8, 6, 4, 2]),
        (decreasing, 10, 12, [5, 3, 3, 1]),  # 4.8, 8.4, 10.8 and 12
        (decreasing, 10, 4, [2, 1, 1, 0]),  # 1.6, 2.8, 3.6 and 4
        (decreasing, 10, 5, [2, 2, 1, 0]),  # 2, 3.5, 4.5 and 5
        (increasing, 10, 20, [2, 4, 6, 8]),
        (increasing, 10, 12, [1, 3, 3, 5]),  # 1.2, 3.6, 7.2 and 12: 1, 3, 3 and 5
        (increasing, 10, 4, [0, 1, 1, 2]),  # 0.4, 1.2, 2.4 and 4: 0, 1, 1 and 2
    ],
)
def test_running_totals_are_rounded(shape, whole, tokens, counts):
    assert shape(tokens * token(4, whole), 4) == counts


def test_straight_lines_are_put_in_order():
    """Rounding alone would let a count rise by one on the way down, or fall on the way up."""
    level = 8 * token(8, 36)
    assert decreasing(level, 8) == [2, 2, 1, 1, 1, 1, 0, 0]  # 2, 1, 2, 1, 1, 0, 1, 0 by rounded totals
    assert increasing(level, 8) == [0, 0, 1, 1, 1, 1, 2, 2]  # 0, 1, 0, 1, 1, 2, 1, 2


def test_totals_that_tie_round_up_one_by_one_the_last_first():
    """At 2 tokens in 4 blocks the totals are 0.5, 1, 1.5 and 2: the first and the third pass a half together."""
    level = 2 * token(4, 4)
    found = [tuple(accumulate(constant(level + step, 4))) for step in range(-4, 1)]
    assert found == [(0, 1, 1, 2), (0, 1, 1, 2), (0, 1, 2, 2), (0, 1, 2, 2), (1, 1, 2, 2)]


def test_early_asks_the_first_block_for_all():
    assert early(7, 3) == [7, 0, 0]
    assert early(7, 1) == [7]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("n", "blocks"), [(1, 1), (2, 3), (197, 12), (128, 4)])
def test_at_the_top_every_block_is_asked_for_everything(name, n, blocks):
    top = top_level(name, n, blocks)
    assert min(accumulate(SHAPES[name](top, blocks))) >= n
    assert top == 1 or min(accumulate(SHAPES[name](top // 2, blocks))) < n


def test_top_levels():
    assert top_level("early", 128, 4) == 128
    assert top_level("early", 129, 4) == 256
    assert top_level("constant", 1, 1) == 1


@pytest.mark.parametrize("high", [1, 2, 3, 10, 1000])
def test_bisection_finds_the_first(high):
    for first in range(1, high + 1):
        assert first_level(0, high, lambda level, first=first: level >= first) == first
    assert first_level(high - 1, high, lambda level: pytest.fail("both ends are known")) == high


def test_bisection_finds_a_level_whose_predecessor_fails():
    passing = {3, 4, 9, 12, 20}
    found = first_level(0, 20, passing.__contains__)
    assert found in passing
    assert found - 1 not in passing


@pytest.mark.parametrize("counts", ["3", "33", "32", "3332221", "30", "3000", "3210"])
def test_last_levels_by_hand(counts):
    numbers = [int(count) for count in counts]
    wanted = [i for i, count in enumerate(numbers) if i + 1 == len(numbers) or numbers[i + 1] < count]
    assert last_levels(numbers.__getitem__, len(numbers) - 1) == wanted


@pytest.mark.parametrize("top", [1, 2, 17, 1000, 10**9])
def test_rungs_lie_close(top):
    found = rungs(top)
    assert found[0] == 1
    assert found[-1] == top
    assert all(low < high <= max(low + 1, low * 9 / 8) for low, high in pairwise(found))
    assert len(found) < 200


def search(factors, merging=None, wanted=1.5):
    """`find_level` over a list of factors; `merging` is one digit per level."""
    digits = merging or "1" * len(factors)
    return find_level(factors.__getitem__, lambda level: int(digits[level]), len(factors) - 1, wanted)


def test_the_first_level_that_reaches():
    assert search([1, 1.2, 1.4, 1.5, 1.6]) == (3, 1.6)
    assert search([1, 1.5]) == (1, 1.5)


def test_nothing_reaches():
    assert search([1, 1.2, 1.3]) == (None, 1.3)
    assert search([1, 0.9, 0.8]) == (None, 1)


def test_a_fall_below_the_threshold_hides_nothing():
    """The last level is slow; the one before the fall is the fastest."""
    factors, merging = [1, 1.3, 1.6, 1.1, 1.2, 1.3], "222111"
    assert search(factors, merging) == (2, 1.6)
    assert search(factors, merging, wanted=1.7) == (None, 1.6)
    assert search([1, 1.1, 1.2, 1.1, 1.5, 1.6], merging) == (4, 1.6)


def test_where_factors_fall_without_a_reason_the_rungs_find_it():
    factors = [1, 1.2, 1.7, 1.2, 1.1, 0.9]
    assert search(factors) == (2, 1.7)
    assert search(factors, wanted=1.8) == (None, 1.7)
