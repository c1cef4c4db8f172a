"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import turbo
from turbo import zoo
from turbo.cli.app import app
from turbo.models import load_model
from turbo.testing import strategy_checks


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def test_list_shows_both_registries():
    result = run("list")
    assert result.exit_code == 0
    for name in (*turbo.list_adapters(), *turbo.list_strategies(), "clip-l14-336"):
        assert name in result.output


def test_list_imports_no_model_library():
    code = (
        "import sys; from turbo.cli.app import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['list']).exit_code == 0; "
        "print([m for m in ('transformers', 'timm', 'open_clip', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_version():
    assert run("--version").output.strip() == turbo.__version__


def test_inspect_shows_the_plan():
    result = run("inspect", "zoo:vit-digits", "--drop", "20", "--min-tokens", "120")
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1:-1] for line in result.output.splitlines() if line.startswith("│")]
    assert [int(row[3]) for row in rows] == [237, 217, 197, 177, 157, 137, 120, 120]
    assert "strategy ward, per image" in result.output
    assert "FLOPs of the blocks fall by" in result.output


def test_inspect_shows_what_a_unet_does():
    result = run("inspect", "random:sd15-unet", "--parts", "self_attention,feed_forward=0.25", "--max-downsample", "2")
    assert result.exit_code == 0
    rows = [line.replace("│", " ").split() for line in result.output.splitlines() if line.startswith("│")]
    assert [row[:5] for row in rows] == [
        ["1", "5", "self_attention", "4096", "2048"],
        ["1", "5", "cross_attention", "4096", "4096"],
        ["1", "5", "feed_forward", "4096", "3072"],
        ["2", "5", "self_attention", "1024", "512"],
        ["2", "5", "cross_attention", "1024", "1024"],
        ["2", "5", "feed_forward", "1024", "768"],
    ]
    assert "strategy s1, one step" in result.output
    assert re.search(r"FLOPs of the whole step fall by 1\.\d\dx", result.output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "random:sd15-unet", "--drop", "5"], "--drop cannot apply to random:sd15-unet"),
        (["inspect", "zoo:vit-digits", "--parts", "feed_forward"], "--parts cannot apply to zoo:vit-digits"),
        (["inspect", "random:sd15-unet", "--ratio", "0.8"], "a fraction from 0 to 0.75"),
        (["inspect", "random:sd15-unet", "--parts", "mlp"], "this model's blocks have self_attention"),
        (["bench", "random:sdxl-unet"], "time a pipeline with `turbo generate`"),
    ],
)
def test_a_denoiser_takes_its_own_options(arguments: list[str], message: str):
    result = run(*arguments)
    assert isinstance(result.exception, turbo.TurboError)
    assert message in str(result.exception)


def test_inspect_takes_one_drop_per_block():
    result = run("inspect", "zoo:vit-digits", "--drop", "40,30,20,10,0,0,0,0")
    assert "157" in result.output


