"""How a wanted speed-up becomes drops."""

import pytest

from turbo import defaults
from turbo.drops import SHAPES, top_level
from turbo.errors import TurboError
from turbo.flops import BlockFlops
from turbo.levels import find_level
from turbo.plan import Plan
from turbo.schedule import Schedule

VIT_B = [BlockFlops(attention_per_token=8 * 768**2, mlp_per_token=16 * 768**2, width=768, metric_width=64)] * 12

each_schedule = pytest.mark.parametrize("schedule", SHAPES)


def plan_of(wanted, n, protected=1, threshold=0, min_tokens=0):
    """The plan for wanted counts, the slow way: token by token, towards what should be left."""
    due, left, counts = n, n, []
    for asked in wanted:
        due, count = due - asked, 0
        if left >= threshold:
            while left - count > max(due, min_tokens) and 2 * (count + 1) <= left - protected:
                count += 1
        counts.append(count)
        left -= count
    return Plan(n, tuple(counts))


def all_plans(n, blocks, schedule, **limits):
    levels = range(top_level(schedule, n, blocks) + 1)
    wanted = dict.fromkeys(tuple(SHAPES[schedule](level, blocks)) for level in levels)
    return [plan_of(counts, n, **limits) for counts in wanted]


@each_schedule
@pytest.mark.parametrize(("n", "blocks", "limits"), [(22, 4, {}), (23, 3, {"min_tokens": 9}), (24, 1, {})])
def test_what_a_plan_reaches_is_reached_by_that_plan(schedule, n, blocks, limits):
    """To the last digit: where each level merges more than the one before, a plan is the first to reach its factor."""
    plans = dict.fromkeys(all_plans(n, blocks, schedule, **limits))
    assert len(plans) > 10
    for wanted in list(plans)[1:]:
        request = Schedule(speedup=wanted.speedup(VIT_B[:blocks]), schedule=schedule, **limits)
        assert request.plan(n, blocks, protected=1, flops=VIT_B[:blocks]) == wanted


@each_schedule
@pytest.mark.parametrize("speedup", [1.1, 1.4, 2.1])
@pytest.mark.parametrize("limits", [{"threshold": 13}, {"threshold": 16}, {"threshold": 20, "min_tokens": 11}])
def test_the_first_plan_of_all_is_found_under_a_threshold(schedule, speedup, limits):
    """Where one level falls below the threshold the next ones may be slower; every level is tried here."""
    n, blocks = 24, 4
    plans = all_plans(n, blocks, schedule, **limits)
    factors = [plan.speedup(VIT_B[:blocks]) for plan in plans]
    request = Schedule(speedup=speedup, schedule=schedule, **limits)
    wanted = next((plan for plan, factor in zip(plans, factors, strict=True) if factor >= speedup), None)
    if wanted is not None:
        assert request.plan(n, blocks, protected=1, flops=VIT_B[:blocks]) == wanted
        return
    most = f"FLOPs fall by {int(100 * max(factors)) / 100:.2f}x at most"
    with pytest.raises(TurboError, match=most):
        request.plan(n, blocks, protected=1, flops=VIT_B[:blocks])


def test_under_a_threshold_a_later_plan_may_be_slower():
    """What the test above is about happens."""
    factors = [plan.speedup(VIT_B[:4]) for plan in all_plans(24, 4, "constant", threshold=16)]
    assert factors[-1] < max(factors)


