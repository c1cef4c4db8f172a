"""Page 6, the threshold: how many tokens each block merges, for any request."""

import dataclasses
import math
from fractions import Fraction

import pytest
import reference_merging as reference
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo.errors import TurboError
from turbo.flops import BlockFlops
from turbo.fusion import S1, Candidates
from turbo.information import mutual_redundancy, semantic_value, token_metric
from turbo.matching import parity, select
from turbo.merging import merge
from turbo.schedule import Schedule, most_mergeable
from turbo.testing.generators import normal, seeds

limits = st.one_of(st.just(0), st.integers(0, 70))


@st.composite
def requests(draw, most=60):
    """A schedule of any kind but speedup, and the sequence it is for: n, blocks, protected."""
    n, blocks, protected = draw(st.integers(1, most)), draw(st.integers(1, 6)), draw(st.integers(0, 3))
    kind = draw(st.sampled_from(["drop", "drops", "ratio", "nothing"]))
    counts = st.integers(0, n - 1)
    options = {
        "drop": lambda: {"drop": draw(counts)},
        "drops": lambda: {"drop": draw(st.lists(counts, min_size=blocks, max_size=blocks))},
        "ratio": lambda: {"ratio": draw(st.floats(0, 0.5, exclude_min=True))},
        "nothing": dict,
    }[kind]()
    return Schedule(**options, threshold=draw(limits), min_tokens=draw(limits)), n, blocks, protected


def asked_of(schedule, n, blocks, depth, seen):
    """What a schedule asks of one block that sees so many tokens."""
    if schedule.ratio is not None:
        return round(schedule.ratio * seen)
    if schedule.drop is None:
        return round(0.625 * n / blocks)
    return schedule.drop if isinstance(schedule.drop, int) else schedule.drop[depth]


def steps(schedule, n, blocks, protected):
    """For each block of a plan: what was asked for, the tokens it sees, and what it merges."""
    plan = schedule.plan(n, blocks, protected)
    assert len(plan.counts) == blocks
    for depth, (seen, count) in enumerate(zip(plan.tokens, plan.counts, strict=False)):
        yield asked_of(schedule, n, blocks, depth, seen), seen, count


@st.composite
def constant_drops(draw, most=300):
    """A sequence n, its blocks and protected tokens, and a drop of 1 or more that is less than n."""
    n = draw(st.integers(2, most))
    return n, draw(st.integers(1, 30)), draw(st.integers(0, 3)), draw(st.integers(1, n - 1))


@given(requests())
def test_plan_is_the_reference(request):
    """Proposition 6.1: the plan is that of taking tokens away one by one while every limit allows it."""
    schedule, n, blocks, protected = request

    def asked(depth, seen):
        return asked_of(schedule, n, blocks, depth, seen)

    wanted = reference.plan(asked, n, blocks, protected, schedule.threshold, schedule.min_tokens)
    assert list(schedule.plan(n, blocks, protected).tokens) == wanted


@given(requests())
def test_exact(request):
    """Proposition 6.1: a block that sees at least `threshold` tokens, and can, merges exactly what was asked for."""
    schedule, *sequence = request
    for asked, seen, count in steps(*request):
        can = asked <= min(most_mergeable(seen, sequence[2]), seen - schedule.min_tokens)
        if seen >= schedule.threshold and can:
            assert count == asked


@given(requests())
def test_threshold(request):
    """Proposition 6.2: a block that sees fewer than `threshold` tokens merges none, and so do all after it."""
    schedule, *_ = request
    stopped = False
    for _, seen, count in steps(*request):
        stopped = stopped or seen < schedule.threshold
        assert not (stopped and count)


@given(requests())
def test_one_step_in_closed_form(request):
    """Proposition 6.1: what a block leaves is the largest of what the drop, the half and the floor allow."""
    schedule, _, _, protected = request
    for asked, seen, count in steps(*request):
        half = math.ceil((seen + min(seen, protected)) / 2)
        left = max(seen - asked, half, min(seen, schedule.min_tokens)) if seen >= schedule.threshold else seen
        assert seen - count == left


