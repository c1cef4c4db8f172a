"""Pages say what the records say: marked parts are filled from them, and a part that is not up to date is found."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from turbo import defaults
from turbo.errors import TurboError
from turbo.evaluation import load_data
from turbo.evaluation.study import run_study
from turbo.models import load_model

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("benchmarks are no part of a source distribution", allow_module_level=True)
sys.path.append(str(BENCHMARKS))  # as for a script that runs there

import choices_picture  # noqa: E402
import defaults_rows  # noqa: E402
import fill_pages  # noqa: E402
import page_tables  # noqa: E402
from defaults_tables import bars, measured, question  # noqa: E402
from markdown_tables import number  # noqa: E402

MACHINE = {
    "processor": "x86_64",
    "threads": 1,
    "cores": 2,
    "gpu": None,
    "torch": "2",
    "transformers": "5",
    "turbo": "0",
}


def row(
    question: str, name: str, mean: float, difference: float = 0.0, half: float = 0.0, **other: Any
) -> dict[str, Any]:
    found = {"model": "blip-scenes", "ground": "plain", "metric": "nll", "examples": 750, "half_width": 0.2}
    kind = question.partition(",")[0]
    against = {"strategy against random": "random", "partition": "parity", "untouched": name}.get(kind, "tome")
    found |= {"question": question, "name": name, "against": against, "mean": mean}
    return found | {"difference": difference, "difference_half_width": half} | other


def record(*rows: dict[str, Any]) -> dict[str, Any]:
    """What defaults.py writes, of these rows and the untouched captioner."""
    about = {"command": "python benchmarks/defaults.py --split test", "seeds": [0, 1, 2]}
    return {**about, "machine": MACHINE, "rows": [row("untouched", "untouched", 1.2), *rows]}


STRATEGIES = (
    row("strategy, 2.0x", "tome", 2.0),
    row("strategy, 2.0x", "ward", 1.564, -0.436, 0.174),
    row("strategy, 2.0x", "s1 alpha=0.1", 1.95, -0.05, 0.174),
    row("strategy, 2.0x", "random", 4.0, 2.0, 0.4),
    row("strategy against random, 2.0x", "tome", 2.0, -2.0, 0.4),
    row("strategy against random, 2.0x", "ward", 1.564, -2.436, 0.4),
    row("strategy against random, 2.0x", "random", 4.0),
)


def load_of(found: dict[str, Any]) -> Any:
    return lambda name: {"defaults-test": found}[name]


def lines_of(table: str) -> list[list[str]]:
    """The cells of a table's rows."""
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    assert len({len(cells) for cells in found}) == 1
    return [found[0], *found[2:]]


def test_a_cell_has_the_mean_and_the_difference_and_says_what_is_told_from_chance():
    table = question(load_of(record(*STRATEGIES)), question="strategy", split="test").replace("\u00a0", " ")
    assert table.startswith("**At 2×**\n\n")
    assert lines_of(table) == [
        ["strategy", "captions<br>plain"],
        ["untouched", "1.20"],
        ["tome", "2.00"],
        ["ward", "**1.56**<br>−.44 ± .17"],
        ["s1 α=0.1", "1.95<br>−.05 ± .17"],
        ["random", "4.00 ▲<br>+2.00 ± .40"],
    ]


@pytest.mark.parametrize(
    ("metric", "difference", "half", "verdict"),
    [
        ("nll", -0.2, 0.1, "better"),
        ("nll", 0.2, 0.1, "worse"),
        ("nll", -0.1, 0.1, "even"),
        ("nll", 0.0, 0.0, "even"),
        ("accuracy", 0.2, 0.1, "better"),
        ("accuracy", -0.2, 0.1, "worse"),
        ("accuracy", 0.1, 0.2, "even"),
        ("nll", math.nan, math.nan, "even"),
    ],
)
def test_the_interval_decides(metric, difference, half, verdict):
    figure = defaults_rows.Figure("ours", "tome", metric, 1.0, 0.1, difference, half, 750)
    assert figure.verdict == verdict


