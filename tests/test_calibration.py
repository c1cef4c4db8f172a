"""A speed-up in time: from times to a plan, and the timing itself, which leaves no trace.

No test asserts a duration. Where a plan must follow, the clock is one that counts FLOPs: what runs is real.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings
from collections import Counter
from dataclasses import replace

import pytest
import torch
from families import FAMILIES, family
from flops_clock import counting_clock, require_same, state_of

import turbo
from turbo.engine import calibration, clock
from turbo.engine.clock import round_order, take_turns
from turbo.engine.install import find_acceleration
from turbo.engine.times import BlockTimes, Calibration, Measured, rate_at
from turbo.engine.timing import time_blocks, time_stack, undisturbed
from turbo.flops import BlockFlops
from turbo.plan import Plan
from turbo.schedule import Schedule

CPU = torch.device("cpu")
FLOPS = BlockFlops(attention_per_token=8 * 768**2, mlp_per_token=16 * 768**2, width=768, metric_width=64)
EVEN = ((197, 1e-11),)

one_of_each = pytest.mark.parametrize("name", ["vit", "dinov2", "timm", "clip", "open-clip", "blip"])


def of(untouched=EVEN, merging=EVEN, plain=EVEN, blocks=12, images=1):
    return Calibration((BlockTimes(FLOPS, untouched, merging, plain),) * blocks, images)


# Times


@pytest.mark.parametrize(
    ("tokens", "rate"), [(1, 6.0), (10, 6.0), (15, 5.0), (20, 4.0), (21, 3.9), (40, 2.0), (41, 2.0), (999, 2.0)]
)
def test_a_rate_is_interpolated_between_points_and_constant_beyond(tokens, rate):
    assert rate_at(((10, 6.0), (20, 4.0), (40, 2.0)), tokens) == pytest.approx(rate)


def test_seconds_are_flops_at_the_rate_of_what_is_done():
    times = BlockTimes(FLOPS, untouched=((197, 1.0),), merging=((100, 4.0), (197, 2.0)), plain=((197, 3.0),))
    assert times.seconds_untouched(197) == FLOPS(197, 197)
    assert times.seconds_untouched(50) == FLOPS(50, 50)
    assert times(197, 197) == 3 * FLOPS(197, 197)
    assert times(197, 180) == 2 * FLOPS(197, 180)
    assert times(100, 99) == 4 * FLOPS(100, 99)


def test_points_of_other_lengths_are_joined_in_order():
    a = BlockTimes(FLOPS, untouched=((50, 1.0),), merging=((25, 2.0), (50, 3.0)), plain=())
    b = BlockTimes(FLOPS, untouched=((10, 4.0),), merging=((30, 5.0), (50, 6.0)), plain=((10, 7.0),))
    assert a.joined(b) == BlockTimes(
        FLOPS, ((10, 4.0), (50, 1.0)), merging=((25, 2.0), (30, 5.0), (50, 6.0)), plain=((10, 7.0),)
    )


def test_measured_is_the_median_of_ratios_within_rounds():
    measured = Measured.from_rounds(197, 8, untouched=[2.0, 4.0, 30.0], accelerated=[1.0, 4.0, 10.0], where="here")
    assert measured == Measured(n=197, images=8, seconds_untouched=4.0, seconds=4.0, speedup=2.0, where="here")
    assert str(measured) == "measured: 4e+03 ms untouched, 4e+03 ms accelerated, 8 images per call, 197 tokens, here"


# From times to a plan


@pytest.mark.parametrize("speedup", [1.2, 1.7, 2.5])
def test_where_all_flops_take_the_same_time_the_plan_is_that_of_flops(speedup):
    schedule = Schedule(speedup=speedup)
    assert of().plan(schedule, 197, 1) == schedule.plan(197, 12, 1, [FLOPS] * 12)


@pytest.mark.parametrize("n", [197, 300])
def test_a_slow_merge_asks_for_more_of_them(n):
    schedule = Schedule(speedup=1.5)
    slow = of(merging=((20, 3e-11), (197, 1.2e-11)))
    plan = slow.plan(schedule, n, 1)
    assert 1.5 <= slow.predicted(plan) < 1.52
    assert plan.speedup([FLOPS] * 12) > 1.6


def test_a_faster_forward_of_turbo_needs_fewer_merges_or_none():
    eager = of(untouched=((197, 1.4e-11),))
    plan = eager.plan(Schedule(speedup=1.7), 197, 1)
    assert sum(plan.counts) < sum(of().plan(Schedule(speedup=1.7), 197, 1).counts)
    assert eager.plan(Schedule(speedup=1.3), 197, 1) == Plan(
        197, (0,) * 12, ("speedup=1.3 is reached without a merge: no block merges anything",)
    )


def test_out_of_reach_is_said_in_time_and_what_is_in_reach_can_be_asked_for():
    slow = of(merging=((20, 9e-11), (197, 1.5e-11)), images=4)
    with pytest.raises(turbo.TurboError, match="is out of reach") as caught:
        slow.plan(Schedule(speedup=4.0), 197, 1)
    message = str(caught.value)
    assert "speedup=4.0" in message
    assert "FLOPs fall" not in message
    assert "measured with 4 images per call" in message
    most = float(message.partition("their time falls by ")[2].partition("x at most")[0])
    assert 1 < most < 4
    assert slow.predicted(slow.plan(Schedule(speedup=most), 197, 1)) >= most


def test_after_a_correction_a_plan_predicts_what_was_met():
    plan = Schedule(speedup=1.5).plan(197, 12, 1, [FLOPS] * 12)
    met = Measured.from_rounds(197, 1, [1.3], [1.0], "float32 on cpu")
    corrected = of().corrected(plan, met)
    assert corrected.measured is met
    assert corrected.predicted(plan) == pytest.approx(1.3)
    assert corrected.corrected(plan, met).predicted(plan) == pytest.approx(1.3)
    assert sum(corrected.plan(Schedule(speedup=1.5), 197, 1).counts) > sum(plan.counts)


# The clock


@pytest.mark.parametrize("sides", range(1, 7))
def test_the_order_of_rounds_is_fair(sides):
    rounds = [round_order(range(sides), index) for index in range(2 * sides)]
    places = Counter(place for order in rounds for place in enumerate(order))
    assert places == dict.fromkeys(itertools.product(range(sides), repeat=2), 2)
    neighbours = Counter(pair for order in rounds for pair in itertools.pairwise(order))
    assert neighbours == dict.fromkeys(itertools.permutations(range(sides), 2), 2)


def test_calls_take_turns_each_round_in_another_order(monkeypatch):
    order = []

    def second(call, device):
        call()
        return 1.0

    monkeypatch.setattr(clock, "seconds_of", second)
    calls = [lambda name=name: order.append(name) for name in "abc"]
    assert take_turns(calls, CPU, budget=0) == [[1.0] * 3] * 3
    assert "".join(order) == "abc" + "abc" + "cba" + "bca"
    assert len(take_turns(calls, CPU, budget=0, least=2)[0]) == 2


def test_short_calls_are_repeated_and_count_once(monkeypatch):
    seen = []

    def three_milliseconds_a_call(call, device):
        before = len(seen)
        call()
        return 0.003 * (len(seen) - before)

    monkeypatch.setattr(clock, "seconds_of", three_milliseconds_a_call)
    (took,) = take_turns([lambda: seen.append(0)], CPU, budget=0, least=2)
    assert took == pytest.approx([0.003, 0.003])
    assert len(seen) == 2 + 2 * 3  # two of warm-up; three of 3 ms fit into 10 ms


def test_rounds_end_with_the_budget_or_the_most():
    assert len(take_turns([lambda: None], CPU, budget=60)[0]) == clock.MOST


# The whole


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr(calibration, "BUDGET", 0)
    with counting_clock(monkeypatch) as calls:
        yield calls


@pytest.mark.parametrize("one", FAMILIES, ids=lambda one: one.name)
def test_every_family_reaches_its_speedup_on_the_clock_that_counts(one, counting):
    model = one.model()
    one.output(model, one.inputs())  # transformers puts hooks on models whose hidden states are read
    before = state_of(model)
    turbo.accelerate(model, speedup=1.4, calibrate=True)
    report = turbo.report(model)
    assert report.n == one.n
    assert report.measured.n == one.n
    assert report.measured.images == 1
    assert abs(report.measured.speedup / 1.4 - 1) <= 0.03  # a token more or less is one in a hundred
    assert report.measured.seconds_untouched == pytest.approx(report.flops_untouched / 1e6)
    assert report.measured.seconds == pytest.approx(report.flops / 1e6, rel=0.02)
    assert report.measured.speedup == pytest.approx(report.achieved, rel=0.02)
    timed = len(counting)
    one.output(model, one.inputs())
    assert len(counting) == timed
    assert turbo.report(model).blocks == report.blocks
    turbo.restore(model)
    require_same(before | {"random": torch.get_rng_state()}, state_of(model))


@one_of_each
@pytest.mark.parametrize("images", [True, 3])
def test_the_real_clock_leaves_no_trace(name, images, monkeypatch):
    """Whether a tiny model can be that much faster is for the machine to say: a plan, or an error."""
    monkeypatch.setattr(calibration, "BUDGET", 0)
    one = family(name)
    model = one.model()
    # What is not touched elsewhere: gradients, dropout, frozen weights, mixed flags of training.
    model.train()
    next(model.children()).training = False
    for parameter in list(model.parameters())[::2]:
        parameter.grad = torch.ones_like(parameter)
        parameter.requires_grad_(False)
    inputs = one.inputs()
    before, was = state_of(model), one.output(model.eval(), inputs)
    model.train()
    next(model.children()).training = False
    torch.set_rng_state(before["random"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", turbo.TurboWarning)  # on a busy machine a plan may fall short
            turbo.accelerate(model, "random", speedup=1.05, calibrate=images)
    except turbo.TurboError as error:
        assert "speedup=1.05 is out of reach" in str(error)  # noqa: PT017
        assert find_acceleration(model) is None
    else:
        report = turbo.report(model)
        assert report.measured.images == int(images)
        assert report.measured.seconds > 0 < report.measured.seconds_untouched
        assert report.blocks[0].tokens_in == one.n
        assert all(0 <= block.merged <= block.tokens_in // 2 for block in report.blocks)
        torch.testing.assert_close(torch.get_rng_state(), before["random"])
        turbo.restore(model)
    require_same(before, state_of(model))
    assert torch.equal(was, one.output(model.eval(), inputs))


def test_the_plan_holds_for_copies_and_other_lengths(counting):
    one = family("timm")
    model = turbo.accelerate(one.model(), speedup=1.5, calibrate=2)
    acceleration = find_acceleration(model)
    counts = acceleration.plan(one.n).counts
    timed = len(counting)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert turbo.report(twin).measured == turbo.report(model).measured
        assert find_acceleration(twin).plan(one.n).counts == counts
        assert find_acceleration(twin).plan(90) == acceleration.plan(90)
    other = acceleration.plan(90)
    assert other.tokens[0] == 90
    assert acceleration.calibration.predicted(other) >= 1.5
    assert len(counting) == timed


def test_a_calibrated_model_compiles(counting):
    one = family("vit")
    model = turbo.accelerate(one.model().eval(), speedup=1.5, calibrate=True)
    images = one.inputs()["pixel_values"]
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(images).pooler_output, model(images).pooler_output)


def test_for_a_with_block(counting):
    model = turbo.accelerate(family("clip").model(), drop=3)
    with turbo.accelerated(model, speedup=1.5, calibrate=True):
        assert turbo.report(model).measured is not None
    assert turbo.report(model).measured is None
    assert turbo.report(model).blocks[0].merged == 3


def test_an_accelerated_model_is_timed_untouched(counting):
    model = turbo.accelerate(family("vit").model(), drop=6)
    turbo.accelerate(model, speedup=1.4, calibrate=True)
    report = turbo.report(model)
    assert report.measured.seconds_untouched == pytest.approx(report.flops_untouched / 1e6)


def test_training_with_checkpointing_is_timed_as_inference(counting):
    model = family("vit").model().train()
    model.gradient_checkpointing_enable()
    turbo.accelerate(model, speedup=1.4, calibrate=True)
    report = turbo.report(model)
    assert report.measured.seconds_untouched == pytest.approx(report.flops_untouched / 1e6)
    assert report.measured.seconds == pytest.approx(report.flops / 1e6, rel=0.02)
    assert all(module.training for module in model.modules())


def test_the_report_says_where_it_was_measured_after_the_model_moved_on(counting):
    model = turbo.accelerate(family("timm").model().to(torch.bfloat16), speedup=1.4, calibrate=True)
    model.to(torch.float32)
    assert turbo.report(model).measured.where == "bfloat16 on cpu"
    assert str(turbo.report(model)).endswith(", 1 image per call, 37 tokens, bfloat16 on cpu")


def test_out_of_reach_keeps_what_was(counting):
    model = turbo.accelerate(family("vit").model(), drop=3)
    before = find_acceleration(model)
    with pytest.raises(turbo.TurboError, match=r"speedup=40\.0 is out of reach: with 37 tokens in 4 blocks"):
        turbo.accelerate(model, speedup=40.0, calibrate=True)
    assert find_acceleration(model) is before


def test_a_measured_speedup_that_falls_short_is_said(counting, monkeypatch):
    real = calibration.time_stack
    met = iter([1.1, 1.2, 1.15])

    def slower(*args, **kwargs):
        return replace(real(*args, **kwargs), speedup=next(met))

    monkeypatch.setattr(calibration, "time_stack", slower)
    with pytest.warns(turbo.TurboWarning, match=r"speedup=1\.4 was measured as 1\.20x") as caught:
        model = turbo.accelerate(family("vit").model(), speedup=1.4, calibrate=True)
    assert caught[0].filename == __file__
    assert turbo.report(model).measured.speedup == 1.2  # the nearest of the three
    assert turbo.report(model).notes[0].startswith("speedup=1.4 was measured as 1.20x")


def test_the_report_compares_what_was_asked_for_with_flops_and_seconds(counting):
    model = turbo.accelerate(family("vit").model(), speedup=1.5, calibrate=4)
    report = turbo.report(model)
    *_, flops, time, seconds = str(report).splitlines()
    assert flops == f"FLOPs of the blocks fall by {report.achieved:.2f}x"
    assert time == f"time of the blocks falls by {report.measured.speedup:.2f}x, 1.50x asked for"
    assert seconds == str(report.measured)
    assert seconds.endswith(", 4 images per call, 37 tokens, float32 on cpu")
    uncalibrated = turbo.report(turbo.accelerate(model, speedup=1.5))
    assert uncalibrated.measured is None
    assert str(uncalibrated).splitlines()[-1].endswith("x, 1.50x asked for")


# What is refused


@pytest.mark.parametrize("calibrate", [0, -1, 1.0, "yes", None])
def test_calibrate_is_true_or_a_number_of_images(calibrate):
    with pytest.raises(turbo.TurboError, match=f"calibrate={calibrate!r}: must be True, or the number of images"):
        turbo.accelerate(family("vit").model(), speedup=1.5, calibrate=calibrate)


@pytest.mark.parametrize("options", [{}, {"drop": 3}, {"ratio": 0.2}])
def test_calibrate_needs_a_speedup(options):
    with pytest.raises(turbo.TurboError, match=r"calibrate=8 makes a speedup one of time.*give speedup=1\.5, say, and"):
        turbo.accelerate(family("vit").model(), calibrate=8, **options)


def test_false_is_the_default():
    model = turbo.accelerate(family("vit").model(), speedup=1.5, calibrate=False)
    assert turbo.report(model).measured is None


def test_a_denoiser_has_no_calibration():
    from denoisers import sd1

    with pytest.raises(turbo.TurboError, match="calibrate=True cannot apply to a UNet2DConditionModel"):
        turbo.accelerate(sd1(), calibrate=True)


def test_weights_that_are_nowhere_are_not_timed():
    model = family("vit").model().to("meta")
    with pytest.raises(turbo.TurboError, match="the weights of ViTModel are on the meta device"):
        turbo.accelerate(model, speedup=1.5, calibrate=True)


def test_blocks_on_several_devices_are_found_before_anything_is_timed(monkeypatch):
    monkeypatch.setattr(clock, "seconds_of", None)
    model = family("vit").model()
    model.layers[1].to("meta")
    with pytest.raises(turbo.TurboError, match=r"the blocks lie on several devices \(cpu, meta\)"):
        turbo.accelerate(model, speedup=1.5, calibrate=True)


def test_a_forward_of_another_library_is_found_before_anything_is_timed(monkeypatch):
    monkeypatch.setattr(clock, "seconds_of", None)
    model = family("vit").model()
    model.layers[1].forward = lambda x: x
    with pytest.raises(turbo.TurboError, match="has a forward of its own on the instance"):
        turbo.accelerate(model, speedup=1.5, calibrate=True)


def test_a_block_that_cannot_run_by_itself_says_so():
    from toy_model import Block, Model, Sound

    class Picky(Block):
        def forward(self, x, length):
            assert length == 25, "how long is it?"
            return super().forward(x)

    model = Model()
    for block in model.blocks:
        block.__class__ = Picky
    with pytest.raises(turbo.TurboError, match=r"a Picky of this Model cannot run by itself on 25 tokens.*how long"):
        turbo.accelerate(model, speedup=1.5, calibrate=True, adapter=Sound())


def test_kinds_of_blocks_are_timed_each_by_itself(counting):
    """Blocks with other shapes have times of their own; what is required besides the tokens gets None."""
    from toy_model import Block, Model, Sound

    class Masked(Block):
        def forward(self, x, mask, *, causal):
            assert mask is None
            assert causal is None
            return super().forward(x)

    model = Model()
    model.blocks[1].__class__ = Masked
    turbo.accelerate(model, adapter=Sound())
    acceleration = find_acceleration(model)
    with undisturbed(acceleration):
        first, second, third = time_blocks(
            acceleration, 2, untouched=[25], merging=[1, 5, 25], plain=[9], budget=0, least=1
        )
        stack = time_stack(acceleration, Plan(25, (4, 0, 2), ("a note",)), 2, budget=0)
    assert first is third is not second
    for times in (first, second):
        assert [[n for n, _ in rates] for rates in (times.untouched, times.merging, times.plain)] == [
            [25],
            [5, 25],
            [9],
        ]
    assert stack.n == 25
    assert stack.images == 2
