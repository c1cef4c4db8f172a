"""What a plan promises, for any request."""

import torch
from generators import normal, seeds
from hypothesis import given
from hypothesis import strategies as st

from turbo.errors import TurboError
from turbo.flops import BlockFlops
from turbo.fusion import S1, Candidates
from turbo.information import mutual_redundancy, semantic_value, token_metric
from turbo.matching import parity, select
from turbo.merging import merge
from turbo.schedule import Schedule, most_mergeable

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
        "nothing": dict if n > 1 else lambda: {"drop": 0},
    }[kind]()
    return Schedule(**options, threshold=draw(limits), min_tokens=draw(limits)), n, blocks, protected


def steps(schedule, n, blocks, protected):
    """For each block of a plan: what was asked for, the tokens it sees, and what it merges."""
    plan = schedule.plan(n, blocks, protected)
    assert len(plan.counts) == blocks
    for depth, (seen, count) in enumerate(zip(plan.tokens, plan.counts, strict=False)):
        if schedule.ratio is not None:
            asked = round(schedule.ratio * seen)
        elif schedule.drop is None:
            asked = round(0.625 * n / blocks)
        else:
            asked = schedule.drop if isinstance(schedule.drop, int) else schedule.drop[depth]
        yield asked, seen, count


@given(requests())
def test_exact(request):
    """A block that sees at least `threshold` tokens, and can, merges exactly what was asked for."""
    schedule, *sequence = request
    for asked, seen, count in steps(*request):
        can = asked <= min(most_mergeable(seen, sequence[2]), seen - schedule.min_tokens)
        if seen >= schedule.threshold and can:
            assert count == asked


@given(requests())
def test_threshold(request):
    """A block that sees fewer than `threshold` tokens merges none, and so do all after it."""
    schedule, *_ = request
    stopped = False
    for _, seen, count in steps(*request):
        stopped = stopped or seen < schedule.threshold
        assert not (stopped and count)


@given(requests())
def test_floor(request):
    """No merge leaves fewer than `min_tokens`, nor fewer than one token."""
    schedule, *_ = request
    for _, seen, count in steps(*request):
        assert count >= 0
        assert seen - count >= 1
        assert count == 0 or seen - count >= schedule.min_tokens


@given(requests())
def test_clipped_no_more_than_needed(request):
    """Where less merges than was asked for, one token more would break a limit."""
    schedule, *sequence = request
    for asked, seen, count in steps(*request):
        assert count <= asked
        if count < asked and seen >= schedule.threshold:
            assert count == most_mergeable(seen, sequence[2]) or seen - count <= schedule.min_tokens


@given(requests())
def test_never_silent(request):
    """A drop beyond half of the tokens is noted, and so is a plan that merges nothing; nothing else is."""
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


@given(requests(most=40), seeds)
def test_the_tensors_follow_the_plan(request, seed):
    """Merging by a plan leaves exactly the tokens that the plan promises, block by block, and every patch."""
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
    """A speed-up is reached by drops that never grow and respect every limit, or no linearly falling drops reach it."""
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
