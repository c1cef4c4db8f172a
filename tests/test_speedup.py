"""How a wanted speed-up becomes drops."""

import pytest

from turbo.errors import TurboError
from turbo.flops import BlockFlops
from turbo.schedule import Schedule

VIT_B = [BlockFlops(attention_per_token=8 * 768**2, mlp_per_token=16 * 768**2, width=768, metric_width=64)] * 12


def falling(steep, n, blocks, protected=1, **limits):
    """The plan that a speedup is looked for among: drops that fall in a straight line from `steep` towards 0."""
    drops = [min(round(steep * (blocks - depth) / blocks), n - 1) for depth in range(blocks)]
    return Schedule(drop=drops, **limits).plan(n, blocks, protected)


@pytest.mark.parametrize(("n", "blocks"), [(22, 5), (23, 3), (49, 5), (197, 1)])
def test_what_a_plan_reaches_is_reached_by_that_plan(n, blocks):
    """To the last digit. For an odd number of blocks no drop is rounded from a half: no such plan is a lone point."""
    for steep in range(1, n):
        wanted = falling(steep, n, blocks)
        speedup = wanted.speedup(VIT_B[:blocks])
        assert Schedule(speedup=speedup).plan(n, blocks, protected=1, flops=VIT_B[:blocks]).counts == wanted.counts


ONE_TOKEN_IN_TWO_BLOCKS = falling(0.7, 22, 5).speedup(VIT_B[:5])
AS_FAST_AS_THE_STEEPEST = falling(49, 50, 6, threshold=28).speedup(VIT_B[:6])  # which drops 24 at once, and stops


@pytest.mark.parametrize(
    ("n", "blocks", "threshold", "speedup"),
    [
        *((n, blocks, 0, speedup) for n in (28, 53, 60) for blocks in (2, 3, 4) for speedup in (1.07, 1.38, 1.6)),
        (22, 5, 0, ONE_TOKEN_IN_TWO_BLOCKS),
        (50, 6, 28, AS_FAST_AS_THE_STEEPEST),
    ],
)
def test_a_speedup_is_reached_as_gently_as_can_be(n, blocks, threshold, speedup):
    """Within 0.05 tokens per block of the first of all steepnesses, tried one after the other.

    Counts are in the order of steepness: up to the first block that differs, the sequences are the same.
    """
    flops = VIT_B[:blocks]
    hundredths = range(100 * n)
    reached = (falling(i / 100, n, blocks, threshold=threshold).speedup(flops) >= speedup for i in hundredths)
    first = next(i for i, yes in zip(hundredths, reached, strict=False) if yes) / 100
    plan = Schedule(speedup=speedup, threshold=threshold).plan(n, blocks, protected=1, flops=flops)
    assert plan.counts <= falling(first + 0.05, n, blocks, threshold=threshold).counts


def test_the_most_that_is_in_reach_is_not_refused():
    """Under a threshold the fastest plan is not the steepest; no factor above its own is in reach."""
    n, blocks, threshold = 13, 4, 9
    flops = VIT_B[:blocks]
    speedups = [falling(steep, n, blocks, protected=0, threshold=threshold).speedup(flops) for steep in range(1, n)]
    assert max(speedups) > speedups[-1]
    plan = Schedule(speedup=max(speedups), threshold=threshold).plan(n, blocks, flops=flops)
    assert plan.speedup(flops) == max(speedups)
    with pytest.raises(TurboError, match=f"threshold=9 and min_tokens=0, FLOPs fall by {max(speedups):.2f}x at most"):
        Schedule(speedup=max(speedups) + 0.01, threshold=threshold).plan(n, blocks, flops=flops)


def test_a_block_whose_scoring_costs_more_than_it_saves_may_be_left_alone():
    flops = [BlockFlops(8, 16000, 1, 1), BlockFlops(8, 16, 1, 10**6)]
    gentle, steep = falling(1, 10, 2), falling(2, 10, 2)
    assert (gentle.counts, steep.counts) == ((1, 0), (2, 1))
    assert gentle.speedup(flops) > 1.01 > steep.speedup(flops)
    assert Schedule(speedup=1.01).plan(10, 2, protected=1, flops=flops).counts == (1, 0)


def test_out_of_reach_counts_merging_nothing_as_one():
    """Where scoring costs more than any merge saves, the most in reach is what merging nothing gives."""
    flops = [BlockFlops(8, 16, 1, 10**6)] * 2
    with pytest.raises(TurboError, match=r"FLOPs fall by 1\.00x at most"):
        Schedule(speedup=1.1).plan(10, 2, flops=flops)


def test_nothing_speeds_up_a_single_token():
    with pytest.raises(TurboError, match=r"with 1 tokens in 12 blocks, .* FLOPs fall by 1\.00x at most"):
        Schedule(speedup=1.1).plan(1, 12, flops=VIT_B)


def test_a_speedup_needs_costs():
    with pytest.raises(TurboError, match="^a speedup needs the blocks' FLOPs; give a drop instead$"):
        Schedule(speedup=2.0).plan(197, 12)