@pytest.mark.parametrize(
    ("schedule", "counts"),
    [
        ("constant", (16, 16, 16, 15, 16, 16, 16, 16, 16, 16, 16, 10)),  # half of what the last block sees is 10
        ("decreasing", (22, 21, 19, 17, 15, 13, 11, 9, 8, 5, 4, 2)),
        ("increasing", (4, 8, 13, 17, 21, 25, 29, 33, 23, 11, 6, 3)),
        ("early", (98, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_twice_as_fast_by_name(schedule, counts):
    plan = Schedule(speedup=2, schedule=schedule).plan(197, 12, protected=1, flops=VIT_B)
    assert plan == Plan(197, counts)
    assert 2 <= plan.speedup(VIT_B) < 2.01


def test_decreasing_is_the_default():
    assert defaults.SCHEDULE == "decreasing"
    by_name = Schedule(speedup=2, schedule="decreasing").plan(197, 12, protected=1, flops=VIT_B)
    assert Schedule(speedup=2).plan(197, 12, protected=1, flops=VIT_B) == by_name


@each_schedule
def test_a_floor_holds(schedule):
    plan = Schedule(speedup=1.7, min_tokens=110, schedule=schedule).plan(197, 12, protected=1, flops=VIT_B)
    assert plan.speedup(VIT_B) >= 1.7
    assert plan.tokens[-1] >= 110


def test_early_halves_to_a_floor_and_then_rests():
    plan = Schedule(speedup=5, schedule="early").plan(577, 12, protected=1, flops=VIT_B)
    first, second, third, *rest = plan.counts
    assert (first, second) == (288, 144)
    assert 0 < third <= 72
    assert not any(rest)


@pytest.mark.parametrize(
    ("schedule", "threshold", "min_tokens", "most", "others"),
    [
        ("decreasing", 0, 0, "8.45", "no other schedule reaches more"),
        ("increasing", 0, 90, "2.13", "no other schedule reaches more"),
        ("early", 100, 0, "1.96", "schedule='constant' reaches 3.39x"),
        ("decreasing", 150, 0, "1.96", "schedule='increasing' reaches 2.34x"),
    ],
)
def test_out_of_reach_says_what_is_in_reach(schedule, threshold, min_tokens, most, others):
    request = Schedule(speedup=20, schedule=schedule, threshold=threshold, min_tokens=min_tokens)
    with pytest.raises(TurboError) as caught:
        request.plan(197, 12, protected=1, flops=VIT_B)
    assert str(caught.value) == (
        f"speedup=20 is out of reach: with 197 tokens in 12 blocks, schedule={schedule!r}, threshold={threshold} and "
        f"min_tokens={min_tokens}, FLOPs fall by {most}x at most; {others}"
    )


def test_all_that_another_schedule_reaches_is_said():
    """Not only that it reaches what was asked for."""
    with pytest.raises(TurboError, match="1.96x at most; schedule='constant' reaches 3.39x"):
        Schedule(speedup=2, schedule="early", threshold=100).plan(197, 12, protected=1, flops=VIT_B)


def test_the_default_schedule_is_named_too():
    with pytest.raises(TurboError, match="in 12 blocks, schedule='decreasing', threshold=0"):
        Schedule(speedup=20).plan(197, 12, protected=1, flops=VIT_B)


@each_schedule
@pytest.mark.parametrize("options", [{}, {"threshold": 150}, {"threshold": 60, "min_tokens": 50}])
def test_what_is_said_to_be_in_reach_is(schedule, options):
    """The figures of the message can be asked for: they are rounded down."""
    with pytest.raises(TurboError) as caught:
        Schedule(speedup=20, schedule=schedule, **options).plan(197, 12, protected=1, flops=VIT_B)
    said = str(caught.value).partition("FLOPs fall by ")[2]
    most, _, other = said.partition("x at most; ")
    offers = {schedule: most}
    if other.startswith("schedule="):
        name, _, reached = other.removeprefix("schedule='").removesuffix("x").partition("' reaches ")
        offers[name] = reached
    for name, reached in offers.items():
        plan = Schedule(speedup=float(reached), schedule=name, **options).plan(197, 12, protected=1, flops=VIT_B)
        assert float(reached) <= plan.speedup(VIT_B)


def test_a_block_whose_scoring_costs_more_than_it_saves_may_be_left_alone():
    flops = [BlockFlops(8, 16000, 1, 1), BlockFlops(8, 16, 1, 10**6)]
    gentle, steep = Plan(10, (1, 0)), Plan(10, (2, 1))
    assert gentle.speedup(flops) > 1.01 > steep.speedup(flops)
    assert Schedule(speedup=1.01).plan(10, 2, protected=1, flops=flops) == gentle


def test_out_of_reach_counts_merging_nothing_as_one():
    """Where scoring costs more than any merge saves, the most in reach is what merging nothing gives."""
    flops = [BlockFlops(8, 16, 1, 10**6)] * 2
    with pytest.raises(TurboError, match=r"FLOPs fall by 1\.00x at most"):
        Schedule(speedup=1.1).plan(10, 2, flops=flops)


def test_nothing_speeds_up_a_single_token():
    with pytest.raises(TurboError, match=r"with 1 tokens in 12 blocks, .* FLOPs fall by 1\.00x at most; no other"):
        Schedule(speedup=1.1).plan(1, 12, flops=VIT_B)


def test_a_speedup_needs_costs():
    with pytest.raises(TurboError, match="^a speedup needs the blocks' FLOPs; give a drop instead$"):
        Schedule(speedup=2.0).plan(197, 12)


# Costs that are seconds: what the blocks take untouched is given.


def total(plan, costs=VIT_B):
    steps = zip(costs, plan.tokens, plan.tokens[1:], strict=False)
    return sum(cost(before, after) for cost, before, after in steps)


def test_a_factor_is_of_what_the_untouched_blocks_cost():
    untouched = 1.2 * total(Plan(197, (0,) * 12))
    plan = Schedule(speedup=1.8).plan(197, 12, protected=1, flops=VIT_B, untouched=untouched)
    assert plan == Schedule(speedup=1.5).plan(197, 12, protected=1, flops=VIT_B)
    assert plan.speedup(VIT_B, untouched) == pytest.approx(untouched / total(plan))
    assert plan.speedup(VIT_B, untouched) == pytest.approx(1.2 * plan.speedup(VIT_B))


def test_costs_may_be_any_functions():
    costs = [lambda before, after: 1e-3 * (before + after)] * 4
    plan = Schedule(speedup=2, schedule="constant").plan(40, 4, flops=costs)
    assert 2 <= plan.speedup(costs) == 8 * 40e-3 / total(plan, costs) < 2.1


@pytest.mark.parametrize("share", [1.3, 1.5])
def test_what_is_reached_without_a_merge_merges_nothing_and_says_so(share):
    untouched = share * total(Plan(197, (0,) * 12))
    plan = Schedule(speedup=1.3).plan(197, 12, protected=1, flops=VIT_B, untouched=untouched)
    assert plan == Plan(197, (0,) * 12, ("speedup=1.3 is reached without a merge: no block merges anything",))


def test_out_of_reach_in_another_cost_does_not_speak_of_flops():
    untouched = 0.25 * total(Plan(197, (0,) * 12))
    with pytest.raises(TurboError, match=r"min_tokens=0, their time falls by 2\.11x at most; no other") as caught:
        Schedule(speedup=3).plan(197, 12, protected=1, flops=VIT_B, untouched=untouched)
    assert "FLOPs" not in str(caught.value)


def test_level_0_may_reach_a_factor_and_is_then_the_first():
    assert find_level(lambda level: 1.2 + level, lambda level: 4, top=8, wanted=1.2) == (0, 1.2)
    assert find_level(lambda level: 1.2 + level, lambda level: 4, top=8, wanted=1.21) == (1, 9.2)