def test_bench_writes_its_results(tmp_path: Path):
    target = tmp_path / "new" / "bench.json"
    result = run(
        "bench", "zoo:vit-digits", "--strategy", "s1", "--strategy", "tome", "--drop", "25", "--rounds", "2", "--json",
        str(target),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (record,) = json.loads(target.read_text())["results"]
    untouched, s1, tome = record["sides"]
    assert [untouched["name"], s1["name"], tome["name"]] == ["untouched", "s1", "tome"]
    assert untouched["speedup"] == untouched["ideal"] == 1
    assert 1.3 < s1["ideal"] < 2.5
    assert s1["gflops"] == tome["gflops"] < untouched["gflops"]
    assert 0 < s1["peak_mb"] <= untouched["peak_mb"]
    assert len(s1["seconds"]) == 2
    assert record["machine"]["torch"]


def test_bench_compiles_where_it_is_asked_to(monkeypatch):
    """What is passed on, and what is shown; that the sides are compiled is tested with `compare`."""
    from turbo import bench

    asked = {}
    eager = bench.compare(load_model("zoo:vit-digits"), {"ward": {"drop": 20}}, rounds=1, memory=False)

    def compare(loaded, sides, **options):
        asked.update(options)
        sides = [replace(side, compile_seconds=12.34, whole_graph=side.name != "ward") for side in eager.sides]
        return replace(eager, compiled=True, sides=tuple(sides))

    monkeypatch.setattr(bench, "compare", compare)
    monkeypatch.setattr("turbo.cli.bench.console.width", 120)
    result = run("bench", "zoo:vit-digits", "--drop", "20", "--batch", "2", "--rounds", "3", "--compile")
    assert result.exit_code == 0, result.output
    assert asked.pop("on_round")
    assert asked == {"batch": 2, "rounds": 3, "compiled": True}
    assert ", compiled" in result.output
    assert "compile s" in result.output
    assert "12.3" in result.output
    assert "compiled in several graphs: ward" in " ".join(result.output.split())
    asked.clear()
    run("bench", "zoo:vit-digits", "--drop", "20")
    assert (asked["batch"], asked["rounds"], asked["compiled"]) == (1, 5, False)


def test_bench_leaves_the_model_untouched():
    from turbo.bench import compare
    from turbo.engine.install import find_acceleration

    loaded = load_model("zoo:vit-digits")
    compare(loaded, {"ward": {"strategy": "ward", "drop": 5}}, rounds=1, memory=False)
    assert find_acceleration(loaded.model) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "random:nonsense"], "no official configuration is called 'nonsense'; there are: vit-b16-224"),
        (["inspect", "zoo:nonsense"], "the zoo has vit-digits"),
        (["inspect", "no/such-model"], "neither a folder nor a hub id"),
        (["inspect", "open_clip:ViT-B-32"], "open_clip:ViT-B-32:TAG; tags: openai"),
        (["inspect", "random:timm/nonsense"], "timm cannot make 'nonsense'"),
        (["inspect", "zoo:vit-digits", "--drop", "many"], "--drop many: must be a count such as 20"),
        (["inspect", "zoo:vit-digits", "--drop", "5", "--speedup", "2"], "exclude each other"),
        (["inspect", "zoo:vit-digits", "--strategy", "s7"], "no strategy is called 's7'"),
        (["bench", "zoo:vit-digits", "--dtype", "int8"], "--dtype int8: must be"),
        (["check"], "nothing to check: name an adapter or a strategy"),
        (["check", "s7"], "no adapter and no strategy is called 's7'; adapters: blip"),
        (["check", "turbo.fusion"], "for an object in a module write turbo.fusion:Name"),
        (["check", "no_module:x:"], "no_module:x:: the module 'no_module' cannot be imported: ModuleNotFoundError"),
        (["check", "turbo.fusion.paper:S5"], "turbo.fusion.paper has no 'S5'; it has: S1, S2, S3, S4"),
        (["check", "turbo.fusion.paper:TINY_VALUE"], "turbo.fusion.paper:TINY_VALUE: nothing to check in a float"),
        (["check", "turbo.schedule:Plan"], "Plan is no adapter, and a strategy must have a __call__(candidates)"),
        (["check", "turbo.adapters:Adapter"], "turbo.adapters:Adapter: Adapter does not define shape, sites; name a"),
        (["check", "s1", "--only", "check_all"], "only 'check_all': there is no such check"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str):
    command = [sys.executable, "-c", "from turbo.cli import main; main()", *arguments]
    offline = {"HF_HUB_OFFLINE": "1", "COLUMNS": "1000"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline, check=False)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


