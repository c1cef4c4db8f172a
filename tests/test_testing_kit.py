"""The conformance kit sees what it promises to see, in all of its entrances."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import broken_adapters
import broken_denoisers
import broken_descriptions
import broken_readers
import broken_rotary
import broken_strategies
import pytest
import torch
from rich.console import Console
from rotary_model import case_of_rotary
from toy_denoiser import denoiser_case
from toy_model import Model, Sound, SoundBlock, case_of, case_of_block, images

import turbo
from turbo.cli.check import show_results
from turbo.testing import (
    AdapterCase,
    Result,
    StrategyCase,
    adapter_checks,
    as_case,
    check_adapter,
    check_strategy,
    parametrize_with_checks,
    readers,
    strategy_checks,
)
from turbo.testing.entrances import MERGED_FOR_GOOD, RESTORED

ROOT = Path(__file__).parents[1]


def only(results: list[Result]) -> Result:
    (result,) = results
    return result


@parametrize_with_checks(
    [
        case_of(name="sound", restores=False),
        case_of_rotary(name="rotary", restores=False),
        denoiser_case(name="denoiser", restores=True),
    ]
)
def test_the_sound_adapter_passes(case, check):
    check(case)


def test_the_sound_adapter_leaves_out_what_needs_a_name_or_a_module():
    """The toy lives in one file with its model and is not registered; all the rest applies to it."""
    reading = {check.__name__ for check in readers.CHECKS}
    for case, others in (
        (case_of_rotary(compiles=False), RESTORED | reading),
        (denoiser_case(compiles=False), MERGED_FOR_GOOD),
    ):
        outcomes = {result.check: result.outcome for result in check_adapter(case)}
        left_out = {name for name, outcome in outcomes.items() if outcome != "passed"}
        assert left_out == {"check_is_found_by_itself", "check_import_is_light", "check_compiles"} | others


def test_a_case_that_says_its_kind_leaves_the_other_kinds_checks_out():
    one, other = adapter_checks(case_of(restores=False)), adapter_checks(denoiser_case(restores=True))
    assert {check.__name__ for check in adapter_checks()} - {check.__name__ for check in one} == RESTORED
    assert {check.__name__ for check in adapter_checks()} - {check.__name__ for check in other} == MERGED_FOR_GOOD
    result = only(check_adapter(denoiser_case(restores=True), only="check_maps_are_the_block"))
    assert (result.outcome, result.detail) == ("not applicable", "restores=True")


BROKEN_ADAPTERS = [
    *broken_adapters.BROKEN,
    *broken_descriptions.BROKEN,
    *broken_readers.BROKEN,
    *broken_rotary.BROKEN,
    *broken_denoisers.BROKEN,
]


@pytest.mark.parametrize(("check", "make", "message"), BROKEN_ADAPTERS)
def test_a_broken_adapter_fails_its_check(check, make, message, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    result = only(check_adapter(make(tmp_path), only=[check]))
    assert result.outcome == "failed"
    assert re.search(message, result.detail, re.DOTALL), result.detail


@pytest.mark.parametrize(
    ("check", "strategy", "message"),
    broken_strategies.BROKEN,
    ids=[getattr(strategy, "__name__", "Counts") for _, strategy, _ in broken_strategies.BROKEN],
)
@pytest.mark.filterwarnings("ignore:std:UserWarning")
def test_a_broken_strategy_fails_its_check(check, strategy, message):
    result = only(check_strategy(strategy, only=[check]))
    assert result.outcome == "failed"
    assert re.search(message, result.detail), result.detail


def test_every_check_has_something_broken_to_see():
    broken = {check for check, *_ in [*BROKEN_ADAPTERS, *broken_strategies.BROKEN]}
    assert broken == {check.__name__ for check in [*adapter_checks(), *strategy_checks()]}


def test_names_are_sentences_and_docstrings_are_promises():
    checks = [*adapter_checks(), *strategy_checks()]
    assert len({check.__name__ for check in checks}) == len(checks)
    for check in checks:
        assert re.fullmatch(r"check(_[a-z]+)+", check.__name__)
        assert check.__doc__
        assert check.__doc__.endswith(".")


def test_the_table_in_the_documentation_is_complete():
    page = (ROOT / "docs" / "extending" / "conformance.md").read_text()
    adapters, strategies = page.partition("### Of an adapter")[2].partition("### Of a strategy")[::2]
    for text, checks in ((adapters, adapter_checks()), (strategies, strategy_checks())):
        assert re.findall(r"^\| `(check_\w+)` \|", text, re.MULTILINE) == [check.__name__ for check in checks]


def test_every_flag_is_documented():
    page = (ROOT / "docs" / "extending" / "conformance.md").read_text()
    for flag in {*turbo.testing.entrances.FLAGS.values(), "restores"}:
        assert f"`{flag}`" in page


# Cases


def test_the_kit_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    check_adapter(case_of(compiles=False))
    check_strategy("s1")
    assert torch.equal(torch.get_rng_state(), before)


def test_models_are_alike_and_loud():
    case = case_of()
    one, other = case.make_model(), case.make_model()
    assert not one.training
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.std() > 0.05, name  # LayerScale, norms, biases, tokens: nothing is left at its initial value
    assert not torch.equal(one.head.weight, case.make_model(seed=1).head.weight)
    assert torch.equal(case.make_inputs(3)["images"], case.make_inputs(3)["images"])


def test_names_of_cases():
    assert case_of().name == "Sound-Model"
    assert AdapterCase(Sound, lambda: Model(2), images).name == "Sound"
    assert AdapterCase.from_adapter("vit").name == "vit"
    assert str(case_of(name="mine")) == "mine"
    assert repr(case_of(name="mine")) == "AdapterCase('mine')"
    assert repr(StrategyCase("s1")) == "StrategyCase('s1')"
    assert StrategyCase("s1").name == "s1"
    assert StrategyCase(turbo.fusion.S1(0.1)).name == "S1"
    assert StrategyCase(turbo.fusion.ToMe).name == "ToMe"


def test_a_strategy_can_say_that_it_goes_by_position():
    class ByPosition:
        per_token = False

        def __call__(self, candidates):
            return broken_strategies.goes_by_position(candidates)

    result = only(check_strategy(ByPosition(), only=["check_judges_each_token_by_itself"]))
    assert (result.outcome, result.detail) == ("not applicable", "per_token=False")
    assert StrategyCase(ByPosition(), per_token=True).per_token is True


class Silent(Sound):
    pass


class WrongExample(Sound):
    def example(self):
        return Model


class NeedsArguments(Sound):
    def __init__(self, size):
        self.size = size


BAD_CASES = [
    (lambda: case_of(model=Model()), "must be a function that builds the model"),
    (lambda: case_of(inputs={}), "inputs=a dict: must be a function of the batch size"),
    (lambda: case_of(model=lambda: None).make_model(), r"model\(\) returned a NoneType"),
    (lambda: case_of(inputs=lambda batch: 3).make_inputs(), r"inputs\(2\) returned a int"),
    (lambda: case_of(output=lambda out: None).run(Model(), images(2)), "output= must return a tensor"),
    (lambda: case_of().read((1, 2)), "cannot compare a tuple: give the case an output="),
    (lambda: case_of(expected_failures={"check_noop_is_exact": " "}), "say why it fails, in words"),
    (lambda: StrategyCase("s1", expected_failures={"check_is_finite": ""}), "say why it fails, in words"),
    (
        lambda: case_of(expected_failures={"check_nop_is_exact": "x"}),
        "expected_failures names 'check_nop_is_exact': there is no such check; near to it: check_noop_is_exact",
    ),
    (
        lambda: StrategyCase("s1", expected_failures={"check_noop_is_exact": "an adapter's"}),
        "there is no such check",
    ),
    (
        lambda: case_of(compiles=False, expected_failures={"check_compiles": "breaks"}),
        "compiles=False leaves check_compiles out",
    ),
    (
        lambda: case_of(restores=True, expected_failures={"check_maps_are_the_block": "breaks"}),
        "restores=True leaves check_maps_are_the_block out",
    ),
    (lambda: check_adapter(case_of(), only=["check_all"]), "only 'check_all': there is no such check"),
    (lambda: AdapterCase.from_adapter(Silent), r"the adapter Silent has no example\(\): return turbo.adapters.Example"),
    (lambda: AdapterCase.from_adapter(WrongExample()), r"WrongExample.example\(\) returned a type"),
    (lambda: AdapterCase.from_adapter(NeedsArguments), "NeedsArguments cannot be created without arguments"),
    (lambda: AdapterCase.from_adapter(turbo.fusion.S1()), "must be a turbo.adapters.Adapter"),
    (lambda: StrategyCase(3), "strategy=3: must be a callable of candidates"),
    (lambda: StrategyCase("s7"), "no strategy is called 's7'"),
    (lambda: as_case("s7"), "no adapter and no strategy is called 's7'; adapters: blip"),
    (lambda: parametrize_with_checks("vit"), r"parametrize_with_checks\(vit\): give a list of cases, \[vit\]"),
    (lambda: parametrize_with_checks(case_of(name="mine")), r"give a list of cases, \[mine\]"),
    (lambda: as_case(7), "nothing to check in a int"),
    (lambda: as_case(SoundBlock), "SoundBlock is a ResidualBlock: name the Adapter that lists it"),
    (lambda: as_case(SoundBlock(Model().blocks[0])), "SoundBlock is a ResidualBlock"),
    (lambda: check_adapter(SoundBlock), "SoundBlock is a ResidualBlock"),
]


@pytest.mark.parametrize(("make", "message"), BAD_CASES, ids=[message[:30] for _, message in BAD_CASES])
def test_bad_cases_are_told(make, message):
    with pytest.raises(turbo.TurboError, match=message):
        make()


def test_a_model_that_is_built_once_is_seen():
    one = Model()
    result = only(check_adapter(case_of(model=lambda: one), only=["check_two_models_do_not_interfere"]))
    assert "the same object twice" in result.detail


def test_a_model_with_too_few_tokens_is_seen():
    class Tiny(Model):
        def embed(self, images):
            return super().embed(images)[:, :3]

    result = only(check_adapter(case_of(model=Tiny), only=["check_token_counts_follow_schedule"]))
    assert "the sample model has only 3 tokens" in result.detail


# Results


def test_outcomes():
    check, forgetful = "check_maps_are_the_block", broken_adapters.ForgetsLayerScale
    reason = {check: "LayerScale is left out on purpose"}
    passed = only(check_adapter(case_of(), only=[check]))
    failed = only(check_adapter(case_of_block(forgetful), only=[check]))
    expected = only(check_adapter(case_of_block(forgetful, expected_failures=reason), only=[check]))
    unexpected = only(check_adapter(case_of(expected_failures=reason), only=[check]))
    found = [(r.outcome, r.ok) for r in (passed, failed, expected, unexpected)]
    assert found == [("passed", True), ("failed", False), ("expected failure", True), ("unexpected pass", False)]
    assert (passed.case, passed.check, passed.detail) == ("Sound-Model", check, "")
    assert expected.detail == "LayerScale is left out on purpose"
    assert unexpected.detail == (
        "passes, but expected_failures says: 'LayerScale is left out on purpose'; take the entry off"
    )


def test_flags_leave_checks_out():
    result = only(check_adapter(case_of(trains=False), only=["check_gradients_flow"]))
    assert (result.outcome, result.detail, result.ok) == ("not applicable", "trains=False", True)
    assert "check_gradients_flow" not in {check.__name__ for check in adapter_checks(case_of(trains=False))}


def test_an_exception_of_the_adapter_is_a_failure_with_its_place():
    class Crashes(Sound):
        def shape(self, model):
            return model.no_such_attribute  # raised in torch's Module.__getattr__

    result = only(check_adapter(case_of(Crashes), only=["check_shape_is_what_arrives"]))
    assert result.outcome == "failed"
    assert re.fullmatch(r"AttributeError: .*no_such_attribute.* \(test_testing_kit.py, line (\d+)\)", result.detail)
    line = int(result.detail.rpartition(" ")[2].rstrip(")"))
    assert "no_such_attribute" in Path(__file__).read_text().splitlines()[line - 1]


@pytest.mark.parametrize(
    ("run", "case", "first"),
    [
        (check_adapter, case_of(broken_descriptions.AsksForTooMuch, compiles=False), "check_description_is_usable"),
        (check_adapter, case_of(broken_descriptions.RefusesItsExample), "check_description_is_usable"),
        (check_strategy, broken_strategies.misspelt, "check_strategy_is_callable"),
    ],
)
def test_one_root_cause_is_one_failure(run, case, first):
    failed, *others = run(case)
    assert (failed.check, failed.outcome) == (first, "failed")
    left_out = {"check_compiles"} if run is check_adapter and not case.compiles else set()
    for result in others:
        assert result.ok
        wanted = ("not applicable", "compiles=False") if result.check in left_out else ("not run", f"see {first}")
        assert (result.outcome, result.detail) == wanted


def test_a_check_that_is_asked_for_by_name_runs_all_the_same():
    result = only(check_adapter(case_of(broken_descriptions.RefusesItsExample), only="check_noop_is_exact"))
    assert (result.check, result.outcome) == ("check_noop_is_exact", "failed")


def test_a_summary_counts_each_outcome_by_itself():
    console = Console(record=True, width=200)
    outcomes = ["passed", "passed", "failed", "unexpected pass", "expected failure", "not applicable", "not run"]
    show_results(console, [Result("mine", f"check_{outcome}", outcome, f"why {outcome}") for outcome in outcomes])
    text = console.export_text()
    assert text.splitlines()[-1].strip() == "2 passed, 2 failed, 1 not applicable, 1 not run, 1 failed as expected"
    assert "check_failed: why failed" in text
    assert "why not run" not in text  # one line per check would bury the reason


class SaysNo(SoundBlock):
    def query(self, q):
        raise turbo.TurboError("say no")


@pytest.mark.parametrize("check", ["check_every_strategy_runs", "check_device_is_kept"])
def test_what_turbo_says_gets_no_guess_at_its_cause(check):
    result = only(check_adapter(case_of_block(SaysNo), only=check))
    assert result.outcome == "failed"
    assert result.detail.endswith("say no")


def test_all_of_a_registered_strategy():
    results = check_strategy("ward")
    assert [result.check for result in results] == [check.__name__ for check in strategy_checks()]
    assert {result.outcome for result in results} == {"passed"}


# Entrances


TEST_FILE = """
from toy_model import case_of, case_of_block
from broken_adapters import ForgetsLayerScale
from broken_descriptions import AsksForTooMuch, RefusesItsExample
from turbo.testing import parametrize_with_checks

