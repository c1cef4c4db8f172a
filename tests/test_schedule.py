"""From what was asked for to one count per block."""

import pytest

from turbo.errors import TurboError
from turbo.flops import BlockFlops
from turbo.plan import Plan
from turbo.schedule import Schedule, most_mergeable

NAN, INF = float("nan"), float("inf")
VIT_B = [BlockFlops(attention_per_token=8 * 768**2, mlp_per_token=16 * 768**2, width=768, metric_width=64)] * 12


@pytest.mark.parametrize(
    ("n", "protected", "most"),
    [
        (0, 0, 0),
        (1, 0, 0),
        (2, 0, 1),
        (3, 0, 1),
        (50, 1, 24),
        (51, 1, 25),
        (51, 2, 24),
        (1, 1, 0),
        (2, 1, 0),
        (2, 4, 0),
    ],
)
def test_at_most_half_of_the_unprotected_can_merge(n, protected, most):
    assert most_mergeable(n, protected) == most


def test_nothing_is_protected_unless_said():
    assert most_mergeable(4) == most_mergeable(4, protected=0) == 2
    assert Schedule(drop=2).plan(4, blocks=1).counts == (2,)


@pytest.mark.parametrize("n", [50, 51])
def test_an_int_is_merged_in_every_block(n):
    plan = Schedule(drop=8).plan(n, blocks=3, protected=1)
    assert plan == Plan(n, (8, 8, 8), ())
    assert plan.tokens == (n, n - 8, n - 16, n - 24)


@pytest.mark.parametrize("drop", [(5, 0, 7), [5, 0, 7], range(3)])
def test_a_list_has_one_count_per_block(drop):
    assert Schedule(drop=drop).plan(40, blocks=3).counts == tuple(drop)


@pytest.mark.parametrize(("drop", "blocks"), [((1, 2), 3), ((1, 2, 3), 2), ((), 1)])
def test_a_list_of_the_wrong_length_is_refused(drop, blocks):
    for refuse in (lambda: Schedule(drop=drop).plan(40, blocks), lambda: Schedule(drop=drop).check_blocks(blocks)):
        with pytest.raises(TurboError) as caught:
            refuse()
        assert str(caught.value) == (
            f"drop has {len(drop)} counts and the model has {blocks} blocks: give one count per block, or a single int"
        )


@pytest.mark.parametrize(
    ("drop", "found"),
    [
        (-1, "drop=-1"),
        (True, "drop=True"),
        ("8", "drop='8'"),
        (2.0, "drop=2.0"),
        ({1, 2}, "drop={1, 2}"),
        ((3, -2), r"drop\[1\]=-2"),
        ((True, 2), r"drop\[0\]=True"),
        ((1, None), r"drop\[1\]=None"),
        (("3", 1), r"drop\[0\]='3'"),
    ],
)
def test_a_drop_must_count_tokens(drop, found):
    with pytest.raises(TurboError, match=found):
        Schedule(drop=drop)


@pytest.mark.parametrize("drop", [10, 10**9, (0, 10)])
def test_a_drop_as_large_as_the_sequence_is_refused(drop):
    with pytest.raises(TurboError, match="the model has only 10 tokens; give a smaller drop"):
        Schedule(drop=drop).plan(10, blocks=2)


@pytest.mark.parametrize("ratio", [0, 0.0, -0.1, 0.51, 1, NAN, INF, True, "0.5"])
def test_a_ratio_lies_above_0_and_at_most_at_one_half(ratio):
    with pytest.raises(TurboError) as caught:
        Schedule(ratio=ratio)
    assert str(caught.value) == (
        f"ratio={ratio!r}: a block can merge a fraction above 0 and at most 0.5 of its tokens (a token merges into one "
        "of the other half)"
    )


@pytest.mark.parametrize("speedup", [1, 1.0, 0.5, -2, NAN, True, "2"])
def test_a_speedup_is_a_factor_above_1(speedup):
    with pytest.raises(TurboError, match="speedup="):
        Schedule(speedup=speedup)


@pytest.mark.parametrize("name", ["threshold", "min_tokens"])
@pytest.mark.parametrize("value", [-1, True, 3.0, "3", None])
def test_limits_count_tokens(name, value):
    with pytest.raises(TurboError, match=f"{name}="):
        Schedule(drop=1, **{name: value})


@pytest.mark.parametrize(
    "given",
    [
        {"drop": 1, "ratio": 0.5},
        {"drop": 0, "speedup": 2.0},
        {"ratio": 0.5, "speedup": 2.0},
        {"drop": (1, 2), "ratio": 0.5, "speedup": 2},
    ],
)
def test_drop_ratio_and_speedup_exclude_each_other(given):
    with pytest.raises(TurboError) as caught:
        Schedule(**given)
    found = " and ".join(f"{name}={value!r}" for name, value in given.items())
    assert str(caught.value) == f"{found} exclude each other: each alone says how much to merge; give one"


