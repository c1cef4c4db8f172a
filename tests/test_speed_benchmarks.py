"""The speed benchmarks: a case is one record, peers are what they say, and pages show what the records hold."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import turbo
from turbo.bench.copies import copy_loaded
from turbo.bench.tokens import counting_tokens, last_block
from turbo.errors import TurboError
from turbo.models import load_model

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("benchmarks are no part of a source distribution", allow_module_level=True)
sys.path.append(str(BENCHMARKS))  # as for a script that runs there

import attention_cpu  # noqa: E402
import merging_share  # noqa: E402
import page_tables  # noqa: E402
import speed  # noqa: E402
import speed_cases  # noqa: E402
import speed_peers  # noqa: E402
import speed_pictures  # noqa: E402
import speed_tables  # noqa: E402
from headline_table import headline  # noqa: E402
from speed_cases import CASES, Captions, Case, Run  # noqa: E402

TINY = "random:timm/vit_tiny_patch16_224", {"img_size": 64, "depth": 2}  # 17 tokens

# Stands in for a checkout of ToMe, whose licence keeps it out of here: the same entrance, turbo behind it.
STAND_IN = """
import turbo

def timm(model):
    accelerate = lambda self, r: turbo.accelerate(self, "tome", drop=r + {more})
    model.__class__ = type("Patched", (type(model),), {{"r": property(fset=accelerate)}})
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Makes a folder that looks like a checkout; what is imported from it is forgotten afterwards."""
    forget(monkeypatch)

    def make(more: int = 0, source: str = STAND_IN) -> Path:
        folder = tmp_path / f"peer{more}"
        (folder / "tome" / "patch").mkdir(parents=True)
        (folder / "tome" / "__init__.py").touch()
        (folder / "tome" / "patch" / "__init__.py").write_text(source.format(more=more))
        (folder / "tome" / "patch" / "timm.py").touch()
        return folder

    yield make
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tome"]:
        monkeypatch.delitem(sys.modules, name)


def test_captions_are_all_of_one_length_and_follow_a_copy():
    loaded = load_model("zoo:blip-scenes")
    loaded = replace(loaded, images=Captions(loaded.model))
    copied = copy_loaded(loaded)
    assert copied.images.model is copied.model
    turbo.accelerate(copied.model, "s1", drop=10)
    with torch.inference_mode():
        untouched, merged = (each.images(loaded.example(2)) for each in (loaded, copied))
    assert untouched.shape == merged.shape


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is no checkout of ToMe: it has no tome/patch/timm.py; git clone https"),
        ({"tome/patch/timm.py": ""}, "its tome.patch has no function timm"),
        ({"tome/patch/timm.py": "", "tome/patch/__init__.py": "import no_such_module"}, "No module named 'no_such"),
    ],
)
def test_a_peer_that_is_none_is_a_clear_error(tmp_path, monkeypatch, capsys, files, message):
    forget(monkeypatch)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert speed.main(["vit-b16-224", "--tome", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    forget(monkeypatch)


def test_a_folder_without_tomesd_is_an_error(tmp_path):
    with pytest.raises(TurboError, match="is no checkout of tomesd: it has no tomesd/patch.py; git clone https"):
        speed_peers.import_function(speed_peers.TOMESD, tmp_path)


def test_another_package_of_that_name_is_an_error(checkout):
    speed_peers.load_tome(checkout())
    with pytest.raises(TurboError, match="another package is called tome"):
        speed_peers.load_tome(checkout(1))


def test_the_commit_is_the_checkouts_own(tmp_path):
    assert speed_peers.commit_of(tmp_path) is None

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("one")
    git("init")
    git("add", ".")
    git("commit", "-m", "a", "--no-gpg-sign")
    head = git("rev-parse", "HEAD")
    assert speed_peers.commit_of(tmp_path) == head
    assert speed_peers.commit_of(tmp_path / "inner") is None
    (tmp_path / "inner" / "file").write_text("two")
    assert speed_peers.commit_of(tmp_path) == f"{head}+changes"


def tiny_case(monkeypatch: pytest.MonkeyPatch, *runs: Run) -> None:
    monkeypatch.setitem(speed_cases.CASES, "tiny", Case("tiny", "bars", runs, sides=("s1", "tome", "drop=0")))


def test_a_case_is_one_record(tmp_path, monkeypatch, checkout):
    runs = Run("tiny", TINY[0], 2, 3, 9, TINY[1]), Run("digits", "zoo:vit-digits", 1, 20, 9)
    tiny_case(monkeypatch, *runs)
    folder = checkout()
    assert speed.main(["tiny", "--tome", str(folder), "--rounds", "1", "--out", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "speed-tiny.json"
    text = path.read_text()
    assert str(tmp_path) not in text
    record = json.loads(text)
    assert record["command"] == "python benchmarks/speed.py tiny --tome FOLDER --rounds 1"
    assert record["peers"] == {"ToMe": {"repository": speed_peers.TOME.url, "commit": None}}
    assert record["machine"]["torch"]
    first, second = record["runs"]
    sides = {side["name"]: side for side in first["sides"]}
    assert list(sides) == ["untouched", "s1", "tome", "drop=0", "ToMe"]
    assert [side["tokens"] for side in sides.values()] == [17, 11, 11, 17, 11]
    assert sides["ToMe"]["gflops"] == sides["tome"]["gflops"]
    assert all(len(side["seconds"]) == 1 for side in sides.values())
    assert (first["batch"], first["drop"], first["title"], first["left_out"]) == (2, 3, "tiny", {})
    assert second["left_out"] == {"ToMe": "patches timm's VisionTransformer only"}
    assert [side["name"] for side in second["sides"]] == ["untouched", "s1", "tome", "drop=0"]


def test_a_peer_that_merges_another_number_is_an_error(tmp_path, monkeypatch, checkout, capsys):
    tiny_case(monkeypatch, Run("tiny", TINY[0], 1, 3, 1, TINY[1]))
    assert speed.main(["tiny", "--tome", str(checkout(1)), "--out", str(tmp_path / "out")]) == 2
    assert "different numbers of tokens, {'s1': 11, 'tome': 11, 'ToMe': 9}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cases_are_chosen_by_name_and_group(capsys):
    assert [case.name for case in speed_cases.choose(["growth-batch", "vit-b16-384"])] == [
        "vit-b16-384",
        "growth-batch",
    ]
    assert {case.group for case in speed_cases.choose(["modes", "growth"])} == {"modes", "growth"}
    assert speed_cases.choose([]) == list(CASES.values())
    with pytest.raises(TurboError, match="no case is called 'bar'; there are: bars, modes, growth, vit-b16-384"):
        speed_cases.choose(["bar"])
    assert speed.main(["--list"]) == 0
    assert "modes-clip-l14-336" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        speed.main(["--rounds", "0"])


def test_growing_cases_merge_the_same_share():
    for case in speed_cases.choose(["growth"]):
        for run in case.runs:
            side, depth = run.options.get("img_size", 224), run.options.get("depth", 12)
            share = run.drop * depth / ((side // 16) ** 2 + 1)
            assert share == pytest.approx(12 * speed_cases.SHARE, abs=0.03), run


def made(case: Case) -> dict[str, Any]:
    """A record with figures that can be told apart: a call takes 2 s untouched, then 1.25, 1, 2 and 1.6."""
    runs = []
    for run in case.runs:
        sides = []
        for place, (name, seconds) in enumerate(
            {"untouched": 2, "s1": 1.25, "tome": 1, "drop=0": 2, "ToMe": 1.6}.items()
        ):
            if name not in ("untouched", *case.sides, *["ToMe"] * run.of_timm):
                continue
            ideal = 1.0 if seconds == 2 else 2.0
            sides.append(
                {
                    "name": name,
                    "seconds": [0.9 * seconds, seconds, 1.2 * seconds],
                    "spread": [0.95 * seconds, 1.1 * seconds],
                    "gflops": 10 / ideal,
                    "peak_mb": 100.0 + place,
                    "speedup": 2 / seconds,
                    "ideal": ideal,
                    "efficiency": 2 / seconds / ideal,
                    "tokens": 10,
                    "compile_seconds": 30.0 + place if run.compiled else None,
                    "whole_graph": True if run.compiled else None,
                }
            )
        kept = {"title": run.title, "batch": run.batch, "drop": run.drop, "at": run.at, "dtype": run.dtype}
        left_out = {} if run.of_timm else {"ToMe": "patches timm's VisionTransformer only"}
        runs.append({**kept, "compiled": run.compiled, "sides": sides, "left_out": left_out})
    machine = {"processor": "x86_64", "cores": 2, "threads": 2, "gpu": None}
    machine |= {"torch": "2", "timm": "1", "transformers": "5", "turbo": "0"}
    peers = {"ToMe": {"repository": speed_peers.TOME.url, "commit": "0123456789"}}
    about = {"case": case.name, "group": case.group, "axis": case.axis, "command": "x"}
    return {**about, "machine": machine, "peers": peers, "runs": runs}


@pytest.fixture
def results(tmp_path) -> Path:
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    for case in CASES.values():
        (folder / f"speed-{case.name}.json").write_text(json.dumps(made(case)))
    for name in ("sd15-unet-128-cpu", "default-blip-scenes"):
        (folder / f"{name}.json").write_text((BENCHMARKS / "results" / f"{name}.json").read_text())
    return folder


def rows_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


def test_the_table_of_speed_has_every_side(results):
    table = page_tables.make_table(results, "speed", {})
    header, _, *rows = rows_of(table)
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0] == ["ViT-B/16 at 384 px", "4", "40", "untouched", "1.00×", "1.00×", "100 %", "2 (1.9 to 2.2)", "100"]
    assert rows[1] == ["", "", "", "s1", "1.60×", "2.00×", "80 %", "1.25 (1.19 to 1.38)", "101"]
    assert [row[3] for row in rows[:5]] == ["untouched", "s1", "tome", "drop=0", "ToMe"]
    assert [row[0] for row in rows if row[0]] == [
        run.title for case in CASES.values() for run in case.runs if case.group == "bars"
    ]
    assert "ToMe patches timm's VisionTransformer only (not timed: CLIP ViT-L/14 at 336 px, BLIP-base encoder" in table
    assert table.endswith(
        "`make bench` on x86_64, 2 of 2 cores; torch 2, timm 1, transformers 5, turbo 0, ToMe at 0123456. "
        "Rounds, seconds and commands are in the records."
    )


@pytest.mark.parametrize(
    ("commit", "words"),
    [("0123456789+changes", "ToMe at 0123456 with changes."), (None, "ToMe at an unknown commit.")],
)
def test_a_checkout_that_is_no_commit_is_not_named_as_one(commit, words):
    record = made(CASES["vit-b16-224"])
    record["peers"]["ToMe"]["commit"] = commit
    assert words in speed_tables.measured([record])


def test_the_table_of_modes_says_what_was_left_out(results):
    table = page_tables.make_table(results, "modes", {})
    _, _, *rows = rows_of(table)
    assert [row[1] for row in rows[:4]] == [
        *("float32, eager", "float32, compiled", "bfloat16, eager", "bfloat16, compiled")
    ]
    assert rows[1][2:] == ["2", "2.00×", "1.60× (80 %)", "1.25× (62 %)", "30 → 31"]
    assert rows[0][-1] == ""
    assert rows[-1][5] == "–"
    assert "ToMe patches timm's VisionTransformer only (not timed: CLIP ViT-L/14 at 336 px)." in table
    assert "several graphs" not in table
    path = results / "speed-modes-vit-b16-384.json"
    path.write_text(path.read_text().replace('"whole_graph": true', '"whole_graph": false', 1))
    table = page_tables.make_table(results, "modes", {})
    assert "\n\nCompiled in several graphs: untouched of ViT-B/16 at 384 px.\n\n" in table


def test_the_tables_of_growth_are_one_for_each_axis(results):
    table = page_tables.make_table(results, "growth", {})
    cases = speed_cases.choose(["growth"])
    assert [row[0] for row in rows_of(table) if row[1] == "drop"] == [case.axis for case in cases]
    assert "| 4,097 | 280 | 2.00× | 1.60× (80 %) | 1.25× (62 %) | 2 | 100, 101, 104 |" in table


def test_the_headline_is_made_from_three_benchmarks(results):
    rows = rows_of(page_tables.make_table(results, "headline", {}))[2:]
    assert rows[0] == [
        "ViT-B/16 at 384 px, 4",
        '`accelerate(model, "s1", drop=40)`',
        "**1.60×**",
        "2.00×",
        "ToMe 1.25×",
        "100 → 101 MB",
    ]
    assert rows[2][0] == "CLIP ViT-L/14 at 336 px, 1"
    assert rows[2][4] == ""  # no published code runs there
    assert rows[4][0] == "Stable Diffusion 1.5's UNet, 128 × 128 latents, 1"
    assert rows[4][4].startswith("tomesd 1.")
    assert "CIDEr" in rows[5][2]
    (results / "sd15-unet-128-cpu.json").write_text('{"runs": [{"sides": []}]}')
    with pytest.raises(TurboError, match="no side 'turbo s1 self_attention 0.5'"):
        headline(lambda name: page_tables.load(results, name))


def test_a_table_of_two_machines_is_an_error(results):
    path = results / "speed-vit-b16-224.json"
    record = json.loads(path.read_text())
    record["machine"]["torch"] = "3"
    path.write_text(json.dumps(record))
    with pytest.raises(TurboError, match="vit-b16-384 and vit-b16-224 were measured with another machine"):
        page_tables.make_table(results, "speed", {})


def test_a_record_that_is_missing_says_what_makes_it(results):
    (results / "speed-growth-batch.json").unlink()
    with pytest.raises(TurboError, match="make it with `python benchmarks/speed.py growth-batch`"):
        page_tables.make_table(results, "growth", {})


def test_the_pictures_are_drawn_from_the_records(results, tmp_path, capsys):
    images = tmp_path / "docs" / "images"
    images.mkdir(parents=True)
    assert speed_pictures.main(["--root", str(tmp_path)]) == 0
    for name in ("speed-growth.png", "speed-memory.png"):
        assert Image.open(images / name).width == 1400
    record = json.loads((results / "speed-growth-tokens.json").read_text())
    at, sides = speed_pictures.points(record, "ToMe")
    assert at == [197, 577, 1025, 2305, 4097]
    assert {speed_tables.side_median(side) for side in sides} == {1.6}
    record["runs"][0]["sides"][0]["seconds"] = [1.8, 2.4, 1.92]  # the others take 0.9, 1 and 1.2 of their medians
    low, high = speed_pictures.spreads(record, "ToMe")[0]
    assert (low, high) == pytest.approx((1.125, 1.375))
    (results / "speed-growth-tokens.json").unlink()
    assert speed_pictures.main(["--root", str(tmp_path)]) == 2
    assert "speed-growth-tokens.json" in capsys.readouterr().err


def test_shares_are_of_the_parts_and_the_limit_cuts_as_many(tmp_path, monkeypatch):
    tiny_case(monkeypatch, Run("tiny", TINY[0], 2, 3, 9, TINY[1]))
    out = tmp_path / "merging-share.json"
    assert merging_share.main(["tiny", "--rounds", "2", "--out", str(out)]) == 0
    (run,) = json.loads(out.read_text())["runs"]
    assert all(0 < run["share"][name] < run["share"]["all"] < 1 for name in merging_share.PARTS)
    assert set(run["seconds"]) == {"untouched", "s1", "cut"}
    loaded = speed_cases.CASES["tiny"].runs[0].load()
    model = turbo.accelerate(loaded.model, drop=3)
    merging_share.cut_off(model)
    with counting_tokens(model, last_block(model, None)) as left, torch.no_grad():
        model(loaded.example(1))
        assert left() == 11
    assert merging_share.main(["nothing"]) == 2


def test_ways_to_add_log_s_are_timed_only_where_they_agree():
    found = attention_cpu.measure((2, 9, 2), torch.float32, rounds=1)
    assert found["plain"] == 1
    assert {"mask", "key_channel", "value_channel", "map"} < set(found)
    with pytest.raises(TurboError, match="map is not what the mask computes"):
        attention_cpu.require_agreement({"mask": torch.zeros(1), "map": torch.ones(1)})


def test_the_tables_of_shares_and_attention(tmp_path):
    shares = {"title": "tiny", "batch": 2, "drop": 3, "efficiency": {"s1": 0.9, "cut": 1}, "share": {"A": 0.01}}
    ways = {"dtype": "float32", "batch": 2, "n": 4097, "times": {"plain": 1.0, "mask": 1.25}}
    for name, run in (("merging-share", shares), ("attention-cpu", ways)):
        record = {"command": "python x.py", "rounds": 5, "runs": [run]}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    table = page_tables.make_table(tmp_path, "merging_share", {})
    assert rows_of(table)[2] == ["tiny, 2", "3", "90 %", "100 %", "1.00"]
    table = page_tables.make_table(tmp_path, "attention_cpu", {})
    assert rows_of(table)[2] == ["float32", "2", "4,097", "1.00", "1.25"]