def test_shares_are_shown_times_100_and_a_fall_is_worse():
    rows = [
        row("strategy, 2.0x", "tome", 0.9, metric="exact"),
        row("strategy, 2.0x", "ward", 0.7, -0.2, 0.02, metric="exact"),
    ]
    found = record(*rows, row("untouched", "untouched", 0.95, metric="exact"))
    table = question(load_of(found), question="strategy", split="test", metric="exact,accuracy").replace("\u00a0", " ")
    assert lines_of(table) == [
        ["strategy", "captions<br>plain<br>exact"],
        ["untouched", "95.0"],
        ["tome", "90.0"],
        ["ward", "70.0 ▼<br>−20.0 ± 2.0"],
    ]


def test_a_family_of_questions_is_one_table_with_what_repeats_left_out():
    rows = [
        row(f"partition, {strategy}, {amount}x", name, mean, mean - 2.0, half)
        for amount in ("2.0", "2.5")
        for strategy in ("tome", "ward")
        for name, mean, half in (("parity", 2.0, 0.0), ("ordered", 1.996, 0.012))
    ]
    table = question(load_of(record(*rows)), question="partition", split="test").replace("\u00a0", " ")
    assert lines_of(table)[0] == ["speed-up", "strategy", "partition", "captions<br>plain"]
    assert [line[:3] for line in lines_of(table)[1:]] == [
        ["", "", "untouched"],
        *[["2×", "tome", "parity"], ["", "", "ordered"], ["", "ward", "parity"], ["", "", "ordered"]],
        *[["2.5×", "tome", "parity"], ["", "", "ordered"], ["", "ward", "parity"], ["", "", "ordered"]],
    ]
    assert lines_of(table)[3][3] == "1.996<br>−.004 ± .012"  # narrow intervals are shown with a digit more


def test_many_settings_have_a_table_for_each_speed_up_and_amounts_choose():
    rows = [row(f"strategy, {at}x", f"s{i}", 2.0, i, i / 2, against="s0") for at in ("1.3", "2.0") for i in range(9)]
    table = question(load_of(record(*rows)), question="strategy", split="test")
    assert [line for line in table.splitlines() if line.startswith("**At")] == ["**At 1.3×**", "**At 2×**"]
    assert table.count("| untouched |") == 2
    assert "1.3×" not in question(load_of(record(*rows)), question="strategy", split="test", amounts="2.0")


def test_the_bars_are_paired_with_each_rival():
    options = {"split": "test", "strategy": "ward", "rivals": "tome,random"}
    table = bars(load_of(record(*STRATEGIES)), **options).replace("\u00a0", " ")
    assert lines_of(table) == [
        ["speed-up", "ward against", "captions<br>plain"],
        ["2×", "tome", "**better**<br>−.44 ± .17"],
        ["", "random", "**better**<br>−2.44 ± .40"],
    ]
    options["strategy"] = "tome"
    assert "even<br>.00 ± .00" in bars(load_of(record(*STRATEGIES)), **options).replace("\u00a0", " ")


def test_the_bars_are_of_the_librarys_default():
    rows = [row("strategy, 2.0x", "tome", 2.0), row("strategy, 2.0x", defaults.STRATEGY, 1.0, -1.0, 0.1)]
    assert "**better**" in bars(load_of(record(*rows)), split="test", rivals="tome")


