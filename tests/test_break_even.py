"""From where on merging pays: from times to an outcome, and the search itself. No duration is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import family
from flops_clock import counting_clock, require_same, state_of
from typer.testing import CliRunner

import turbo
from turbo.bench.break_even import MARGIN, BatchBreakEven, Length, judge
from turbo.bench.finding import find_break_even
from turbo.cli.app import app
from turbo.cli.tables import break_even_table
from turbo.engine.install import find_acceleration
from turbo.engine.times import BlockTimes, Calibration, Measured
from turbo.flops import BlockFlops
from turbo.models import LoadedModel, load_model
from turbo.schedule import Schedule

FLOPS = BlockFlops(attention_per_token=8 * 768**2, mlp_per_token=16 * 768**2, width=768, metric_width=64)
MET = Measured.from_rounds(197, 4, [3.0], [2.0], "float32 on cpu")
GRID = [50, 101, 197, 325, 577]


@pytest.fixture
def counting(monkeypatch):
    with counting_clock(monkeypatch) as calls:
        yield calls


def calibration(merging, plain=1.0):
    times = BlockTimes(FLOPS, untouched=((50, 1.0), (577, 1.0)), merging=merging, plain=((197, plain),))
    return Calibration((times,) * 12, images=4, measured=MET)


def test_where_merging_is_free_it_pays_at_all_lengths_and_from_one_token():
    found = judge(calibration(((50, 1.0),)), 197, 1, GRID)
    assert [length.n for length in found.lengths] == GRID
    assert found.lengths[2].speedup == pytest.approx(Schedule().plan(197, 12, 1).speedup([FLOPS] * 12))
    assert (found.pays_from, found.drop, found.batch, found.measured) == (50, 1, 4, MET)
    assert found.sentence == (
        "batch 4: pays from N = 50, the shortest that was timed; at the model's own N = 197 the default amount gives "
        "1.50x (measured), and a constant drop pays from 1"
    )


def test_it_pays_from_the_length_at_which_the_default_amount_exceeds_the_margin():
    slow_when_short = calibration(((25, 2.0), (101, 1.6), (197, 1.0)))
    found = judge(slow_when_short, 197, 1, GRID[::-1])
    factors = {length.n: length.speedup for length in found.lengths}
    assert factors[101] <= 1 + MARGIN < factors[197]
    assert found.pays_from == 197
    assert f"pays from N = 197; does not pay at N = 101: {factors[101]:.2f}x; at the model's own" in found.sentence
    stricter = judge(slow_when_short, 197, 1, GRID, margin=factors[197] - 1)
    assert stricter.pays_from == 325


def test_the_smallest_drop_that_pays_does_and_one_less_does_not():
    times = calibration(((25, 1.6), (197, 1.1)))
    drop = judge(times, 197, 1, GRID).drop

    def factor(count):
        return times.predicted(Schedule(drop=count).plan(197, 12, 1))

    assert drop > 1
    assert factor(drop - 1) <= 1 + MARGIN < factor(drop)


def test_what_pays_short_and_not_long_does_not_count():
    found = judge(calibration(((50, 1.0), (325, 1.0), (400, 9.0))), 197, 1, GRID)
    assert found.lengths[0].speedup > 1.2
    assert found.pays_from is None
    best, last = max(found.lengths, key=lambda length: length.speedup), found.lengths[-1]
    assert last.speedup < 1 < best.speedup
    assert (
        f"pays at N = {best.n} ({best.speedup:.2f}x), but not at the longest, N = 577: {last.speedup:.2f}x; at the "
    ) in found.sentence


def test_where_it_never_pays_that_is_said_plainly():
    found = judge(calibration(((25, 9.0),)), 197, 1, GRID)
    assert (found.pays_from, found.drop) == (None, None)
    best = max(found.lengths, key=lambda length: length.speedup)
    assert best.speedup < 1
    assert f"batch 4: does not pay up to N = 577: {best.speedup:.2f}x at most, at N = {best.n}; at" in found.sentence
    assert found.sentence.endswith("and no constant drop pays")


def test_the_search_on_the_clock_that_counts(counting):
    """Where seconds are FLOPs, the outcome is that of the FLOPs model."""
    one = family("vit")
    model = one.model()
    loaded = LoadedModel("tiny", model, (48, 48), model)
    turbo.accelerate(model, drop=3)
    before, steps = find_acceleration(model), []
    found = find_break_even(
        loaded, "tome", batches=[2, 1, 2], lengths=[20, 37, 50], budget=0, on_step=lambda: steps.append(0)
    )
    assert find_acceleration(model) is before
    assert len(steps) == 2 * (3 + 1)
    assert (found.model, found.strategy, found.n, found.dtype, found.margin) == ("tiny", "tome", 37, "float32", MARGIN)
    assert [batch.batch for batch in found.batches] == [2, 1]
    flops = before.flops
    for batch in found.batches:
        assert batch.measured.n == 37
        assert batch.measured.images == batch.batch
        for length in batch.lengths:
            assert length.speedup == pytest.approx(Schedule().plan(length.n, 4, 1).speedup(flops), rel=0.02)
        assert batch.pays_from == 20
        assert 1 <= batch.drop <= 2
    assert json.loads(json.dumps(found.to_json()))["batches"][0]["sentence"] == found.batches[0].sentence


def test_lengths_that_take_too_long_are_left_out_but_for_the_models_own(counting):
    one = family("timm")
    model = one.model()
    before = state_of(model)
    found = find_break_even(LoadedModel("tiny", model, (48, 48), model), batches=[1], lengths=[10, 20, 90], budget=0)
    # On this clock a block of 20 tokens takes more than a second.
    assert [length.n for length in found.batches[0].lengths] == [10, 37]
    require_same(before, state_of(model))


@pytest.mark.parametrize("name", ["dinov2", "clip", "open-clip", "blip", "timm-registers"])
def test_the_real_clock_leaves_no_trace(name):
    model = family(name).model().train()
    before = state_of(model)
    found = find_break_even(LoadedModel(name, model, (48, 48), model), batches=[1, 2], lengths=[16, 60], budget=0)
    assert [[length.n for length in batch.lengths] for batch in found.batches] == [[16, family(name).n, 60]] * 2
    assert all(length.speedup > 0 for batch in found.batches for length in batch.lengths)
    assert len(break_even_table(found).rows) == 4
    require_same(before, state_of(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": []}, r"batches=\[\]: must be whole numbers, 1 or more"),
        ({"batches": [0]}, r"batches=\[0\]: must be whole numbers"),
        ({"lengths": [3, 50]}, r"lengths=\[3, 50\]: must be whole numbers, 4 or more"),
        ({"drop": 5}, "drop: amounts are what is searched for"),
        ({"speedup": 2.0, "calibrate": 3}, "calibrate, speedup: amounts are what"),
    ],
)
def test_numbers_that_make_no_sense(options, message):
    loaded = load_model("zoo:vit-digits")
    with pytest.raises(turbo.TurboError, match=message):
        find_break_even(loaded, **options)


def test_only_warnings_of_amounts_are_kept_back():
    loaded = load_model("zoo:vit-digits")
    with pytest.warns(turbo.TurboWarning, match="semantic_units='probability'"):
        find_break_even(loaded, turbo.fusion.Ward(), batches=[1], lengths=[64], budget=0, semantic_units="probability")


def test_a_denoiser_is_refused():
    from denoisers import sd1

    model = sd1()
    with pytest.raises(turbo.TurboError, match="tiny is a denoiser"):
        find_break_even(LoadedModel("tiny", model, (12, 12), model))
    assert find_acceleration(model) is None


def test_blocks_that_take_one_length_only_are_refused():
    from toy_model import Block, Model, Sound

    class Fixed(Block):
        def forward(self, x):
            return super().forward(x) + torch.zeros(25, 1)

    model = Model()
    for block in model.blocks:
        block.__class__ = Fixed
    with pytest.raises(turbo.TurboError, match="a Fixed of this Model cannot run by itself on 8 tokens"):
        find_break_even(LoadedModel("toy", model, (5, 5), model), lengths=[8], batches=[1], adapter=Sound())


def test_the_table_marks_what_was_not_timed_and_what_does_not_pay():
    from rich.console import Console

    from turbo.bench.break_even import BreakEven

    batches = (
        BatchBreakEven(1, 197, (Length(50, 0.91), Length(197, 1.25)), 197, 12, MET),
        BatchBreakEven(16, 197, (Length(50, 0.95),), None, None, MET),
    )
    found = BreakEven("some[model]", "ward", 197, "float32", MARGIN, {}, batches)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(break_even_table(found))
    text = captured.get()
    assert text.startswith("some[model], strategy ward, float32")
    lines = [line for line in text.splitlines() if "│" in line]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert rows == [["50", "0.91x", "0.95x"], ["197", "1.25x", "–"], ["drop at N = 197", "12", "–"]]


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def test_find_prints_a_table_and_a_sentence_for_each_batch(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("turbo.bench.finding.LENGTHS", (16, 40))
    target = tmp_path / "new" / "found.json"
    result = run("bench", "zoo:vit-digits", "--find", "--batches", "2,1", "--strategy", "s1", "--json", str(target))
    assert result.exit_code == 0, result.output
    (record,) = json.loads(target.read_text())["results"]
    text = " ".join(result.output.split())
    assert [batch["batch"] for batch in record["batches"]] == [2, 1]
    assert record["strategy"] == "s1"
    for batch in record["batches"]:
        assert batch["sentence"] in text
        assert [length["n"] for length in batch["lengths"]] == [16, 40, 257]
        assert batch["measured"]["n"] == 257


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--find", "--drop", "0"], "--drop cannot apply with --find"),
        (["--find", "--speedup", "2", "--schedule", "early"], "--speedup, --schedule cannot apply with --find"),
        (["--find", "--threshold", "9", "--min-tokens", "4"], "--threshold, --min-tokens cannot apply with --find"),
        (["--find", "--batch", "1"], "for images per call give --batches"),
        (["--find", "--rounds", "5", "--compile"], "--rounds, --compile cannot apply with --find"),
        (["--find", "--strategy", "s1", "--strategy", "s2"], "--find with 2 strategies: name one"),
        (["--find", "--batches", "1,many"], "--batches 1,many: must be numbers of images"),
        (["--find", "--batches", "0"], "--batches 0: must be numbers of images, 1 or more"),
        (["--batches", "1"], "--batches goes with --find; give --batch"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_a_model_is_loaded(arguments, message):
    with pytest.raises(turbo.TurboError) as caught:
        CliRunner().invoke(app, ["bench", "zoo:nonsense", *arguments], catch_exceptions=False)
    assert message in str(caught.value)