@pytest.mark.parametrize("name", ["fast", "", "Early", 1, True, ["early"], {"early"}])
def test_a_schedule_is_one_of_the_names(name):
    with pytest.raises(TurboError) as caught:
        Schedule(speedup=1.5, schedule=name)
    choices = "'constant' or 'decreasing' or 'increasing' or 'early'"
    assert str(caught.value) == f"schedule={name!r}: must be {choices}"


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ({}, ": give a speedup"),
        ({"drop": 3}, "; drop=3 says how many merge in each already: give a speedup instead"),
        ({"drop": [3, 2]}, "; drop=[3, 2] says how many merge in each already: give a speedup instead"),
        ({"ratio": 0.2}, "; ratio=0.2 says how many merge in each already: give a speedup instead"),
        ({"drop": 0}, "; drop=0 says how many merge in each already: give a speedup instead"),
    ],
)
def test_a_schedule_is_that_of_a_speedup(given, end):
    with pytest.raises(TurboError) as caught:
        Schedule(schedule="early", **given)
    assert str(caught.value) == f"schedule='early' says in which blocks the tokens of a speedup merge{end}"


def test_a_schedule_does_not_hide_that_two_requests_exclude_each_other():
    with pytest.raises(TurboError, match="exclude each other"):
        Schedule(drop=1, speedup=2, schedule="early")


@pytest.mark.parametrize(
    ("threshold", "tokens"),
    [
        (0, (20, 16, 12, 8, 4)),
        (12, (20, 16, 12, 8, 8)),  # at the threshold a block still merges, and may go below it
        (13, (20, 16, 12, 12, 12)),
        (20, (20, 16, 16, 16, 16)),
    ],
)
def test_threshold_is_what_a_block_must_see_to_merge(threshold, tokens):
    plan = Schedule(drop=4, threshold=threshold).plan(20, blocks=4)
    assert plan.tokens == tokens
    assert plan.notes == ()


@pytest.mark.parametrize(
    ("min_tokens", "tokens"),
    [
        (4, (20, 16, 12, 8, 4)),
        (5, (20, 16, 12, 8, 5)),  # the last merge is clipped
        (10, (20, 16, 12, 10, 10)),
        (19, (20, 19, 19, 19, 19)),
    ],
)
def test_min_tokens_is_a_floor_that_is_met(min_tokens, tokens):
    plan = Schedule(drop=4, min_tokens=min_tokens).plan(20, blocks=4)
    assert plan.tokens == tokens
    assert plan.notes == ()


def test_threshold_and_floor_hold_together():
    assert Schedule(drop=4, threshold=12, min_tokens=11).plan(20, blocks=4).tokens == (20, 16, 12, 11, 11)


def test_a_floor_clips_before_the_half_does():
    assert Schedule(drop=6, min_tokens=8).plan(10, blocks=1, protected=1) == Plan(10, (2,), ())


@pytest.mark.parametrize(
    ("drop", "counts", "where"),
    [
        (6, (4, 2, 1), "in blocks 0, 1, 2 "),
        ((6, 4, 1), (4, 2, 1), "in blocks 0, 1 "),
        ((6, 0, 0), (4, 0, 0), "in block 0 "),
        ((1, 1, 5), (1, 1, 3), "in block 2 "),
    ],
)
def test_more_than_half_is_clipped_and_said(drop, counts, where):
    plan = Schedule(drop=drop).plan(10, blocks=3, protected=1)
    assert plan.counts == counts
    (note,) = plan.notes
    said = f"drop={drop} is more than half of the tokens {where}(from 10 tokens): as many as possible merge there"
    assert note == said


@pytest.mark.parametrize(
    ("options", "n", "why"),
    [
        ({"drop": 4, "threshold": 21}, 20, "threshold=21 leaves nothing to merge"),
        ({"drop": 4, "min_tokens": 20}, 20, "min_tokens=20 leaves nothing to merge"),
        ({"drop": 4, "threshold": 12, "min_tokens": 20}, 20, "min_tokens=20 leaves nothing to merge"),
        ({"ratio": 0.01}, 20, "too few tokens"),
        ({"drop": 1}, 2, "too few tokens"),
        ({}, 0, "too few tokens"),
        ({"drop": 1, "min_tokens": 2}, 2, "min_tokens=2 leaves nothing to merge"),
    ],
)
def test_a_plan_that_merges_nothing_says_why(options, n, why):
    plan = Schedule(**options).plan(n, blocks=2, protected=1)
    assert not any(plan.counts)
    assert plan.notes[-1] == f"no block merges anything: the model has {n} tokens ({why})"


@pytest.mark.parametrize("limit", [{"threshold": 1}, {"threshold": 2}, {"min_tokens": 1}])
def test_a_limit_that_does_not_bind_is_not_blamed(limit):
    """Two tokens, one of them protected: nothing could merge whatever the limits."""
    plan = Schedule(drop=1, **limit).plan(2, blocks=2, protected=1)
    assert plan.notes[-1] == "no block merges anything: the model has 2 tokens (too few tokens)"


def test_one_token_has_nothing_to_merge_with():
    """A floor of one token is never the reason."""
    assert Schedule(min_tokens=1).plan(1, blocks=2).notes[-1].endswith("(too few tokens)")