MINE = """
from dataclasses import dataclass

from turbo.adapters.vit import ViT
from turbo.testing import AdapterCase, StrategyCase

class Silent(ViT):
    def example(self):
        return None

class Mine(ViT):
    pass

@dataclass(frozen=True)
class Needs:
    weight: float

    def __call__(self, candidates):
        return self.weight * candidates.redundancy

mine = Needs(0.5)

def logarithm(candidates):
    return candidates.redundancy.log()

def quotient(candidates):
    return candidates.redundancy / (1 + candidates.value)

def cases():
    return [AdapterCase.from_adapter(Mine, name="from a function"), quotient]

KNOWN = StrategyCase(quotient, expected_failures={"check_falls_in_value": "R < 0 is not its domain"})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The current folder holds a module of adapters, strategies and cases."""
    (tmp_path / "my_cases.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path
    sys.modules.pop("my_cases", None)


def test_check_runs_the_kit_and_writes_its_results(folder: Path):
    result = run("check", "s1", "my_cases:KNOWN", "--json", "new/results.json")
    assert result.exit_code == 0, result.output
    count = len(strategy_checks())
    assert f"{2 * count - 1} passed, 0 failed, 1 failed as expected" in result.output
    results = json.loads((folder / "new" / "results.json").read_text())["results"]
    assert [r["case"] for r in results] == ["s1"] * count + ["quotient"] * count
    expected = {
        "case": "quotient",
        "check": "check_falls_in_value",
        "outcome": "expected failure",
        "detail": "R < 0 is not its domain",
    }
    assert expected in results


def test_check_fails_with_the_reason_in_full(folder: Path):
    result = run("check", "my_cases:cases", "--only", "check_falls_in_value", "--only", "check_noop_is_exact")
    assert result.exit_code == 1
    assert "from a function" in result.output
    text = " ".join(result.output.split())
    assert "check_falls_in_value: with a lower A the priority falls in block 0: R=-1, A=" in text
    assert "1 passed, 1 failed" in text


def test_check_takes_classes_and_registered_names(folder: Path):
    only = ("--only", "check_noop_is_exact", "--only", "check_is_finite")
    result = run("check", "my_cases:Mine", "turbo.fusion:S2", "vit", "tome", *only)
    assert result.exit_code == 0, result.output
    for title in ("Mine", "S2", "vit", "tome"):
        assert re.search(rf"^{title}\s*$", result.output, re.MULTILINE)
    assert "4 passed, 0 failed" in result.output


def error_of(*arguments: str) -> str:
    with pytest.raises(turbo.TurboError) as caught:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return str(caught.value)


@pytest.mark.parametrize("command", [["check"], ["inspect", "zoo:vit-digits", "--strategy"]])
def test_a_class_that_needs_arguments_can_be_named_as_an_instance(folder: Path, command: list[str]):
    message = error_of(*command, "my_cases:Needs")
    assert "Needs cannot be created without arguments" in message
    assert message.endswith("give its fields defaults, or name an instance, such as my_cases:mine")
    only = ("--only", "check_is_finite") if command == ["check"] else ()
    assert run(*command, "my_cases:mine", *only).exit_code == 0


def test_inspect_takes_a_strategy_and_an_adapter_of_the_current_folder(folder: Path):
    result = run(
        "inspect", "zoo:vit-digits", "--drop", "20", "--strategy", "my_cases:mine", "--adapter", "my_cases:Mine"
    )
    assert result.exit_code == 0, result.output
    assert "ViTModel (Mine adapter), strategy Needs(weight=0.5), per image" in result.output


def test_bench_takes_a_strategy_and_an_adapter_of_the_current_folder(folder: Path, monkeypatch):
    # At 80 a long name may be folded, depending on how wide the figures are.
    monkeypatch.setattr("turbo.cli.bench.console.width", 120)
    arguments = ["--strategy", "my_cases:quotient", "--strategy", "turbo.fusion:S2", "--adapter", "vit"]
    result = run("bench", "zoo:vit-digits", "--drop", "20", "--rounds", "1", "--json", "results.json", *arguments)
    assert result.exit_code == 0, result.output
    ((untouched, quotient, s2),) = [r["sides"] for r in json.loads(Path("results.json").read_text())["results"]]
    assert (quotient["name"], s2["name"]) == ("my_cases:quotient", "turbo.fusion:S2")
    assert quotient["gflops"] == s2["gflops"] < untouched["gflops"]
    assert "my_cases:quotient" in result.output


@pytest.mark.parametrize("command", ["inspect", "bench"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "s7"], "no strategy is called 's7'"),
        (["--strategy", "my_cases:logarithm"], "strategy my_cases:logarithm returned NaN"),
        (["--strategy", "my_cases"], "for an object in a module write my_cases:Name"),
        (["--strategy", "turbo.fusion:S7"], "turbo.fusion has no 'S7'; it has:"),
        (["--strategy", "turbo.schedule:Plan"], "turbo.schedule:Plan is the class Plan, not a callable of candidates"),
        (["--adapter", "clop"], "no adapter is called 'clop'; there are: blip"),
        (["--adapter", "turbo.adapters"], "for an object in a module write turbo.adapters:Name"),
        (["--adapter", "turbo.fusion:S1"], "--adapter turbo.fusion:S1 is the class S1, not a turbo.adapters.Adapter"),
        (["--adapter", "my_cases:quotient"], "--adapter my_cases:quotient is a function, not a turbo.adapters.Adapter"),
        (["--drop", "5", "--ratio", "0.2"], "exclude each other"),
    ],
)
def test_mistakes_show_before_a_model_is_loaded(folder: Path, command: str, arguments: list[str], message: str):
    # There is no such model either, and that is not what is reported.
    assert message in error_of(command, "zoo:nonsense", *arguments)


