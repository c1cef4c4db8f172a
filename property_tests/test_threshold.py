"""Page 6, the threshold: how many tokens each block merges, for any request."""

import dataclasses
import math
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
import reference_merging as reference
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo.drops import SHAPES, share_out, top_level
from turbo.errors import TurboError
from turbo.flops import BlockFlops
from turbo.fusion import S1, Candidates
from turbo.information import mutual_redundancy, semantic_value, token_metric
from turbo.matching import select
from turbo.merging import merge
from turbo.partition import parity
from turbo.plan import Plan
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
        return share_out("decreasing", round(0.55 * n), blocks)[depth]
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
    drop = "the default amount" if schedule.drop is None else f"drop={schedule.drop}"
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
def test_by_default_nine_twentieths_are_left(n, blocks, protected, min_tokens):
    """Proposition 6.9: 11/20 of the tokens merge, ever fewer at a time, and no more where a limit is in the way."""
    merged = round(0.55 * n)
    assert abs(merged - Fraction(11 * n, 20)) <= Fraction(1, 2)
    assert Schedule(min_tokens=min_tokens).plan(n, blocks, protected).tokens[-1] >= n - merged
    free = Schedule().plan(n, blocks, protected)
    assert list(free.counts) == sorted(free.counts, reverse=True)
    if blocks >= 2 and n >= 22 + 12 * protected:
        assert sum(free.counts) == merged
        assert not free.notes


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


names = st.sampled_from(sorted(SHAPES))

BLOCK = BlockFlops(attention_per_token=8 * 64**2, mlp_per_token=16 * 64**2, width=64, metric_width=16)


def totals(name, level, blocks):
    """What a schedule asks to have merged by the end of each block."""
    return list(accumulate(SHAPES[name](level, blocks)))


def tokens_for(wanted, n, protected, threshold, min_tokens):
    """The reference's tokens where each block is asked for what is missing of its total."""

    def asked(depth, seen):
        return seen - (n - wanted[depth])

    return reference.plan(asked, n, len(wanted), protected, threshold, min_tokens)


@st.composite
def levels(draw, most=80):
    """A schedule's name, blocks, and a level up to the one at which every block is asked for `most` tokens."""
    name, blocks = draw(names), draw(st.integers(1, 12))
    top = top_level(name, most, blocks)
    tens = draw(st.integers(0, len(str(top))))  # each magnitude alike: plans of few tokens too
    return name, blocks, draw(st.integers(0, min(top, 10**tens)))


@given(levels())
def test_a_level_more_asks_for_one_token_more_at_most(example):
    """Proposition 6.13: from level 0 on, by the end of no block for fewer, and with `constant` only by that of one."""
    name, blocks, level = example
    rises = [more - less for less, more in zip(*(totals(name, level + i, blocks) for i in (0, 1)), strict=True)]
    assert set(rises) <= {0, 1}
    assert totals(name, 0, blocks) == [0] * blocks
    if name == "constant":
        assert sum(rises) <= 1


@given(levels(most=500))
def test_the_counts_of_each_schedule(example):
    """Proposition 6.13: constant counts differ by one at most, others never rise or never fall, early is one count."""
    name, blocks, level = example
    counts = SHAPES[name](level, blocks)
    if name == "constant":
        assert max(counts) - min(counts) <= 1
    elif name == "early":
        assert counts == [level] + [0] * (blocks - 1)
    else:
        assert counts == sorted(counts, reverse=name == "decreasing")


@given(levels(most=500))
def test_counts_lie_on_a_line(example):
    """Proposition 6.13: each count differs by less than 1 + 1/(2W) from its weight times level / (2LW²)."""
    name, blocks, level = example
    if name == "early":
        return
    weights = {
        "constant": [1] * blocks,
        "decreasing": list(range(blocks, 0, -1)),
        "increasing": list(range(1, blocks + 1)),
    }[name]
    whole = sum(weights)
    for count, weight in zip(SHAPES[name](level, blocks), weights, strict=True):
        assert abs(count - Fraction(level * weight, 2 * blocks * whole**2)) < 1 + Fraction(1, 2 * whole)


@st.composite
def speedups(draw):
    """A request for a speed-up by name, and the sequence it is for: n, blocks, protected."""
    n, blocks, protected = draw(st.integers(2, 200)), draw(st.integers(1, 12)), draw(st.integers(0, 2))
    options = {"threshold": draw(limits), "min_tokens": draw(limits), "schedule": draw(names)}
    return Schedule(speedup=draw(st.floats(1.01, 4)), **options), n, blocks, protected


def planned(schedule, n, blocks, protected):
    """The plan, or None where the speed-up is out of reach."""
    try:
        return schedule.plan(n, blocks, protected, [BLOCK] * blocks)
    except TurboError as error:
        if "out of reach" not in str(error):
            raise
        return None


@given(speedups())
def test_speedup(request):
    """Proposition 6.14: a plan for a speed-up reaches it and keeps to every limit, without a note."""
    schedule, n, blocks, protected = request
    plan = planned(*request)
    if plan is None:
        return
    assert plan.speedup([BLOCK] * blocks) >= schedule.speedup
    assert plan.n == n
    assert plan.notes == ()
    for seen, count in zip(plan.tokens, plan.counts, strict=False):
        assert 0 <= count <= most_mergeable(seen, protected)
        assert count == 0 or (seen >= schedule.threshold and seen - count >= schedule.min_tokens)