def test_costs_are_one_per_block():
    block = BlockFlops(attention_per_token=8, mlp_per_token=16, width=1, metric_width=1)
    with pytest.raises(ValueError, match="longer"):
        Plan(10, (3, 2)).flops([block])


@pytest.mark.parametrize("drop", [0, (0, 0), [0, 0]])
def test_asking_for_nothing_is_no_surprise(drop):
    schedule = Schedule(drop=drop)
    assert schedule.is_off()
    assert schedule.plan(20, blocks=2) == Plan(20, (0, 0), ())


@pytest.mark.parametrize("options", [{}, {"drop": 1}, {"drop": (0, 1)}, {"ratio": 0.1}, {"speedup": 2.0}])
def test_asking_for_anything_is_on(options):
    assert not Schedule(**options).is_off()


@pytest.mark.parametrize(("n", "blocks"), [(197, 12), (577, 24), (4096, 8), (50, 12), (49, 5), (20, 2)])
def test_by_default_more_than_half_merge_ever_fewer_at_a_time(n, blocks):
    plan = Schedule().plan(n, blocks, protected=1)
    assert sum(plan.counts) == round(0.55 * n)
    assert plan.notes == ()
    assert list(plan.counts) == sorted(plan.counts, reverse=True)
    for depth, count in enumerate(plan.counts):
        assert abs(count - 0.55 * n * 2 * (blocks - depth) / blocks / (blocks + 1)) <= 2


def test_the_default_has_limits_too():
    assert Schedule(min_tokens=90).plan(197, 12, protected=1).tokens[-1] == 90


def test_a_default_that_is_more_than_half_is_clipped_and_said():
    plan = Schedule().plan(50, blocks=1, protected=1)
    assert plan.counts == (24,)
    (note,) = plan.notes
    assert note.startswith("the default amount is more than half of the tokens in block 0 (from 50 tokens)")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_default_never_complains_of_a_drop_that_nobody_gave(n):
    plan = Schedule().plan(n, blocks=1, protected=1)
    assert plan.counts == (most_mergeable(n, 1),)
    assert not any("drop=" in note for note in plan.notes)


def test_a_ratio_is_of_what_each_block_sees():
    assert Schedule(ratio=0.25).plan(100, blocks=3).tokens == (100, 75, 56, 42)
    assert Schedule(ratio=0.5).plan(20, blocks=4, protected=1) == Plan(20, (9, 5, 2, 1), ())
    assert Schedule(ratio=0.25, threshold=75, min_tokens=60).plan(100, blocks=3).tokens == (100, 75, 60, 60)


@pytest.mark.parametrize("speedup", [1.05, 1.5, 2, 3.0])
@pytest.mark.parametrize("n", [197, 198])
def test_a_speedup_is_reached_and_hardly_exceeded(speedup, n):
    plan = Schedule(speedup=speedup).plan(n, 12, protected=1, flops=VIT_B)
    assert speedup <= plan.speedup(VIT_B) < speedup * 1.06
    assert list(plan.counts) == sorted(plan.counts, reverse=True)
    assert plan.notes == ()


def test_a_speedup_respects_the_limits():
    plan = Schedule(speedup=1.5, threshold=120, min_tokens=90).plan(197, 12, protected=1, flops=VIT_B)
    assert plan.speedup(VIT_B) >= 1.5
    assert plan.tokens[-1] >= 90
    assert all(count == 0 for count, seen in zip(plan.counts, plan.tokens, strict=False) if seen < 120)


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({"speedup": 50.0}, 197),
        ({"speedup": 1.5, "min_tokens": 197}, 197),
        ({"speedup": 1.5, "threshold": 198}, 197),
        ({"speedup": 1.1}, 2),
    ],
)
def test_a_speedup_out_of_reach_says_what_is_in_reach(options, n):
    with pytest.raises(TurboError, match="is out of reach") as caught:
        Schedule(**options).plan(n, 12, protected=1, flops=VIT_B)
    most = float(str(caught.value).partition("FLOPs fall by ")[2].partition("x")[0])
    assert 0.9 < most < options["speedup"]


def test_a_speedup_in_reach_is_not_refused():
    """Merging half at once ends below the threshold; merging a little less at first reaches much more."""
    gentler = Plan(197, (97, 49, *[0] * 10))
    assert gentler.tokens[1] >= 100  # so the second block may merge as well
    assert gentler.speedup(VIT_B) > 2.5
    plan = Schedule(speedup=2.5, threshold=100).plan(197, 12, protected=1, flops=VIT_B)
    assert plan.speedup(VIT_B) >= 2.5


def test_a_plan_adds_up():
    block = BlockFlops(attention_per_token=8, mlp_per_token=16, width=1, metric_width=1)
    plan = Plan(10, (3, 2))
    assert plan.tokens == (10, 7, 5)
    assert plan.notes == ()
    assert plan.flops([block, block]) == [block(10, 7), block(7, 5)]
    assert plan.speedup([block, block]) == 2 * block(10, 10) / (block(10, 7) + block(7, 5))
