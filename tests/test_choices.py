"""What the measurements behind turbo's defaults compare: settings, ablations and groups of scenes, without a model."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from turbo.evaluation.metrics.intervals import disjoint
from turbo.fusion import Candidates, Ward

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("benchmarks are no part of a source distribution", allow_module_level=True)
sys.path.append(str(BENCHMARKS))  # as for a script that runs there

from ablations import Blended, BothEnds, PerPatch, Tempered  # noqa: E402
from defaults import MODELS  # noqa: E402
from questions import AMOUNTS, STRATEGIES, settings  # noqa: E402

asked = pytest.mark.parametrize(("model", "split"), [(model, split) for model in MODELS for split in AMOUNTS])
strategies = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


@pytest.fixture
def candidates() -> Candidates:
    """Two images of 50 sources, every field its own random numbers."""
    generator = torch.Generator().manual_seed(0)
    redundancy, *rest = torch.rand(3, 2, 50, generator=generator)
    sizes = torch.randint(2, 7, (2, 2, 50), generator=generator).float()
    return Candidates(2 * redundancy - 1, *(4 * value for value in rest), *sizes, depth=1)


def meaning(setting):
    """All that a setting does to a model."""
    return repr(sorted(setting.options.items())), setting.change, setting.whole


# Settings


@asked
def test_settings_are_compared_with_one_of_their_own_question(model, split):
    found = list(settings(model, split))
    named = {(each.question, each.name) for each in found}
    # A name twice would hide a setting; a setting under two names would be compared with itself.
    assert len(named) == len({(each.question, each.key) for each in found}) == len(found)
    assert [each.against for each in found if (each.question, each.against) not in named] == []


@asked
def test_settings_share_a_file_exactly_if_they_do_the_same(model, split):
    found = list(settings(model, split))
    keys, meanings = {each.key for each in found}, {meaning(each) for each in found}
    both = {(each.key, meaning(each)) for each in found}
    assert len(keys) == len(meanings) == len(both) < len(found)


# Ablations


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.3, 2.0])
def test_a_blended_ward_is_ward_with_a_floor(floor, candidates):
    assert torch.equal(Blended(Ward(0.0), floor)(candidates), Ward(floor)(candidates))


@strategies
def test_tempered_by_nothing_is_the_strategy(strategy, candidates):
    assert torch.equal(Tempered(strategy, 1.0)(candidates), strategy(candidates))


def test_tempered_sees_the_power_of_both_values(candidates):
    rooted = replace(candidates, value=candidates.value.sqrt(), partner_value=candidates.partner_value.sqrt())
    assert torch.allclose(Tempered(Ward(), 0.5)(candidates), Ward()(rooted))
    assert not torch.allclose(Tempered(Ward(), 0.5)(candidates), Ward()(candidates))


@strategies
def test_of_tokens_of_one_patch_per_patch_is_the_strategy(strategy, candidates):
    ones = torch.ones_like(candidates.size)
    single = replace(candidates, size=ones, partner_size=ones)
    assert torch.equal(PerPatch(strategy)(single), strategy(single))


def test_per_patch_sees_a_share_of_both_values(candidates):
    halves = replace(candidates, value=candidates.value / 2, partner_value=candidates.partner_value / 4)
    sized = replace(candidates, size=candidates.size * 0 + 2, partner_size=candidates.size * 0 + 4)
    assert torch.equal(PerPatch(Ward())(sized), Ward()(halves))
    assert not torch.equal(PerPatch(Ward())(sized), Ward()(sized))


def test_both_ends_protects_the_end_with_the_greater_value():
    source, partner = torch.tensor([[3.0, 1.0, 1.0, 3.0]]), torch.tensor([[1.0, 3.0, 1.0, 3.0]])
    half, one = torch.full_like(source, 0.5), torch.ones_like(source)
    pairs = Candidates(half, source, partner, one, one, depth=0)
    assert BothEnds(0.1)(pairs).tolist()[0] == pytest.approx([0.2, 0.2, 0.4, 0.2])
    assert BothEnds(0.1, sum=True)(pairs).tolist()[0] == pytest.approx([0.1, 0.1, 0.3, -0.1])


# Groups


@pytest.mark.parametrize(
    "parts",
    [
        [[0, 0, 1], [0, 1, 1], [0, 0, 0]],
        [[5, 0, 5], [0, 3], [9, 2, 2, 0]],
        [[0], [0], [0]],
        [[], [1, 1], [0, 1]],
    ],
)
def test_scenes_of_two_seeds_are_never_joined(parts):
    found = disjoint(parts)
    bounds = [sum(map(len, parts[:seed])) for seed in range(len(parts) + 1)]
    groups = [found[start:end] for start, end in pairwise(bounds)]
    assert len(set(found)) == sum(len(set(part)) for part in parts)
    for part, group in zip(parts, groups, strict=True):
        assert len(group) == len(part)
        assert len(set(zip(part, group, strict=True))) == len(set(part)) == len(set(group))


def test_where_every_example_has_its_own_scene_there_are_no_groups():
    assert disjoint([None, None, None]) is None