@given(constant_drops(), st.integers(0, 320))
def test_constant_drop_in_closed_form(sequence, threshold):
    """Proposition 6.3: n_l = N - Υ·min(l, L*), L* the first l with N - lΥ < threshold, while no half is too few."""
    n, blocks, protected, drop = sequence
    tokens = Schedule(drop=drop, threshold=threshold).plan(n, blocks, protected).tokens
    stop = 0
    while threshold <= n - stop * drop and stop < blocks:
        stop += 1
    if n - stop * drop < threshold:
        assert stop == max(0, (n - threshold) // drop + 1)
    capped = max(0, (n - protected) // drop - 1)
    for block, left in enumerate(tokens):
        if min(block, stop) <= capped:
            assert left == n - drop * min(block, stop)


@given(constant_drops(), st.integers(0, 320))
def test_the_last_merge_ends_at_most_a_drop_below(sequence, threshold):
    """Proposition 6.4: a sequence of at least `threshold` tokens never ends below threshold - Υ."""
    n, blocks, protected, drop = sequence
    tokens = Schedule(drop=drop, threshold=min(threshold, n)).plan(n, blocks, protected).tokens
    assert min(tokens) >= min(threshold, n) - drop


@pytest.mark.parametrize("drop", [1, 4, 7])
def test_a_whole_drop_below_is_reached(drop):
    """Proposition 6.4: a block that sees exactly `threshold` tokens leaves threshold - Υ."""
    assert Schedule(drop=drop, threshold=20).plan(20, 3).tokens[-1] == 20 - drop


@given(constant_drops())
def test_no_block_is_capped_while_drops_fit(sequence):
    """Proposition 6.5: half of the tokens is enough in all L blocks just when (L + 1)Υ <= N - p; then they halve."""
    n, blocks, protected, drop = sequence
    plan = Schedule(drop=drop).plan(n, blocks, protected)
    assert all(count == drop for count in plan.counts) == ((blocks + 1) * drop <= n - protected)
    first = max(0, (n - protected) // drop - 1)
    for block in range(blocks):
        assert (plan.counts[block] == drop) == (block < first)
    if first < blocks and n >= protected:
        free = plan.tokens[first] - protected
        for block in range(first, blocks + 1):
            assert plan.tokens[block] - protected == math.ceil(Fraction(free, 2 ** (block - first)))


@given(constant_drops(), st.integers(0, 100))
def test_a_high_threshold_keeps_off_the_half(sequence, more):
    """Proposition 6.5: with threshold >= 2Υ + p every block merges Υ or nothing."""
    n, blocks, protected, drop = sequence
    plan = Schedule(drop=drop, threshold=2 * drop + protected + more).plan(n, blocks, protected)
    assert set(plan.counts) <= {0, drop}


@given(requests())
def test_floor(request):
    """Proposition 6.6: no merge leaves fewer than `min_tokens`, nor fewer than one token."""
    schedule, *_ = request
    for _, seen, count in steps(*request):
        assert count >= 0
        assert seen - count >= 1
        assert count == 0 or seen - count >= schedule.min_tokens


@given(requests())
def test_clipped_no_more_than_needed(request):
    """Proposition 6.1: where less merges than was asked for, one token more would break a limit."""
    schedule, *sequence = request
    for asked, seen, count in steps(*request):
        assert count <= asked
        if count < asked and seen >= schedule.threshold:
            assert count == most_mergeable(seen, sequence[2]) or seen - count <= schedule.min_tokens


@given(requests())
def test_never_silent(request):
    """Proposition 6.7: a drop beyond half is noted, and a plan that merges nothing unless drop is 0; nothing else."""
    schedule, n, blocks, protected = request
    plan = schedule.plan(n, blocks, protected)
    halved = any(
        min(asked, seen - schedule.min_tokens) > most_mergeable(seen, protected)
        for asked, seen, _ in steps(*request)
        if seen >= schedule.threshold
    )
    noted = [note.partition(":")[0] for note in plan.notes]
    drop = "the default drop" if schedule.drop is None else f"drop={schedule.drop}"
    expected = [f"{drop} is more than half of the tokens"] if halved and schedule.ratio is None else []
    expected += [] if any(plan.counts) or schedule.is_off() else ["no block merges anything"]
    assert len(noted) == len(expected)
    assert all(found.startswith(wanted) for found, wanted in zip(noted, expected, strict=True))


@given(st.integers(1, 1000), st.integers(1, 30), st.integers(0, 3), st.floats(0, 0.5, exclude_min=True), limits, limits)
def test_a_ratio_keeps_its_share(n, blocks, protected, ratio, threshold, min_tokens):
    """Proposition 6.8: a block leaves at least (1 - q)n - 1/2, and with nothing in the way at most (1 - q)n + 1/2."""
    plan = Schedule(ratio=ratio, threshold=threshold, min_tokens=min_tokens).plan(n, blocks, protected)
    keep, half = 1 - Fraction(ratio), Fraction(1, 2) + Fraction(n, 2**53)  # the product q·n is a double
    for seen, left in zip(plan.tokens, plan.tokens[1:], strict=False):
        assert left >= keep * seen - half
    free = Schedule(ratio=ratio).plan(n, blocks)
    for seen, left in zip(free.tokens, free.tokens[1:], strict=False):
        assert left <= keep * seen + half
    for depth, left in enumerate(free.tokens):
        assert abs(left - keep**depth * n) <= half * (1 - keep**depth) / (1 - keep)


def test_the_rounding_of_a_ratio_adds_up_by_algebra():
    """Proposition 6.8: e = (1 - (1 - q)^l)/(2q) solves e_0 = 0, e_(l+1) = (1 - q) e_l + 1/2 (sympy)."""
    q = sympy.symbols("q", positive=True)
    block = sympy.symbols("l", integer=True, nonnegative=True)
    error = (1 - (1 - q) ** block) / (2 * q)
    assert error.subs(block, 0) == 0
    assert sympy.simplify(error.subs(block, block + 1) - (1 - q) * error - sympy.Rational(1, 2)) == 0


@given(st.integers(2, 2000), st.integers(1, 40), st.integers(0, 3), limits)
def test_by_default_three_eighths_are_left(n, blocks, protected, min_tokens):
    """Proposition 6.9: at least 3/8 N - L/2 tokens are left, and at most 3/8 N + L/2 where no limit is in the way."""
    tokens = Schedule(min_tokens=min_tokens).plan(n, blocks, protected).tokens
    assert tokens[-1] >= Fraction(3 * n, 8) - Fraction(blocks, 2)
    free, drop = Schedule().plan(n, blocks, protected), round(Fraction(5 * n, 8 * blocks))
    if (blocks + 1) * drop <= n - protected:
        assert free.tokens[-1] == n - blocks * drop
        assert abs(free.tokens[-1] - Fraction(3 * n, 8)) <= Fraction(blocks, 2)


@given(st.data(), st.integers(2, 80), st.integers(1, 6), st.integers(0, 3), limits)
def test_without_threshold_more_drop_never_leaves_more(data, n, blocks, protected, min_tokens):
    """Proposition 6.10: without a threshold, larger drops leave no more tokens and a longer sequence no fewer."""
    drops = st.lists(st.integers(0, n - 1), min_size=blocks, max_size=blocks)
    one, other = data.draw(drops), data.draw(drops)
    fewer, more = (list(map(bound, one, other)) for bound in (min, max))

    def tokens(counts, n):
        return Schedule(drop=counts, min_tokens=min_tokens).plan(n, blocks, protected).tokens

    base = tokens(fewer, n)
    assert all(a <= b for a, b in zip(tokens(more, n), base, strict=True))
    longer = tokens(fewer, n + data.draw(st.integers(0, 30)))
    assert all(a <= b for a, b in zip(base, longer, strict=True))


def test_with_a_threshold_more_drop_may_leave_more():
    """Proposition 6.10: under a threshold it may be the other way round: a larger drop falls below it sooner."""
    gentle, hard = (Schedule(drop=drop, threshold=12).plan(20, 4).tokens for drop in (4, 9))
    assert gentle == (20, 16, 12, 8, 8)
    assert hard == (20, 11, 11, 11, 11)


@given(requests(), limits)
def test_a_larger_threshold_never_leaves_fewer(request, threshold):
    """Proposition 6.11: raising the threshold leaves at least as many tokens after every block."""
    schedule, *sequence = request
    higher = dataclasses.replace(schedule, threshold=schedule.threshold + threshold)
    low, high = (s.plan(*sequence).tokens for s in (schedule, higher))
    assert all(a <= b for a, b in zip(low, high, strict=True))


@given(requests(most=40), seeds)
def test_the_tensors_follow_the_plan(request, seed):
    """Proposition 6.12: merging by a plan leaves exactly the tokens that it promises in each block, and every patch."""
    schedule, n, blocks, protected = request
    plan = schedule.plan(n, blocks, protected)
    x, size = normal(seed, 2, n, 6), None
    for depth, drop in enumerate(plan.counts):
        if drop:
            keys = (x + 0.1 * normal(seed + depth + 1, *x.shape))[:, None]
            metric, partition = token_metric(keys), parity(x.shape[1], protected)
            redundancy, partner = mutual_redundancy(metric[:, partition.source], metric[:, partition.destination])
            value = semantic_value(keys[:, :, :1], keys, size)[:, partition.source]
            one = torch.ones_like(value)
            priority = S1()(Candidates(redundancy, value, one, one, one, depth))
            x, size = merge(x, select(priority, partner, drop, partition), size)
        assert x.shape[1] == plan.tokens[depth + 1]
        assert size is None or torch.equal(size.sum(1), torch.full((2,), float(n)))


@given(st.integers(2, 200), st.integers(1, 12), st.integers(0, 2), st.floats(1.01, 4), limits, limits)
def test_speedup(n, blocks, protected, speedup, threshold, min_tokens):
    """Proposition 6.13: a speed-up is reached by counts that never grow and keep to the limits, or none reach it."""
    flops = [BlockFlops(attention_per_token=8 * 64**2, mlp_per_token=16 * 64**2, width=64, metric_width=16)] * blocks

    def reached(steep):
        drops = [round(steep * (blocks - depth) / blocks) for depth in range(blocks)]
        falling = Schedule(drop=drops, threshold=threshold, min_tokens=min_tokens)
        return falling.plan(n, blocks, protected).speedup(flops)

    schedule = Schedule(speedup=speedup, threshold=threshold, min_tokens=min_tokens)
    try:
        plan = schedule.plan(n, blocks, protected, flops)
    except TurboError as error:
        if "out of reach" not in str(error):
            raise
        assert max(map(reached, range(n))) < speedup
        return
    assert plan.speedup(flops) >= speedup
    assert list(plan.counts) == sorted(plan.counts, reverse=True)
    for seen, count in zip(plan.tokens, plan.counts, strict=False):
        assert count <= most_mergeable(seen, protected)
        assert count == 0 or (seen >= threshold and seen - count >= min_tokens)


TABLE_2 = [
    (65, 0, 95.5, 107.6),
    (65, 70, 104.3, 103.3),
    (65, 130, 115.3, 100.8),
    (70, 0, 89.4, 113.0),
    (70, 70, 103.7, 110.7),
]
"""The supplement's Table 2: Υ, threshold, CIDEr and throughput."""


@pytest.mark.parametrize(("drop", "threshold"), [row[:2] for row in TABLE_2])
def test_table_2_by_hand(drop, threshold):
    """Proposition 6.14: seven blocks merge Υ; after them half of the patches is less, and a threshold may forbid it."""
    found = Schedule(drop=drop, threshold=threshold).plan(577, blocks=12, protected=1).tokens
    wanted = [577 - drop * block for block in range(8)]
    while len(wanted) < 13:
        patches = wanted[-1] - 1
        wanted.append(wanted[-1] - (patches // 2 if wanted[-1] >= threshold else 0))
    assert list(found) == wanted


def test_table_2_in_order():
    """Proposition 6.14: less work goes with more throughput, and more tokens at the end with a higher CIDEr."""
    block = BlockFlops(attention_per_token=8 * 768**2, mlp_per_token=16 * 768**2, width=768, metric_width=64)
    plans = [Schedule(drop=drop, threshold=threshold).plan(577, 12, protected=1) for drop, threshold, *_ in TABLE_2]
    work, left = [sum(plan.flops([block] * 12)) for plan in plans], [plan.tokens[-1] for plan in plans]
    rows = range(len(TABLE_2))
    assert sorted(rows, key=lambda i: work[i]) == sorted(rows, key=lambda i: -TABLE_2[i][3])
    assert sorted(rows, key=lambda i: left[i]) == sorted(rows, key=lambda i: TABLE_2[i][2])