def test_how_it_was_measured():
    text = measured(load_of(record(*STRATEGIES)), split="test")
    assert "captions: 750 plain" in text
    assert "`python benchmarks/defaults.py --split test`, on x86_64, 1 of 2 cores, torch 2" in text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("nothing", "no table is called 'nothing'; there are: question, bars"),
        ("question split=test", "needs 'question'"),
        ("question split=test question=strategy colour=red", "does not know 'colour'"),
        ("question split=test question=strategy nll", "'nll' is no key=value"),
        ("question split=test split=test question=strategy", "given twice"),
        ('question split=test question="strategy', "No closing quotation"),
        ("question split=test question=strateg", "no question 'strateg'; there are: 'strategy'"),
        ("question split=test question=strategy metric=cider", "no metric 'cider'"),
        ("question split=test question=strategy amounts=3", "nothing was measured at 3×; there are: 2"),
        ("question split=test question=strategy amounts=fast", "as in 2.0,2.5"),
        (
            "question split=validation question=strategy",
            "make it with `python benchmarks/defaults.py --split validation`",
        ),
        ("bars split=test strategy=s5 rivals=tome", "no strategy 's5' at 2×; there are: tome, ward"),
        ("bars split=test strategy=ward", "no question 'strategy against attention'"),
        ("reproduced record=table1", "make it with `turbo reproduce table1`"),
        ("reproduced record=broken", "broken.json is no JSON"),
    ],
)
def test_what_cannot_be_made_is_an_error_that_says_where(tmp_path, capsys, table, message):
    results = repository(tmp_path, f"# Title\n\n<!-- table: {table} -->\n<!-- end -->\n")
    (results / "broken.json").write_text("{")
    assert fill_pages.main(["--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("docs/page.md:3: ")
    assert message in error


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- table: a -->\n", "page.md:1: the part 'a' is not closed"),
        (
            "<!-- table: a -->\n\n<!-- table: b -->\n<!-- end -->\n",
            "page.md:1: the part 'a' is not closed by .* before line 3",
        ),
        ("text\n<!-- end -->\n", "page.md:2: .* closes nothing"),
        ("<!-- table1 -->\n", "page.md:1: '<!-- table1 -->': write <!-- table: NAME"),
        ("<!--table: a -->\n<!-- end -->\n", "page.md:1: .*write"),
        ("<!-- table: -->\n<!-- end -->\n", "page.md:1: .*write"),
        ("  <!-- table: a -->\n<!-- end -->\n", "page.md:1: .*write"),
        ("<!-- table: a -->\n<!-- End -->\n", "page.md:2: .*write"),
    ],
)
def test_a_mark_that_is_not_as_it_should_be_is_an_error(page, message):
    with pytest.raises(TurboError, match=message):
        fill_pages.fill(page, lambda name, arguments: "made", "page.md")


def test_only_marked_parts_are_replaced_and_once_is_enough():
    page = 'one\n<!-- table: a b="c d" -->\nold\n<!-- end -->\n<!-- output -->\ntwo\n<!-- table: e -->\n<!-- end -->\n'
    made: list[tuple[str, dict[str, str]]] = []

    def make(name: str, arguments: dict[str, str]) -> str:
        made.append((name, arguments))
        return f"new {name}"

    filled, differ = fill_pages.fill(page, make, "page.md")
    assert filled == (
        'one\n<!-- table: a b="c d" -->\n\nnew a\n\n<!-- end -->\n<!-- output -->\ntwo\n'
        "<!-- table: e -->\n\nnew e\n\n<!-- end -->\n"
    )
    assert made == [("a", {"b": "c d"}), ("e", {})]
    assert differ == ['page.md:2: a b="c d"', "page.md:7: e"]
    assert fill_pages.fill(filled, make, "page.md") == (filled, [])


def repository(root: Path, page: str) -> Path:
    """A folder with one page and a record; returns that of the records."""
    results = root / "benchmarks" / "results"
    results.mkdir(parents=True)
    (root / "docs").mkdir()
    (root / "docs" / "page.md").write_text(page)
    (results / "defaults-test.json").write_text(json.dumps(record(*STRATEGIES)))
    return results