def test_check_says_what_an_adapter_without_example_needs(folder: Path):
    with pytest.raises(turbo.TurboError, match=r"my_cases:Silent: the adapter Silent has no example\(\): return"):
        CliRunner().invoke(app, ["check", "my_cases:Silent"], catch_exceptions=False)


def test_a_warning_is_one_line():
    command = [sys.executable, "-c", "from turbo.cli import main; main()"]
    done = subprocess.run(
        [*command, "bench", "zoo:vit-digits", "--drop", "60", "--rounds", "1"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "1000"},
        check=True,
    )
    assert "warning: drop=60 is more than half of the tokens in blocks 3, 4, 5, 6, 7" in done.stderr
    assert "TurboWarning" not in done.stderr
    assert "profiler" not in done.stderr
    assert "DeviceProperties" not in done.stderr
    inspected = subprocess.run(
        [*command, "inspect", "zoo:vit-digits", "--drop", "60"], capture_output=True, text=True, check=True
    )
    assert "note: drop=60" in inspected.stdout
    assert "warning" not in inspected.stderr


def test_a_saved_model_loads_from_its_folder(tmp_path: Path):
    zoo.load("vit-digits").save_pretrained(tmp_path / "mine")
    loaded = load_model(str(tmp_path / "mine"))
    assert type(loaded.model).__name__ == "ViTForImageClassification"
    assert loaded.image_size == (64, 64)


def test_a_folder_without_a_model(tmp_path: Path):
    with pytest.raises(turbo.TurboError, match=r"has no config.json: give a folder written by save_pretrained"):
        load_model(str(tmp_path))


def test_demo_shows_quality_speed_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from turbo.cli import demo

    monkeypatch.setattr(demo, "SCENES", 20)
    monkeypatch.setattr(demo, "BATCH", 10)
    monkeypatch.setattr(demo, "ROUNDS", 1)
    result = run("demo", "--out", str(tmp_path), "--no-full-size")
    assert result.exit_code == 0, result.output
    for name in turbo.list_strategies():
        assert name in result.output
    assert (tmp_path / "merged.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "vit-digits.json").read_text())
    assert rows[0]["accuracy"] >= 0.8
    assert len(rows) == 1 + len(turbo.list_strategies()) * len(demo.DROPS)
