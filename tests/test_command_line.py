"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import turbo
from turbo import zoo
from turbo.cli.app import app
from turbo.models import load_model


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
    assert "FLOPs of the blocks fall by" in result.output


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
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str):
    command = [sys.executable, "-c", "from turbo.cli import main; main()", *arguments]
    offline = {"HF_HUB_OFFLINE": "1", "COLUMNS": "1000"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline, check=False)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


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