def test_check_fails_after_a_number_is_changed_on_the_page_or_in_the_record(tmp_path, capsys):
    results = repository(tmp_path, "<!-- table: question question=strategy split=test -->\n<!-- end -->\n")
    page, check = tmp_path / "docs" / "page.md", ["--root", str(tmp_path), "--check"]
    assert fill_pages.main(check) == 1
    assert page.read_text().count("\n") == 2  # a check writes nothing
    assert fill_pages.main(check[:2]) == 0
    filled = page.read_text()
    assert fill_pages.main(check) == 0
    page.write_text(filled.replace("1.56", "1.46"))
    capsys.readouterr()
    assert fill_pages.main(check) == 1
    assert capsys.readouterr().out.startswith("docs/page.md:1: question question=strategy split=test: is not what the")
    assert fill_pages.main(check[:2]) == 0
    assert page.read_text() == filled
    (results / "defaults-test.json").write_text(json.dumps(record(*STRATEGIES)).replace("1.564", "1.574"))
    assert fill_pages.main(check) == 1


def test_an_error_on_one_page_leaves_all_as_they_were(tmp_path):
    repository(tmp_path, "<!-- table: question question=strategy split=test -->\n<!-- end -->\n")
    (tmp_path / "docs" / "later.md").write_text("<!-- table: nothing -->\n<!-- end -->\n")
    before = (tmp_path / "docs" / "page.md").read_text()
    assert fill_pages.main(["--root", str(tmp_path)]) == 2
    assert (tmp_path / "docs" / "page.md").read_text() == before


def test_a_study_is_shown_as_turbo_eval_prints_it(tmp_path):
    data = load_data("digits", "classification", limit=6)
    run_study(
        load_model("zoo:vit-digits"),
        data,
        {"tome": {"strategy": "tome", "drop": 10}, "ours": {"drop": 10}},
        tmp_path / "study",
        task="classification",
        rounds=1,
        plot=False,
    )
    shutil.copy(tmp_path / "study" / "results.json", tmp_path / "digits.json")
    text = page_tables.make_table(tmp_path, "study", {"record": "digits", "metric": "nll"})
    found = json.loads((tmp_path / "digits.json").read_text())
    for part, settings in found["parts"].items():
        assert f"**zoo:vit-digits, {part}, 6 examples**" in text
        table = lines_of(text.partition(part)[2].partition("**zoo")[0])
        assert table[0] == ["", "nll", "- untouched", "- tome", "top-1", "encoder", "ideal"]
        for cells, (name, figures) in zip(table[1:], settings["settings"].items(), strict=True):
            assert cells[0] == name
            assert cells[1].split(" ±")[0] == f"{figures['nll']['value']:.3f}"
            assert cells[5] == f"{found['settings'][name]['speed']['encoder']['speedup']:.2f}x"
    assert text.endswith("ideal: by FLOPs.")
    with pytest.raises(TurboError, match="digits has no metric 'cider'; there are: nll, top1"):
        page_tables.make_table(tmp_path, "study", {"record": "digits", "metric": "cider"})


@pytest.mark.parametrize(("value", "text"), [(-0.0004, ".00"), (0.995, ".99"), (-1.5, "−1.50"), (math.nan, "n/a")])
def test_numbers_are_short(value, text):
    assert number(value, 2) == text


def test_the_picture_shows_the_default_and_its_rivals(tmp_path):
    names = [defaults.STRATEGY, "tome", "attention", "random"]
    rows = [
        row(f"strategy, {at}x", name, 1.0 + i * at, i, i / 9, ground=ground)
        for ground in ("plain", "distractors")
        for at in (1.3, 2.0)
        for i, name in enumerate(names)
    ]
    rows.append(row("untouched", "untouched", 1.0, ground="distractors"))
    found = defaults_rows.Questions(record(*rows))
    choices_picture.draw(tmp_path / "picture.png", found, names[0])
    assert Image.open(tmp_path / "picture.png").width == 1600
    with pytest.raises(TurboError, match="no strategy 's5' at 1.3×"):
        choices_picture.draw(tmp_path / "picture.png", found, "s5")


def test_the_pages_say_what_the_records_say():
    assert fill_pages.fill_pages(ROOT, write=False) == []


def test_no_answer_is_missing():
    assert "TODO" not in (ROOT / "docs" / "benchmarks" / "choices.md").read_text()