@given(st.data(), st.integers(2, 12), st.integers(1, 3), st.integers(0, 2), st.floats(1.01, 3), names)
def test_the_first_plan_that_reaches_is_found(data, n, blocks, protected, speedup, name):
    """Proposition 6.16: with any limits the plan is the first of all levels that reaches; an error names the most."""
    threshold, min_tokens = data.draw(st.integers(0, n + 1)), data.draw(st.integers(0, n + 1))
    first, most = None, 0.0
    for wanted in dict.fromkeys(tuple(totals(name, level, blocks)) for level in range(top_level(name, n, blocks) + 1)):
        left = tokens_for(wanted, n, protected, threshold, min_tokens)
        plan = Plan(n, tuple(seen - after for seen, after in pairwise(left)))
        most = max(most, plan.speedup([BLOCK] * blocks))
        first = plan if first is None and plan.speedup([BLOCK] * blocks) >= speedup else first
    schedule = Schedule(speedup=speedup, threshold=threshold, min_tokens=min_tokens, schedule=name)
    if first is not None:
        assert planned(schedule, n, blocks, protected) == first
        return
    with pytest.raises(TurboError, match=rf"FLOPs fall by {math.floor(100 * most) / 100:.2f}x at most"):
        schedule.plan(n, blocks, protected, [BLOCK] * blocks)


@given(levels(most=200), st.integers(0, 200), st.integers(0, 2), limits)
def test_one_level_is_one_token(example, n, protected, min_tokens):
    """Proposition 6.14: without a threshold the plans of two successive levels differ by a token after each block.

    With `constant` by one after one block, and by one after each of those behind it that half of the tokens clips.
    """
    name, blocks, level = example
    less, more = (tokens_for(totals(name, level + i, blocks), n, protected, 0, min_tokens) for i in (0, 1))
    fewer = [a - b for a, b in zip(less, more, strict=True)]
    assert set(fewer) <= {0, 1}
    if name == "constant":
        halved = [0, *(seen - after == most_mergeable(seen, protected) for seen, after in pairwise(more))]
        assert sum(one and not half for one, half in zip(fewer, halved, strict=True)) <= 1


@given(st.integers(2, 200), st.integers(1, 12), st.integers(0, 2), st.floats(1.01, 4), names, limits)
def test_a_token_less_would_not_do(n, blocks, protected, speedup, name, min_tokens):
    """Proposition 6.14: without a threshold, the plan of the level before does not reach the speed-up."""
    schedule = Schedule(speedup=speedup, min_tokens=min_tokens, schedule=name)
    plan = planned(schedule, n, blocks, protected)
    if plan is None:
        return

    def left(level):
        return tokens_for(totals(name, level, blocks), n, protected, 0, min_tokens)

    low, high = -1, top_level(name, n, blocks)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sum(left(middle)) <= sum(plan.tokens) else (middle, high)
    assert left(high) == list(plan.tokens)
    before = Plan(n, tuple(seen - after for seen, after in pairwise(left(low))))
    assert before.speedup([BLOCK] * blocks) < speedup


@given(speedups())
def test_each_schedule_has_its_look(request):
    """Proposition 6.15: what a plan's counts look like, up to the first one that a limit clips."""
    schedule, *_, protected = request
    plan = planned(*request)
    if plan is None:
        return
    name, free = schedule.schedule, []
    for seen, count in zip(plan.tokens, plan.counts, strict=False):
        stopped = seen < schedule.threshold or seen - count <= schedule.min_tokens
        if stopped or count == most_mergeable(seen, protected):
            break
        free.append(count)
    if name == "constant":
        assert max(free, default=0) - min(free, default=0) <= 1
    if name == "increasing":
        assert free == sorted(free)
    if name in ("decreasing", "early"):
        assert list(plan.counts) == sorted(plan.counts, reverse=True)
    if name == "early":
        merging = [depth for depth, count in enumerate(plan.counts) if count]
        assert merging == list(range(len(merging)))
        for depth in merging[:-1]:
            assert plan.counts[depth] == most_mergeable(plan.tokens[depth], protected)


@given(levels(most=120), st.integers(0, 200), st.integers(1, 120), st.integers(0, 2), limits, limits)
def test_stages(example, further, n, protected, threshold, min_tokens):
    """Proposition 6.16: at a higher level no more blocks merge; while as many do, none of them leaves more tokens."""
    name, blocks, level = example
    low, high = (
        tokens_for(totals(name, at, blocks), n, protected, threshold, min_tokens) for at in (level, level + further)
    )
    merging = [sum(seen >= threshold for seen in tokens[:-1]) for tokens in (low, high)]
    assert merging[0] >= merging[1]
    if merging[0] == merging[1]:
        assert all(a >= b for a, b in zip(low, high, strict=True))


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
    """Proposition 6.17: seven blocks merge Υ; after them half of the patches is less, and a threshold may forbid it."""
    found = Schedule(drop=drop, threshold=threshold).plan(577, blocks=12, protected=1).tokens
    wanted = [577 - drop * block for block in range(8)]
    while len(wanted) < 13:
        patches = wanted[-1] - 1
        wanted.append(wanted[-1] - (patches // 2 if wanted[-1] >= threshold else 0))
    assert list(found) == wanted


def test_table_2_in_order():
    """Proposition 6.17: less work goes with more throughput, and more tokens at the end with a higher CIDEr."""
    block = BlockFlops(attention_per_token=8 * 768**2, mlp_per_token=16 * 768**2, width=768, metric_width=64)
    plans = [Schedule(drop=drop, threshold=threshold).plan(577, 12, protected=1) for drop, threshold, *_ in TABLE_2]
    work, left = [sum(plan.flops([block] * 12)) for plan in plans], [plan.tokens[-1] for plan in plans]
    rows = range(len(TABLE_2))
    assert sorted(rows, key=lambda i: work[i]) == sorted(rows, key=lambda i: -TABLE_2[i][3])
    assert sorted(rows, key=lambda i: left[i]) == sorted(rows, key=lambda i: TABLE_2[i][2])
