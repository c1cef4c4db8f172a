"""The support matrix is of today's cases and today's checks, and says what the record says."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from denoisers import inputs_xl, sdxl_unet

import turbo
from turbo.errors import TurboError
from turbo.testing import adapter_checks

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("benchmarks are no part of a source distribution", allow_module_level=True)
sys.path.append(str(BENCHMARKS))  # as for a script that runs there

import support_matrix  # noqa: E402
from support_families import CAPABILITIES, FAMILIES, outcomes  # noqa: E402
from support_tables import support, support_columns, support_made_by  # noqa: E402

RECORD = json.loads(support_matrix.OUT.read_text())
ROWS = {row["case"]: row for row in RECORD["cases"]}
CASES = {case.name: case for case in support_matrix.load_cases()}
AGAIN = "benchmarks/results/support.json is not of today's {}: run `make support`"
QUICK = "open-clip-tower"


def test_every_check_is_in_one_column():
    listed = [check for each in CAPABILITIES for check in each.checks]
    assert len(listed) == len(set(listed)), "a check is in two columns of support_families.CAPABILITIES"
    known = {check.__name__ for check in adapter_checks()}
    assert set(listed) == known, f"support_families.CAPABILITIES: {sorted(set(listed) ^ known)}"


def test_every_case_is_in_one_family():
    listed = [name for names in FAMILIES.values() for name in names]
    assert len(listed) == len(set(listed)), "a case is in two families of support_families.FAMILIES"
    assert set(listed) == set(CASES), f"support_families.FAMILIES: {sorted(set(listed) ^ set(CASES))}"


def test_every_family_has_one_adapter_and_one_library():
    for family, names in FAMILIES.items():
        assert len({(ROWS[name]["adapter"], ROWS[name]["library"]) for name in names}) == 1, family


def test_the_record_has_every_check_of_today():
    assert RECORD["checks"] == [check.__name__ for check in adapter_checks()], AGAIN.format("checks")
    for row in ROWS.values():
        assert set(outcomes(row)) == set(RECORD["checks"]), row["case"]


def test_the_record_has_every_case_and_adapter_of_today():
    assert {name: row["adapter"] for name, row in ROWS.items()} == {
        name: case.adapter for name, case in CASES.items()
    }, AGAIN.format("cases")
    ours = {e.name for e in entry_points(group="turbo.adapters") if e.dist and e.dist.name == "turbo-vlm"}
    assert {row["adapter"] for row in ROWS.values()} == ours, AGAIN.format("adapters")


@pytest.mark.parametrize("name", CASES)
def test_the_record_is_of_the_cases_flags(name):
    case, found = CASES[name], outcomes(ROWS[name])
    left_in = {check.__name__ for check in adapter_checks(case)}
    left_out = {check: found[check][0] for check in RECORD["checks"] if check not in left_in}
    assert left_out == dict.fromkeys(left_out, "not applicable"), AGAIN.format("flags")
    known = {check: detail for check, (outcome, detail) in found.items() if outcome == "expected failure"}
    assert known == dict(case.expected_failures), AGAIN.format("expected failures")
    assert ROWS[name]["restores"] == case.restores


def test_nothing_failed():
    wrong = {"failed", "unexpected pass", "not run"}
    assert not [
        (name, check) for name, row in ROWS.items() for check, (outcome, _) in outcomes(row).items() if outcome in wrong
    ]


def test_a_case_gives_what_the_record_says(tmp_path, capsys):
    out = tmp_path / "support.json"
    assert support_matrix.main([QUICK, "--out", str(out)]) == 0
    [row] = json.loads(out.read_text())["cases"]
    assert row == ROWS[QUICK], AGAIN.format("results")
    assert f"{QUICK}: {len(row['passed'])} of {len(RECORD['checks'])} passed" in capsys.readouterr().out


def some_record(*rows):
    return lambda _: {**RECORD, "cases": [ROWS["clip"], *rows]}


def cells_of(table):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {cells[0]: dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]}


def changed(name, check, outcome, detail="why"):
    """A row of the record in which a check ended otherwise."""
    found = outcomes(ROWS[name]) | {check: (outcome, detail)}
    row = {key: value for key, value in ROWS[name].items() if isinstance(value, str | bool)} | {"passed": []}
    for each, (how, what) in found.items():
        if how == "passed":
            row["passed"].append(each)
        else:
            row.setdefault(how, {})[each] = what
    return row


def test_what_passes_is_yes_and_what_does_not_apply_is_a_dash():
    table = support(some_record(), part="merging")
    assert cells_of(table)["CLIP"] == {
        "family": "CLIP",
        "adapter": "`clip`",
        **dict.fromkeys(["described", "exact at 0", "as planned", "sizes count", "any strategy"], "✓"),
    }
    table = support(some_record(ROWS["clip-classifier"], ROWS["blip-vqa"]), part="merging")
    assert cells_of(table)["CLIP"]["all tokens back"] == "some"
    assert cells_of(table)["CLIP"]["text reads sizes"] == "–"
    assert cells_of(table)["BLIP"]["text reads sizes"] == "✓"


@pytest.mark.parametrize("outcome", ["expected failure", "failed", "unexpected pass", "not run"])
def test_what_fails_has_its_reason_below(outcome):
    table = support(lambda _: {"cases": [changed("clip", "check_compiles", outcome)]}, part="running")
    assert cells_of(table)["CLIP"]["compile"] == "✗<sup>1</sup>"
    assert table.endswith("\n\n1. why")
    table = support(some_record(changed("clip-vision", "check_compiles", outcome)), part="running")
    assert cells_of(table)["CLIP"]["compile"] == "some<sup>1</sup>"
    assert cells_of(table)["CLIP"]["threads"] == "✓"


def test_reasons_are_told_once():
    both = [ROWS["siglip-2-vision"], ROWS["llava-next"], changed("clip", "check_compiles", "expected failure")]
    table = support(lambda _: {"cases": both}, part="running")
    assert [cells_of(table)[family]["compile"] for family in ("CLIP", "SigLIP 2", "LLaVA-NeXT, OneVision")] == [
        "✗<sup>1</sup>",
        "–<sup>2</sup>",
        "–<sup>2</sup>",
    ]
    assert table.count("makes no single graph of the untouched model") == 1


def test_denoisers_have_a_table_of_their_own():
    found = some_record(ROWS["sd1"])
    assert list(cells_of(support(found, part="merging", of="denoisers"))) == ["Stable Diffusion 1, 2"]
    assert list(cells_of(support(found, part="merging", of="towers"))) == ["CLIP"]
    table = support(found, part="running")
    assert cells_of(table)["Stable Diffusion 1, 2"]["checkpointing"] == "–<sup>1</sup>"
    assert "1. [refused](#what-is-refused)" in table


def test_what_is_not_there_is_an_error():
    with pytest.raises(TurboError, match="of='both': towers or denoisers"):
        support(some_record(), part="merging", of="both")
    with pytest.raises(TurboError, match="part='speed': merging or running"):
        support(some_record(), part="speed")
    with pytest.raises(TurboError, match="the record has no denoisers"):
        support(some_record(), part="running", of="denoisers")
    with pytest.raises(TurboError, match="no family has the case 'mine'"):
        support(some_record({**ROWS["clip"], "case": "mine"}), part="merging")


def test_columns_name_their_checks_and_the_paragraph_its_machine():
    assert all(f"`{check}`" in support_columns(lambda _: RECORD) for check in RECORD["checks"])
    text = support_made_by(some_record(changed("clip-vision", "check_compiles", "expected failure")))
    assert text.startswith(f"2 models × {len(RECORD['checks'])} checks: ")
    assert ", 1 failed as is known, 0 otherwise. " in text
    assert f"diffusers {RECORD['machine']['diffusers']}." in text


def test_a_part_is_made_anew_only_for_the_same_versions_and_checks(tmp_path):
    out = tmp_path / "support.json"
    about = {"machine": {"torch": "2"}, "checks": ["check_a"]}
    assert support_matrix.kept(out, about, ["vit"]) == {}
    out.write_text(json.dumps(about | {"cases": [{"case": "vit"}, {"case": "deit"}]}))
    assert support_matrix.kept(out, about, ["vit"]) == {"deit": {"case": "deit"}}
    for key, other in (("machine", {"torch": "3"}), ("checks", ["check_b"])):
        with pytest.raises(TurboError, match=f"support.json is of another {key}: make all of it anew"):
            support_matrix.kept(out, about | {key: other}, ["vit"])


def test_an_unknown_case_and_missing_tests_are_errors(tmp_path, capsys):
    assert support_matrix.main(["nothing", "--out", str(tmp_path / "a.json")]) == 2
    assert "no case is called 'nothing'; there are: vit, " in capsys.readouterr().err
    with pytest.raises(TurboError, match=r"there is no .*families\.py: the cases are part of the repository's tests"):
        support_matrix.load_cases(tmp_path)


def test_a_unet_of_the_xl_kind_compiles_by_itself():
    """What the matrix says in a note, since the case has a module around it."""
    torch.manual_seed(0)
    model, inputs = sdxl_unet().eval(), inputs_xl(2)
    added = {key: inputs.pop(key) for key in ("text_embeds", "time_ids")}
    turbo.accelerate(model, "s1", ratio=0.4, max_downsample=2)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.inference_mode():
        wanted = model(**inputs, added_cond_kwargs=added).sample
        torch.testing.assert_close(compiled(**inputs, added_cond_kwargs=added).sample, wanted)
