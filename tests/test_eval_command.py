"""`turbo eval` and strategies with arguments, as a user runs them."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
from dataset_folders import write_coco, write_vqav2
from typer.testing import CliRunner

import turbo
from turbo.cli.app import app
from turbo.cli.grid import parse_grid, parse_list
from turbo.cli.specs import canonical, find_strategy, split_arguments, split_specs
from turbo.fusion import S1, S4


def run(*arguments: object):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def error_of(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, turbo.TurboError), result.output
    return str(result.exception)


def rows_of(out: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with (out / "results.csv").open() as file:
        return {(row["part"], row["setting"], row["metric"]): row for row in csv.DictReader(file)}


DIGITS = ("--model", "zoo:vit-digits", "--data", "digits", "--limit", 12)


def test_classification_with_everything_that_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("turbo.cli.evaluate.console.width", 120)
    monkeypatch.setattr(sys, "argv", ["turbo", "eval", "s1(alpha=.5)"])
    out = tmp_path / "new" / "folder"
    result = run(
        *DIGITS, "--strategies", "s1,s1(alpha=.5),tome", "--speedup", "1.5,2", "--schedule", "early",
        "--seeds", "0,1", "--rounds", 1, "--batch", 6, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    names = [
        f"{strategy} speedup={factor} schedule=early"
        for strategy in ("s1", "s1(alpha=0.5)", "tome")
        for factor in ("1.5", "2")
    ]
    assert "6 settings and the untouched model" in result.output
    for name in names:
        assert result.output.count(name) == 3  # as what will run, and in each part's table
    record = json.loads((out / "results.json").read_text())
    assert record["command"] == "turbo eval 's1(alpha=.5)'"
    assert list(record["settings"]) == ["untouched", *names]
    assert list(record["parts"]) == ["digits:plain test", "digits:distractors test"]
    one = record["parts"]["digits:plain test"]["settings"]["s1 speedup=2 schedule=early"]["top1"]
    assert one["count"] == 24
    assert len(one["by_data"]) == 2
    assert one["against_tome"]["count"] == 24
    about = record["settings"]["s1 speedup=2 schedule=early"]
    assert about["options"] == {"strategy": "s1", "speedup": 2.0, "schedule": "early"}
    assert 1.9 < about["ideal_speedup"] < 2.2
    assert about["speed"]["encoder"]["speedup"] > 0
    rows = rows_of(out)
    assert len(rows) == 2 * 7 * 2
    cell = rows["digits:plain test", "s1(alpha=0.5) speedup=2 schedule=early", "top1"]
    assert (cell["strategy"], cell["option_speedup"], cell["option_schedule"]) == ("s1(alpha=0.5)", "2.0", "early")
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "encoder" in result.output
    assert f"written to {out}" in result.output.replace("\n", "")


def test_a_command_goes_on_with_what_is_there(tmp_path: Path):
    arguments = (*DIGITS, "--no-timing", "--no-plot", "--out", tmp_path)
    assert run(*arguments, "--drop", "10").exit_code == 0
    assert not (tmp_path / "plot.png").exists()
    assert not (tmp_path / "times.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "outcomes").rglob("*.json")}
    assert len(kept) == 2 * 4
    result = run(*arguments, "--drop", "10,30:20:10:0:0:0:0:0")
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list((tmp_path / "outcomes").rglob("*.json"))) == 2 * 6
    settings = json.loads((tmp_path / "results.json").read_text())["settings"]
    amounts = ("drop=10", "drop=30:20:10:0:0:0:0:0")
    assert settings.keys() == {"untouched"} | {f"{name} {drop}" for name in ("ward", "tome") for drop in amounts}
    message = error_of("--model", "zoo:vit-digits", "--data", "digits", "--limit", 11, "--no-timing", "--out", tmp_path)
    assert "holds outcomes on data with images=12" in message
    assert "asked for: images=11" in message


def test_captions_of_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("turbo.cli.evaluate.console.width", 150)
    result = run(
        "--model", "zoo:blip-scenes", "--data", "scenes", "--limit", 4, "--drop", 20, "--rounds", 1, "--out", tmp_path
    )
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "results.json").read_text())
    assert list(record["parts"]) == ["scenes:plain test", "scenes:distractors test"]
    figures = record["parts"]["scenes:plain test"]["settings"]["ward drop=20"]
    wanted = {"nll", "cider", "bleu4", "exact", "size", "colour", "kind", "digit", "small", "count", "relation"}
    assert set(figures) == wanted
    assert list(record["settings"]["ward drop=20"]["speed"]) == ["encoder", "call"]
    assert record["run"]["decoding_max_length"] == 32
    assert re.search(r"CIDEr +- untouched +- tome +nll +B@4 +exact +digit +small +encoder +call +ideal", result.output)
    (kept,) = (tmp_path / "outcomes" / "scenes-plain-test-seed-0").glob("ward*.json")
    assert len(json.loads(kept.read_text())["predictions"]) == 4


def test_questions_retrieval_and_zero_shot(tmp_path: Path):
    plain = ("--limit", 6, "--drop", 20, "--strategies", "s1", "--no-timing")
    vqa = run("--model", "zoo:blip-vqa-scenes", "--data", "scenes:plain", *plain, "--quick", "--out", tmp_path / "a")
    assert vqa.exit_code == 0, vqa.output
    assert {metric for _, _, metric in rows_of(tmp_path / "a")} == {"nll"}
    clip = ("--model", "zoo:clip-scenes", "--data", "scenes:plain", *plain)
    found = run(*clip, "--plot-metric", "nll", "--out", tmp_path / "b")
    assert found.exit_code == 0, found.output
    assert ("scenes:plain test retrieval", "s1 drop=20", "text_to_image_r5") in rows_of(tmp_path / "b")
    zero = run(*clip, "--task", "classification", "--no-plot", "--out", tmp_path / "c")
    assert zero.exit_code == 0, zero.output
    assert {metric for _, _, metric in rows_of(tmp_path / "c")} == {"top1", "nll"}


def test_published_folders(tmp_path: Path):
    coco, vqa = write_coco(tmp_path / "coco"), write_vqav2(tmp_path / "vqa")
    common = ("--strategies", "s1", "--drop", 20, "--no-timing", "--no-plot")
    found = run(
        "--model",
        "zoo:blip-scenes",
        "--data",
        f"coco:{coco}",
        *common,
        "--beams",
        1,
        "--prompt",
        "a",
        "--out",
        tmp_path / "a",
    )
    assert found.exit_code == 0, found.output
    record = json.loads((tmp_path / "a" / "results.json").read_text())
    assert set(record["parts"]["coco test"]["settings"]["s1 drop=20"]) == {"nll", "cider", "bleu4"}
    assert (record["run"]["decoding_beams"], record["run"]["decoding_prompt"]) == (1, "a")
    found = run("--model", "zoo:clip-scenes", "--data", f"coco:{coco}", *common, "--out", tmp_path / "b")
    assert found.exit_code == 0, found.output
    cell = rows_of(tmp_path / "b")["coco test", "s1 drop=20", "text_to_image_r1"]
    assert cell["count"] == "6"
    asked = ("--model", "zoo:blip-vqa-scenes", "--data", f"vqav2:{vqa}", *common)
    found = run(*asked, "--split", "val", "--out", tmp_path / "c")
    assert found.exit_code == 0, found.output
    assert ("vqav2 val", "s1 drop=20", "accuracy_yes/no") in rows_of(tmp_path / "c")
    assert "answers are published of 'val' and 'train' only" in error_of(*asked, "--out", tmp_path / "d")
    assert "seed=1" in error_of(*asked, "--split", "val", "--seeds", "0,1", "--out", tmp_path / "e")


def test_a_note_says_what_could_not_be_done(tmp_path: Path):
    result = run(*DIGITS, "--strategies", "s1", "--drop", "60", "--no-timing", "--no-plot", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "note: s1 drop=60: drop=60 is more than half of the tokens in blocks 3, 4, 5, 6, 7" in text


def test_a_narrow_terminal_gets_what_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("turbo.cli.evaluate.console.width", 80)
    long = ("--strategies", "s4(alpha=0.3,beta=0.9,gamma=3),tome", "--drop", "10")
    result = run(*DIGITS, *long, "--no-timing", "--no-plot", "--out", tmp_path)
    assert result.exit_code == 0
    assert max(len(line.rstrip()) for line in result.output.splitlines()) <= 80
    assert re.search(r"top-1 +- untouched +- tome +ideal", result.output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drop", "10", "--speedup", "2"], "--drop 10 and --speedup 2 exclude each other"),
        (
            ["--drop", "ten"],
            "--drop ten: give counts, 10,20, or one count per block, 30:20:10 with commas between them",
        ),
        (["--drop", "10,,20"], "--drop 10,,20: give counts"),
        (["--drop", "10,10"], "--drop 10,10: give each value once"),
        (["--drop", "-1"], "drop=-1: must be a whole number of tokens"),
        (["--ratio", "0.1,0.9"], "ratio=0.9: a block can merge a fraction"),
        (["--speedup", "0.5"], "speedup=0.5: must be a factor above 1"),
        (["--threshold", "4.5"], "--threshold 4.5: give whole numbers with commas"),
        (["--schedule", "early,"], "--schedule early,: give each value once, with one comma between two"),
        (["--seeds", "0,x"], "--seeds 0,x: give whole numbers"),
        (["--strategies", "s1,s1"], "--strategies s1,s1: s1 stands there twice"),
        (["--strategies", "s1(alpha=0.5),s1(alpha=.50)"], "s1(alpha=0.5) stands there twice"),
        (["--strategies", "s1,,tome"], "--strategies s1,,tome: a name is missing"),
        (["--strategies", "s1(alpha=1"], "a parenthesis has no partner"),
        (["--strategies", "s7"], "no strategy is called 's7'"),
        (["--adapter", "clop"], "no adapter is called 'clop'"),
        (["--dtype", "int8"], "--dtype int8: must be float32, bfloat16, float16"),
    ],
)
def test_mistakes_show_before_a_model_is_loaded(tmp_path: Path, arguments: list[str], message: str):
    # There is no such model either, and that is not what is reported.
    assert message in error_of("--model", "zoo:nonsense", "--data", "scenes", "--out", tmp_path, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "scenes", "--task", "vqa"], "vqa was asked for; zoo:vit-digits"),
        (["--data", "nothing"], "unknown data 'nothing'"),
        (["--data", "digits:striped"], "unknown ground in 'digits:striped'"),
        (["--data", "digits", "--split", "tests"], "tests"),
        (["--data", "digits", "--beams", "3", "--nll-only"], "--beams, --nll-only cannot apply to classification: no"),
        (["--data", "digits", "--metric", "values"], "the setting 'ward default metric=values': metric='values'"),
        (["--data", "digits", "--drop", "5", "--schedule", "early"], "the setting 'ward drop=5 schedule=early'"),
        (["--data", "digits", "--speedup", "2", "--schedule", "late"], "late"),
        (["--data", "digits", "--destinations", "grid"], "destinations='grid' cannot apply to"),
        (["--data", "digits", "--drop", "3:2:1"], "drop has 3 counts and the model has 8 blocks"),
        (["--data", "scenes"], "zoo:vit-digits tells 10 classes apart, and scenes:plain test seed 0 has 15"),
        (["--data", "digits", "--plot-metric", "cider"], "no metric is called 'cider' here; there are: top1, nll"),
    ],
)
def test_what_does_not_fit_the_model(tmp_path: Path, arguments: list[str], message: str):
    common = ("--model", "zoo:vit-digits", "--limit", 4, "--no-timing", "--out", tmp_path)
    assert message in error_of(*common, *arguments)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("blip-scenes", ["--nll-only", "--beams", "2"], "--beams cannot apply with --nll-only"),
        ("blip-scenes", ["--min-length", "40"], "--min-length 40 is more than --max-length 32"),
        ("blip-vqa-scenes", ["--prompt", "is"], "--prompt cannot apply to vqa"),
        ("t2i-scenes", [], "measure a pipeline that draws images with `turbo generate`"),
    ],
)
def test_writing_options_that_cannot_apply(tmp_path: Path, model: str, arguments: list[str], message: str):
    assert message in error_of("--model", f"zoo:{model}", "--data", "scenes", "--out", tmp_path, *arguments)


def test_a_plot_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'the plot needs matplotlib: pip install "turbo-vlm[viz]"' in error_of(*DIGITS, "--out", tmp_path)


# Strategies with arguments


def test_a_strategy_gets_its_arguments():
    assert find_strategy("s1(alpha=0.5)") == S1(alpha=0.5)
    assert find_strategy("s4(gamma=3, alpha=.3,beta=0.9)") == S4(alpha=0.3, beta=0.9, gamma=3)
    assert find_strategy("turbo.fusion:S1(alpha=2)") == S1(alpha=2)
    assert find_strategy("s1()") == S1()
    assert find_strategy("s1") == "s1"


def test_specs_have_one_way_of_writing():
    assert split_specs(" s1(alpha=.5) ,s4(alpha=0.3,beta=0.9),tome") == [
        "s1(alpha=.5)",
        "s4(alpha=0.3,beta=0.9)",
        "tome",
    ]
    assert canonical("s4(gamma=3, alpha=.30)") == "s4(alpha=0.3,gamma=3)"
    assert canonical("s1( )") == canonical("s1") == "s1"
    assert split_arguments("a.b:C(x=[1, (2,)], y='z,)')") == ("a.b:C", {"x": [1, (2,)], "y": "z,)"})


@pytest.mark.parametrize(
    "spec",
    [
        "s1(0.5)",
        "s1(alpha=0.5",
        "s1(alpha=0.5)(1)",
        "s1(alpha=0.5)x",
        "s1(alpha=0.5, alpha=1)",
        "s1(**{'alpha': 1})",
        "s1(alpha=open('/x'))",
        "s1(alpha=__import__('os').getpid())",
        "s1(alpha=[x for x in (1,)])",
        "s1(alpha=a)",
    ],
)
def test_arguments_are_literals_by_keyword(spec: str):
    with pytest.raises(
        turbo.TurboError, match=re.escape(f"{spec}: arguments are literals by keyword, each once, such as")
    ):
        find_strategy(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("s1(beta=1)", "s1(beta=1): got an unexpected keyword argument 'beta'; it takes S1(alpha=0.25)"),
        ("bound(alpha=1)", "bound(alpha=1): got an unexpected keyword argument 'alpha'; Bound takes none"),
        ("ward(alpha=1)", "ward(alpha=1): got an unexpected keyword argument 'alpha'; it takes Ward(floor=0.3)"),
        ("ward(floor=-1)", "floor=-1: floor must be a finite number, 0 or more"),
        ("s1(alpha=-1)", "alpha=-1: alpha must be a finite number, 0 or more"),
        ("s1(alpha='x')", "alpha='x'"),
        ("turbo.hashing:mix(bits=1)", "turbo.hashing:mix(bits=1): it names a function, and only a class can be given"),
        ("turbo.fusion:S9(a=1)", "turbo.fusion has no 'S9'"),
        ("s9(a=1)", "no strategy is called 's9'"),
        ("(a=1)", "no strategy is called ''"),
    ],
)
def test_arguments_that_do_not_fit(spec: str, message: str):
    with pytest.raises(turbo.TurboError, match=re.escape(message)):
        find_strategy(spec)


MINE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Needs:
    weight: float

    def __call__(self, candidates):
        return self.weight * candidates.redundancy
"""


def test_other_commands_take_arguments_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_needs.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    runner = CliRunner()
    shown = runner.invoke(app, ["inspect", "zoo:vit-digits", "--drop", "20", "--strategy", "my_needs:Needs(weight=2)"])
    assert "strategy Needs(weight=2)" in " ".join(shown.output.split())
    timed = [
        "bench",
        "zoo:vit-digits",
        "--drop",
        "20",
        "--rounds",
        "1",
        "--strategy",
        "s1(alpha=0.5)",
        "--json",
        "x.json",
    ]
    assert runner.invoke(app, timed).exit_code == 0
    assert json.loads(Path("x.json").read_text())["results"][0]["sides"][1]["name"] == "s1(alpha=0.5)"
    sys.modules.pop("my_needs", None)


def test_lists_of_values():
    grid = parse_grid("s1", {"drop": "10,20:10"}, {"threshold": "0,40", "schedule": None}, "vit")
    assert [setting.options["drop"] for setting in grid.values()] == [10, 10, (20, 10), (20, 10)]
    assert {setting.options["adapter"] for setting in grid.values()} == {"vit"}
    assert parse_list("speedup", "1.5, 2", float) == [1.5, 2.0]
