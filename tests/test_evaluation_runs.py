"""Settings, runs that go on, figures, speed and the plot."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_jobs import digits, job, model, scenes
from PIL import Image

import turbo
from turbo.engine.install import find_acceleration
from turbo.errors import TurboError
from turbo.evaluation import Captions
from turbo.evaluation.figures import Side, difference, figure, verdict
from turbo.evaluation.metrics.intervals import Interval
from turbo.evaluation.pareto import pareto_front, save_plot
from turbo.evaluation.results import part_of, summarise, write_csv
from turbo.evaluation.run import count_batches, evaluate, preview
from turbo.evaluation.settings import UNTOUCHED, Setting, as_settings, find_rival, make_grid
from turbo.evaluation.study import run_study
from turbo.evaluation.tasks.choice import default_decoding
from turbo.evaluation.tasks.job import Decoding
from turbo.evaluation.tasks.outcome import Outcome
from turbo.evaluation.timing import ideal_factors, speeds
from turbo.models import LoadedModel, load_model

# Settings


def test_a_grid_is_every_combination():
    grid = make_grid(
        {"s1": "s1", "tome": "tome"}, {"speedup": [1.5, 2.0], "schedule": [None, "early"], "threshold": [0, 40]}
    )
    assert len(grid) == 16
    assert list(grid)[:4] == [
        "s1 speedup=1.5",
        "s1 speedup=1.5 threshold=40",
        "s1 speedup=1.5 schedule=early",
        "s1 speedup=1.5 schedule=early threshold=40",
    ]
    one = grid["tome speedup=2 schedule=early threshold=40"]
    assert one.options == {"strategy": "tome", "speedup": 2.0, "schedule": "early", "threshold": 40}
    assert (one.amount, one.series) == ("speedup=2", "tome schedule=early threshold=40")
    assert make_grid({"s1": "s1"}, {}).keys() == {"s1 default"}
    assert list(make_grid({"s1": "s1"}, {"drop": [(30, 20)], "metric": ["queries"]})) == [
        "s1 drop=30:20 metric=queries"
    ]


def test_the_rival_differs_in_strategy_only():
    grid = list(make_grid({"s1": "s1", "tome": "tome"}, {"drop": [10, 20], "threshold": [0, 40]}).values())
    by_name = {setting.name: setting for setting in grid}
    assert find_rival(by_name["s1 drop=20 threshold=40"], grid) is by_name["tome drop=20 threshold=40"]
    assert find_rival(by_name["tome drop=20"], grid) is None
    ours = as_settings({"mine": {"drop": 10, "threshold": 0}, "theirs": {"strategy": "tome", "drop": 10}, "x": {}})
    assert find_rival(ours[0], ours) is ours[1]
    assert find_rival(ours[2], ours) is None


def test_names_that_would_share_a_file():
    with pytest.raises(TurboError, match="'a b' and 'a/b' would share a file"):
        as_settings({"a b": {}, "a/b": {"drop": 3}})
    with pytest.raises(TurboError, match="'untouched' and 'Untouched' would share"):
        as_settings({"Untouched": {}})
    with pytest.raises(TurboError, match="a setting cannot be called 'untouched'"):
        as_settings({"untouched": {}})
    with pytest.raises(TurboError, match="no settings"):
        as_settings({})
    assert as_settings({"x": {"strategy": turbo.fusion.S1(alpha=0.5)}})[0].strategy == "S1(alpha=0.5)"


def test_a_preview_is_what_the_report_says():
    (found,) = preview(model("vit-digits"), as_settings({"x": {"drop": 60}})).values()
    assert found.tokens < 257 - 3 * 60
    assert found.factor > 1.5
    assert "drop=60 is more than half of the tokens" in found.notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 300}, "the setting 'x': drop=300: the model has only 257 tokens"),
        ({"strategy": "s9"}, "the setting 'x': no strategy is called 's9'"),
        ({"drop": [1, 2]}, "the setting 'x': drop has 2 counts"),
    ],
)
def test_a_setting_that_cannot_work_is_named_before_anything_is_written(tmp_path: Path, options: dict, message: str):
    with pytest.raises(TurboError, match=message):
        evaluate(model("vit-digits"), [digits()], {"x": options}, task="classification", out=tmp_path)
    assert not list(tmp_path.iterdir())
    assert find_acceleration(model("vit-digits").model) is None


# Runs that go on


def files(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in sorted(out.rglob("*.json"))}


SETTINGS = {"few": {"drop": 10}, "many": {"strategy": "tome", "drop": 25}}


def test_what_is_there_is_not_measured_again(tmp_path: Path):
    vit, data = model("vit-digits"), digits()
    calls = []
    hook = vit.model.register_forward_hook(lambda *_: calls.append(1))
    try:
        first = evaluate(vit, [data], SETTINGS, task="classification", batch=8, out=tmp_path)
        assert len(calls) == count_batches([data], 8, as_settings(SETTINGS)) == 6
        before = files(tmp_path)
        steps: list[int] = []
        again = evaluate(
            vit, [data], SETTINGS, task="classification", batch=8, out=tmp_path, on_batch=lambda: steps.append(1)
        )
        assert (len(calls), len(steps)) == (6, 6)
        assert files(tmp_path) == before
        more = {**SETTINGS, "more": {"drop": 30}}
        other = digits(seed=1)
        evaluate(vit, [data, other], more, task="classification", batch=8, out=tmp_path)
        assert len(calls) == 6 + 2 + 4 * 2
        assert {name: files(tmp_path)[name] for name in before} == before
    finally:
        hook.remove()
    for name, found in first[data.name].items():
        kept = again[data.name][name]
        assert kept.predictions == found.predictions
        assert np.allclose(kept.per_example["nll"], found.per_example["nll"], atol=1e-6)
    names = {"untouched.json", "few.json", "many.json", "settings.json"}
    folder = tmp_path / "outcomes" / "digits-plain-test-seed-0"
    assert {path.name for path in folder.iterdir()} == names | {"more.json"}
    assert find_acceleration(vit.model) is None


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path):
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    vit, data = model("vit-digits"), digits()
    with pytest.raises(KeyboardInterrupt):
        evaluate(vit, [data], SETTINGS, task="classification", batch=8, out=tmp_path, on_batch=stop)
    assert find_acceleration(vit.model) is None
    folder = tmp_path / "outcomes" / "digits-plain-test-seed-0"
    assert {path.name for path in folder.iterdir()} == {"settings.json", "untouched.json"}
    evaluate(vit, [data], SETTINGS, task="classification", batch=8, out=tmp_path)
    assert len(list(folder.iterdir())) == 4


def test_a_folder_of_another_run_is_refused(tmp_path: Path):
    vit, data = model("vit-digits"), digits(limit=8)
    evaluate(vit, [data], SETTINGS, task="classification", out=tmp_path)
    other = replace(load_model("zoo:vit-digits"))
    with torch.no_grad():
        next(other.model.parameters()).add_(1)
    with pytest.raises(TurboError, match="holds outcomes of a run with weights='.*'; asked for: weights="):
        evaluate(other, [data], SETTINGS, task="classification", out=tmp_path)
    with pytest.raises(TurboError, match="holds outcomes on data with images=8, .*; asked for: images=16"):
        evaluate(vit, [digits(limit=16)], SETTINGS, task="classification", out=tmp_path)
    with pytest.raises(TurboError, match=r"few.json holds 'few' with .*'drop': 10.*not .*'drop': 11"):
        evaluate(vit, [data], {"few": {"drop": 11}}, task="classification", out=tmp_path)


def test_other_ways_of_writing_are_another_run(tmp_path: Path):
    arguments = (model("blip-scenes"), [scenes("captioning", 2)], {"s1": {"drop": 10}})
    evaluate(*arguments, task="captioning", decoding=Decoding(generate=False), out=tmp_path)
    with pytest.raises(TurboError, match="decoding_beams=3; asked for: decoding_beams=1. Take the same"):
        evaluate(*arguments, task="captioning", decoding=Decoding(beams=1, generate=False), out=tmp_path)


def test_an_accelerated_model_is_no_baseline():
    loaded = load_model("zoo:vit-digits")
    turbo.accelerate(loaded.model, drop=5)
    with pytest.raises(TurboError, match=r"zoo:vit-digits is accelerated already: turbo.restore\(model\) first"):
        evaluate(loaded, [digits()], SETTINGS, task="classification")


def test_the_same_data_twice():
    with pytest.raises(TurboError, match="give one or more, each once"):
        evaluate(model("vit-digits"), [digits(), digits()], SETTINGS, task="classification")
    with pytest.raises(TurboError, match="data: none"):
        evaluate(model("vit-digits"), [], SETTINGS, task="classification")


# Figures


def test_nan_survives_a_file():
    found = Outcome({"digit": [1.0, math.nan, 0.123456789]}, {"bleu4": 0.5}, ["a", "b", "c"])
    text = json.dumps(found.to_json(), allow_nan=False)
    back = Outcome.from_json(json.loads(text))
    assert back.per_example["digit"][0] == 1
    assert math.isnan(back.per_example["digit"][1])
    assert back.metrics == pytest.approx({"digit": (1 + 0.123457) / 2, "bleu4": 0.5})
    assert math.isnan(Outcome({"none": [math.nan]}).metrics["none"])


def captions(name: str, references: list[str]) -> Captions:
    return Captions(name, [], tuple((text,) for text in references))


def test_seeds_are_pooled():
    data = [digits(limit=3, seed=seed) for seed in (0, 1)]
    ours = Side(data, [Outcome({"top1": [1.0, 1.0, 0.0]}), Outcome({"top1": [0.0, 1.0, 1.0]})])
    theirs = Side(data, [Outcome({"top1": [0.0, 1.0, 0.0]}), Outcome({"top1": [0.0, 0.0, 0.0]})])
    assert figure(ours, "top1").value == pytest.approx(4 / 6)
    assert figure(ours, "top1").count == 6
    change = difference(ours, theirs, "top1")
    assert change.value == pytest.approx(3 / 6)
    deviation = np.std([1, 0, 0, 0, 1, 1], ddof=1) / math.sqrt(6)
    assert change.half_width == pytest.approx(1.96 * deviation, rel=1e-4)


def test_questions_about_an_image_are_no_independent_examples():
    data = [scenes("vqa", seed=seed) for seed in (0, 1)]
    side = Side(data, [Outcome({"accuracy": [0.0] * len(each.questions)}) for each in data])
    groups = side.groups("accuracy")
    assert len(set(groups)) == 16
    assert groups[: len(data[0].questions)] == list(data[0].image_of)
    found = Side([captions("x", ["a", "b"])], [Outcome({"text_to_image_r1": [1.0, 0.0]})])
    assert found.groups("text_to_image_r1") == [0, 1]
    assert found.groups("cider") is None


def test_bleu_is_of_the_pooled_corpus():
    from turbo.evaluation.metrics.text_metrics import bleu

    data = [
        captions("x", ["a small red ring on it", "a big blue cross on it"]),
        captions("y", ["a big green ring on it"]),
    ]
    texts = [["a small red ring on it", "a big red cross on it"], ["a big green ring on it"]]
    side = Side(data, [Outcome({}, {"bleu4": 0.0}, each) for each in texts])
    whole = bleu([*texts[0], *texts[1]], [*data[0].references, *data[1].references])
    assert figure(side, "bleu4").value == pytest.approx(whole)
    worse = Side(data, [Outcome({}, {"bleu4": 0.0}, ["a ring"] * len(each)) for each in texts])
    assert difference(side, worse, "bleu4").value > 0.5
    assert difference(side, side, "bleu4").high == 0


def test_a_lower_likelihood_loss_is_better():
    fall, rise = Interval(-0.5, -0.6, -0.4, 9), Interval(0.5, 0.4, 0.6, 9)
    assert (verdict(fall, "nll"), verdict(rise, "nll")) == ("better", "worse")
    assert (verdict(fall, "cider"), verdict(rise, "cider")) == ("worse", "better")
    assert verdict(Interval(0.5, -0.1, 1.1, 9), "cider") == "even"
    assert verdict(Interval(math.nan, math.nan, math.nan, 0), "cider") == "even"


def made_up_results(**about: object) -> dict:
    data = [digits(limit=4), digits(limit=4, ground="distractors")]
    settings = list(make_grid({"s1": "s1", "tome": "tome"}, {"drop": [10, 20]}).values())
    values = {UNTOUCHED: [1, 1, 1, 1], "s1 drop=10": [1, 1, 1, 1], "s1 drop=20": [1, 1, 1, 0]}
    values |= {"tome drop=10": [1, 1, 0, 0], "tome drop=20": [0, 0, 0, 0]}
    outcomes = {each.name: {name: Outcome({"top1": its, "nll": its}) for name, its in values.items()} for each in data}
    ideal = {UNTOUCHED: 1.0, "s1 drop=10": 1.5, "s1 drop=20": 2.0, "tome drop=10": 1.5, "tome drop=20": 2.0}
    return summarise(data, outcomes, settings, ideal=ideal, **about)


def test_a_summary_compares_with_the_untouched_model_and_with_tome():
    found = made_up_results()
    assert list(found["parts"]) == ["digits:plain test", "digits:distractors test"]
    s1 = found["parts"]["digits:plain test"]["settings"]["s1 drop=20"]["top1"]
    assert (s1["value"], s1["count"], s1["by_data"]) == (0.75, 4, [0.75])
    assert s1["against_untouched"]["value"] == -0.25
    assert s1["against_untouched"]["relative"] == -0.25
    assert s1["against_tome"]["value"] == 0.75
    assert s1["against_tome"]["relative"] is None  # of 0
    assert s1["against_tome"]["verdict"] == "better"
    tome = found["parts"]["digits:plain test"]["settings"]["tome drop=10"]["top1"]
    assert tome["against_tome"] is None
    assert tome["against_untouched"]["relative"] == -0.5
    untouched = found["parts"]["digits:plain test"]["settings"][UNTOUCHED]["top1"]
    assert untouched["against_untouched"] is None
    json.dumps(found, allow_nan=False)
    assert part_of("scenes:plain test seed 12 retrieval") == "scenes:plain test retrieval"


def test_a_table_has_a_row_for_each_figure(tmp_path: Path):
    seconds = {"encoder": {name: [2.0 / (1 + place), 2.0] for place, name in enumerate([UNTOUCHED, "s1 drop=10"])}}
    found = made_up_results(speed=speeds(seconds, 4))
    write_csv(tmp_path / "x.csv", found)
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5 * 2
    keys = {(row["part"], row["setting"], row["metric"]): row for row in rows}
    one = keys["digits:plain test", "s1 drop=10", "top1"]
    assert (one["strategy"], one["option_drop"], one["value"], one["ideal_speedup"]) == ("s1", "10", "1.0", "1.5")
    assert float(one["against_tome_value"]) == 0.5
    assert one["against_tome_verdict"] == "even"
    assert float(one["encoder_per_second"]) == pytest.approx(4 / 1.5)
    assert keys["digits:plain test", "tome drop=20", "nll"]["encoder_speedup"] == ""


# Speed


def test_speed_up_is_the_median_of_the_ratios_within_rounds():
    seconds = {"encoder": {UNTOUCHED: [2.0, 4.0, 6.0], "x": [1.0, 1.0, 2.0]}, "call": {UNTOUCHED: [9.0], "x": [6.0]}}
    found = speeds(seconds, 10)
    assert found["x"]["encoder"].speedup == 3  # the two medians would say 4
    assert found["x"]["encoder"].per_second == 10
    assert (found["x"]["encoder"].low, found["x"]["encoder"].high) == (2.5, 3.5)  # of 2, 4 and 3
    assert found["x"]["call"].speedup == 1.5
    assert found[UNTOUCHED]["encoder"].speedup == 1


def test_ideal_factors_are_of_the_vision_side():
    settings = as_settings({"x": {"drop": 20}})
    found = ideal_factors(model("vit-digits"), settings)
    (known,) = preview(model("vit-digits"), settings).values()
    assert found[UNTOUCHED] == 1
    assert found["x"] == pytest.approx(known.factor, rel=0.03)


def test_fused_attention_of_torch_is_counted():
    from open_clip.transformer import VisionTransformer

    size = {"image_size": 64, "patch_size": 8, "width": 96, "layers": 9, "heads": 3, "mlp_ratio": 4, "output_dim": 8}
    tower = VisionTransformer(**size).eval()
    loaded = LoadedModel("mine", tower, (64, 64), tower)
    settings = as_settings({"x": {"drop": 6}})
    (known,) = preview(loaded, settings).values()
    assert ideal_factors(loaded, settings)["x"] == pytest.approx(known.factor, rel=0.05)


# The study and its plot


def test_a_study_is_written_down_and_its_times_are_kept(tmp_path: Path):
    data = [digits(limit=8, seed=seed) for seed in (0, 1)]
    steps: list[str] = []

    class Step:
        def __init__(self, label: str, count: int | None) -> None:
            self.label = label

        def __enter__(self):
            return lambda: steps.append(self.label)

        def __exit__(self, *_):
            return None

    arguments = (model("vit-digits"), data, SETTINGS, tmp_path)
    options = {"task": "classification", "batch": 8, "rounds": 2, "progress": Step}
    found = run_study(*arguments, **options, about={"command": "mine"})
    assert [label for label in steps if label.startswith("timing")] == ["timing, all settings in turn"] * 3
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert (found["command"], found["run"]["task"], found["run"]["rounds"]) == ("mine", "classification", 2)
    assert found["machine"]["torch"] == torch.__version__
    assert found["parts"]["digits:plain test"]["data"] == [each.name for each in data]
    figures = found["parts"]["digits:plain test"]["settings"]["few"]["top1"]
    assert figures["count"] == 16
    assert len(figures["by_data"]) == 2
    assert figures["against_tome"] is None  # "many" merges more
    speed = found["settings"]["few"]["speed"]
    assert list(speed) == ["encoder"]
    assert speed["encoder"]["per_second"] > 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    times = json.loads((tmp_path / "times.json").read_text())
    assert {name: len(its) for name, its in times["seconds"]["encoder"].items()} == {UNTOUCHED: 2, "few": 2, "many": 2}
    before = files(tmp_path)
    again = run_study(*arguments, **options)
    assert again["settings"] == found["settings"]
    assert files(tmp_path)["times.json"] == before["times.json"]
    run_study(*arguments, **options | {"rounds": 1})
    assert files(tmp_path)["times.json"] != before["times.json"]


def test_the_whole_call_is_timed_where_a_text_is_written(tmp_path: Path):
    arguments = (model("blip-scenes"), [scenes("captioning", 2)], {"s1": {"drop": 20}})
    found = run_study(*arguments, tmp_path / "a", task="captioning", rounds=1, plot=False)
    assert list(found["settings"]["s1"]["speed"]) == ["encoder", "call"]
    assert not (tmp_path / "a" / "plot.png").exists()
    brief = replace(default_decoding(model("blip-scenes"), "captioning"), generate=False)
    found = run_study(*arguments, tmp_path / "b", task="captioning", rounds=1, plot=False, decoding=brief)
    assert list(found["settings"]["s1"]["speed"]) == ["encoder"]


def test_the_call_of_a_question_answerer_is_its_generate():
    asked = job("vqa", limit=4)
    with torch.inference_mode():
        ids = asked.call(3)()
    assert len(ids) == 3
    assert job("retrieval").call(3) is None


def test_the_front_is_what_nothing_beats():
    points = [(1.0, 1.0), (2.0, 0.9), (2.0, 0.8), (1.5, 0.95), (1.4, 0.94), (3.0, 0.1), (3.0, 0.1)]
    assert pareto_front(points) == [0, 3, 1, 5, 6]
    rng = np.random.default_rng(0)
    cloud = [tuple(map(float, point)) for point in rng.integers(0, 6, size=(40, 2))]
    front = pareto_front(cloud)
    for index, point in enumerate(cloud):
        beaten = any(o[0] >= point[0] and o[1] >= point[1] and o != point for o in cloud)
        assert beaten != (index in front)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("metric", ["top1", "nll"])
def test_a_plot_is_a_picture(tmp_path: Path, metric: str, measured: bool):
    names = [UNTOUCHED, "s1 drop=10", "s1 drop=20", "tome drop=10", "tome drop=20"]
    seconds = {"encoder": {name: [2.0 / (1 + place), 2.0] for place, name in enumerate(names)}}
    found = made_up_results(speed=speeds(seconds, 4) if measured else None)
    save_plot(tmp_path / "x.png", found, metric, "mine")
    with Image.open(tmp_path / "x.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 1.5 * pixels.shape[0]  # two panels
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_a_plot_of_nothing(tmp_path: Path):
    with pytest.raises(TurboError, match="no metric is called 'cider' here; there are: top1, nll"):
        save_plot(tmp_path / "x.png", made_up_results(), "cider")


def test_a_setting_records_what_is_asked_for():
    """What happens to be a default, too, as defaults may change; a threshold of 0 asks for nothing."""
    one = Setting.of("x", {"strategy": "tome", "drop": (3, 2), "threshold": 0, "metric": "keys", "min_tokens": 9})
    assert one.record == {"strategy": "tome", "drop": [3, 2], "metric": "keys", "min_tokens": 9}
    assert Setting.of("x", {"drop": 3, "metric": None}).record == {"strategy": "ward", "drop": 3}


def test_a_preview_notes_what_accelerate_warns_of():
    settings = as_settings(
        {"capped": {"drop": 120}, "units": {"strategy": "ward", "drop": 8, "semantic_units": "probability"}}
    )
    found = preview(model("vit-digits"), settings)
    assert "is more than half of the tokens" in found["capped"].notes[0]
    assert "has the floor for relative units" in found["units"].notes[0]
    assert [len(each.notes) for each in found.values()] == [1, 1]