NAME = "check_maps_are_the_block"
CASES = [
    case_of(name="sound"),
    case_of_block(ForgetsLayerScale, name="known", expected_failures={NAME: "forgets LayerScale"}),
    case_of(name="mended", expected_failures={NAME: "was fixed"}),
    case_of_block(ForgetsLayerScale, name="broken"),
    case_of(RefusesItsExample, name="unusable"),
    case_of(AsksForTooMuch, name="crashes"),
    "tome",
]

@parametrize_with_checks(CASES)
def test_conformance(case, check):
    check(case)
"""


def test_parametrized_tests_have_readable_ids_and_strict_marks(tmp_path):
    (tmp_path / "test_mine.py").write_text(TEST_FILE)
    chosen = "maps_are or check_is_finite or (sound and import_is) or unusable or (crashes and usable)"
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-k", chosen, "test_mine.py"]
    done = subprocess.run(
        [*command, "-o", f"pythonpath={ROOT / 'tests'}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    lines = re.findall(r"^([A-Z]+) test_mine.py::test_conformance\[([\w-]+)\](.*)$", done.stdout, re.MULTILINE)
    found = {(outcome, name) for outcome, name, _ in lines}
    assert found == {
        ("PASSED", "sound-check_maps_are_the_block"),
        ("XFAIL", "known-check_maps_are_the_block"),
        ("FAILED", "mended-check_maps_are_the_block"),
        ("FAILED", "broken-check_maps_are_the_block"),
        ("FAILED", "unusable-check_description_is_usable"),
        ("FAILED", "crashes-check_description_is_usable"),
        ("PASSED", "tome-check_is_finite"),
    }
    assert "XPASS(strict)" in done.stdout
    line = next(n for n, text in enumerate(TEST_FILE.splitlines(), start=1) if "    check(case)" in text)
    assert re.search(rf"SKIPPED \[1\] test_mine.py:{line}: the adapter lives in the module of its model", done.stdout)
    skipped = (len(adapter_checks()) - 1) + 1  # all but the first of "unusable", and the one chosen of "crashes"
    assert f"SKIPPED [{skipped}] test_mine.py:{line}: see check_description_is_usable" in done.stdout
    assert "turbo/testing" not in done.stdout  # tracebacks are of the test and of the plug-in
    for source in ("check\\(case\\)", "raise Unsupported"):
        assert re.search(rf"^>\s+{source}", done.stdout, re.MULTILINE)
    assert re.search(r"broken_descriptions.py:\d+: in sites\s+return .* model.layers", done.stdout)
    assert "forgets LayerScale" in next(rest for outcome, _, rest in lines if outcome == "XFAIL")


def test_the_kit_imports_neither_pytest_nor_hypothesis_nor_a_model_library():
    code = (
        "import sys, turbo.testing; "
        "print([m for m in ('pytest', 'hypothesis', 'transformers', 'timm', 'open_clip') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_turbo_does_not_import_the_kit():
    code = "import sys, turbo; print('turbo.testing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
