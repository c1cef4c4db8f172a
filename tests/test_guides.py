"""Other sources of A, as the measurements behind the library's use them, and the tables of what was found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from families import family

import turbo
from turbo.engine.trace import recording
from turbo.errors import TurboError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("benchmarks are no part of a source distribution", allow_module_level=True)
sys.path.append(str(BENCHMARKS))  # as for a script that runs there

from guidance_tables import sinks, sources  # noqa: E402
from guided_runs import Guided  # noqa: E402
from guides import Received, attention_sinks, by_value_norm, capped, class_token, even, guided  # noqa: E402
from semantic_sources import MODELS, SOURCES, settings  # noqa: E402


def values_of(name, source=None, **options):
    """A of the sources of the last block that merges, as the strategy saw it."""
    chosen = family(name)
    model = turbo.accelerate(chosen.model(), drop=4)
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), recording(model) as trace:
        if source is None:
            model(pixels)
        else:
            with guided(source, **options):
                model(pixels)
    return trace.blocks[-1].candidates.value


@pytest.mark.parametrize(("name", "source"), [("vit-classifier", class_token), ("timm-no-class-avg", Received(32))])
def test_the_librarys_own_source_as_a_guide_changes_nothing(name, source):
    torch.testing.assert_close(values_of(name, source), values_of(name))
    assert not torch.allclose(values_of(name, even), values_of(name))


@pytest.mark.parametrize("first", [0, 1])
def test_a_hidden_class_token_neither_asks_nor_is_asked(first):
    """What the source sees does not depend on what the first token's query and key are."""
    seen = []

    def source(known):
        seen.append(known)
        return even(known)

    values_of("vit-classifier", source, hide_first=bool(first))
    assert [each.k.shape[2] for each in seen[:2]] == [37 - first, 33 - first]
    assert {each.q.shape[2] - each.x.shape[1] for each in seen} == {0}


def test_a_sink_draws_attention_and_has_a_norm_far_from_the_others():
    norm, value = torch.linspace(0.9, 1.1, 40).repeat(2, 1), torch.linspace(0.5, 1.5, 40).repeat(2, 1)
    assert not attention_sinks(value, norm).any()
    norm[0, 3] = norm[0, 5] = norm[1, 7] = 9.0
    value[0, 3] = 4.0  # the others have a large norm alone
    assert attention_sinks(value, norm).nonzero().tolist() == [[0, 3]]
    norm[1, 9], value[1, 9] = 0.01, 4.0
    assert attention_sinks(value, norm, distance=-3.0).nonzero().tolist() == [[1, 9]]


def test_guides_that_distrust_sinks_give_them_less():
    torch.manual_seed(0)
    chosen = []

    def source(known):
        chosen.append(known)
        return class_token(known)

    values_of("vit-classifier", source)
    known = chosen[0]
    asking = known.q[:, :, 0]
    known.k[:, :, 5] = 8 * asking / (known.scale * asking.square().sum(2, keepdim=True))  # a score of 8
    known.v[:, :, 5] = 0
    plain = class_token(known)
    assert plain[:, 5].min() > 0.9
    assert by_value_norm(known)[:, 5].max() == 0
    assert capped(known).max() <= 10 / 37


@pytest.mark.parametrize("name", MODELS[:3])
def test_settings_of_a_model_have_a_name_each(name):
    found = settings(name, None)
    assert len({each.key for each in found}) == len(found) > len(SOURCES)


def test_a_cell_says_what_is_told_from_chance():
    def row(source, mean, difference, half, strategy="ward"):
        about = {"model": "clip-scenes", "metric": "distance", "strategy": strategy, "speedup": 2.0, "source": source}
        return about | {"mean": mean, "difference": difference, "half_width": half}

    rows = [row("none", 0.004, 0, 0, "tome"), row("a", 0.002, -0.002, 0.001), row("b", 0.005, 0.001, 0.0005)]
    rows += [row("c", 0.0041, 0.0001, 0.001), row("a", 1, 1, 1, "s1")]
    record = {"semantic-sources": {"test": rows}}
    table = sources(record.__getitem__, strategy="ward", split="test", amounts="2").replace("\u00a0", " ")
    assert [line.split(" | ")[1:] for line in table.splitlines()[2:]] == [
        ["R alone", "4.000 |"],
        ["a", "**2.00**<br>−2.00 ± 1.00 |"],
        ["b", "5.00 ▲<br>+1.00 ± .50 |"],
        ["c", "4.10<br>+.10 ± 1.00 |"],
    ]
    with pytest.raises(TurboError, match="nothing was measured at 3×"):
        sources(record.__getitem__, strategy="ward", split="test", amounts="3")


def test_a_kind_of_sink_that_a_block_does_not_have_is_a_dash():
    row = {"model": "m", "block": 0}
    for kind, count in (("loud", 0.25), ("silent", 0.0), ("neither", 195.75)):
        row[f"{kind} in an image"] = count
        for what in ("on objects", "kept by tome", "kept by s1", "kept by ward"):
            row[f"{kind} {what}"] = None if count == 0 else 0.5
    table = sinks({"attention-sinks": {"blocks": [row]}}.__getitem__).replace("\u00a0", " ")
    assert table.splitlines()[2] == "| m | 0 | .25 | 50 % | 50, 50, 50 % | .00 | – | – | 50 % | 50, 50, 50 % |"


def test_settings_keep_apart_what_differs():
    assert Guided("ward", 2.0, "even").key != Guided("s1", 2.0, "even").key
