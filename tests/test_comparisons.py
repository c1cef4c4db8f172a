"""A model against itself accelerated: sides share weights and inputs, and say what they did."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import turbo
from turbo.bench import compare, copy_sharing, quartiles
from turbo.bench.compiling import compile_call
from turbo.bench.copies import copy_loaded
from turbo.bench.tokens import counting_tokens, last_block
from turbo.errors import TurboError
from turbo.models import LoadedModel, load_model

TINY = "random:timm/vit_tiny_patch16_224", {"img_size": 64, "depth": 2}  # 17 tokens


@pytest.fixture
def tiny() -> LoadedModel:
    return load_model(*TINY)


@pytest.mark.parametrize("name", ["zoo:vit-digits", "zoo:blip-scenes", "zoo:clip-scenes"])
def test_copies_share_weights_and_leave_the_source_alone(name):
    loaded = load_model(name)
    images = loaded.example(2)
    with torch.inference_mode():
        before = first_tensor(loaded.images(images))
        copied = copy_loaded(loaded)
        turbo.accelerate(copied.model, "s1", drop=5)
        accelerated = first_tensor(copied.images(images))
        after = first_tensor(loaded.images(images))
    ours = dict(copied.model.named_parameters()) | dict(copied.model.named_buffers())
    theirs = dict(loaded.model.named_parameters()) | dict(loaded.model.named_buffers())
    assert list(ours) == list(theirs)
    assert all(ours[each] is theirs[each] for each in ours)
    assert not set(map(id, copied.model.modules())) & set(map(id, loaded.model.modules()))
    assert torch.equal(before, after)
    assert accelerated.shape != after.shape or not torch.equal(accelerated, after)  # the path leads through the copy
    with pytest.raises(TurboError, match="not accelerated"):
        turbo.report(loaded.model)


def test_a_copy_keeps_tied_weights_tied_and_shares_buffers_that_are_not_saved():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight
            self.register_buffer("grid", torch.arange(3), persistent=False)

    model = Tied()
    copied = copy_sharing(model)
    assert copied.a is not model.a
    assert copied.a.weight is copied.b.weight is model.a.weight
    assert copied.grid is model.grid


def first_tensor(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    found: torch.Tensor = next(value for value in output.values() if isinstance(value, torch.Tensor))
    return found


def test_a_path_that_cannot_follow_a_copy_is_an_error(tiny):
    with pytest.raises(TurboError, match=r"function '<lambda>', which cannot follow"):
        copy_loaded(replace(tiny, images=lambda images: tiny.model(images).softmax(1)))


def test_a_path_that_leads_around_the_copy_is_an_error(tiny):
    around = replace(tiny, images=partial(lambda images: tiny.model(images).softmax(1)))
    with pytest.raises(TurboError, match=r"blocks\.1 of this VisionTransformer did not run"):
        compare(around, {}, rounds=1, memory=False)


def test_sides_agree_in_names_counts_and_tokens(tiny):
    def patch(model: nn.Module) -> None:
        turbo.accelerate(model, "tome", drop=3)

    options = {"tome": {"strategy": "tome", "drop": 3}, "none": {"strategy": "s1", "drop": 0}}
    calls: list[int] = []
    result = compare(tiny, options, rivals={"rival": patch}, batch=2, rounds=3, on_round=lambda: calls.append(1))
    sides = {side.name: side for side in result.sides}
    assert list(sides) == ["untouched", "tome", "none", "rival"]
    assert len(calls) == 4  # a round of warm-up
    assert [side.tokens for side in result.sides] == [17, 11, 17, 11]
    assert sides["none"].gflops == sides["untouched"].gflops > sides["tome"].gflops == sides["rival"].gflops
    assert 0 < sides["tome"].peak_mb <= sides["untouched"].peak_mb
    for side in result.sides:
        assert len(side.seconds) == 3
        assert side.spread == quartiles(side.seconds)
        rounds = zip(sides["untouched"].seconds, side.seconds, strict=True)
        assert side.speedup == statistics.median(before / after for before, after in rounds)
        assert side.ideal == pytest.approx(sides["untouched"].gflops / side.gflops)
        assert side.efficiency == side.speedup / side.ideal
        assert side.compile_seconds is side.whole_graph is None
    assert json.loads(json.dumps(result.to_json()))["failed"] == {}
    assert not result.compiled


@pytest.mark.parametrize(
    ("options", "rivals"), [({"untouched": {}}, {}), ({"a": {}}, {"a": id}), ({}, {"untouched": id})]
)
def test_two_sides_of_one_name_are_an_error(tiny, options, rivals):
    with pytest.raises(TurboError, match="two sides are called"):
        compare(tiny, options, rivals=rivals)


def test_an_accelerated_model_has_no_untouched_side(tiny):
    turbo.accelerate(tiny.model, drop=2)
    with pytest.raises(TurboError, match="accelerated already"):
        compare(tiny, {})


def test_the_type_is_the_models(tiny):
    tiny.model.to(torch.bfloat16)
    result = compare(tiny, {"s1": {"strategy": "s1", "drop": 3}}, rounds=1, memory=False)
    assert result.dtype == "bfloat16"
    assert [side.tokens for side in result.sides] == [17, 11]


def test_compiled_sides_are_whole_graphs_and_rivals_that_fail_are_named():
    small = load_model(TINY[0], TINY[1] | {"depth": 1, "embed_dim": 32, "num_heads": 2})

    def once(model: nn.Module) -> None:
        forward, calls = model.forward, []

        def run(images: torch.Tensor) -> Any:
            if calls:
                raise ValueError("runs once")
            calls.append(1)
            return forward(images)

        model.forward = run  # type: ignore[method-assign]

    result = compare(small, {"s1": {"strategy": "s1", "drop": 3}}, rivals={"once": once}, compiled=True, rounds=1)
    assert [side.name for side in result.sides] == ["untouched", "s1"]
    assert all(side.whole_graph and side.compile_seconds for side in result.sides)
    assert [side.tokens for side in result.sides] == [17, 14]
    assert result.compiled
    assert "runs once" in result.failed["once"]


def test_what_does_not_compile_as_one_graph_says_so():
    def parts(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    found = compile_call(parts, torch.ones(3))
    assert not found.whole
    assert torch.equal(found.call(torch.ones(3)), torch.full((3,), 4.0))


def test_tokens_are_counted_at_the_end_and_the_counter_leaves(tiny):
    block = last_block(tiny.model)
    assert block == "blocks.1"
    copied = copy_sharing(tiny.model)
    turbo.accelerate(copied, "s1", drop=[1, 4])
    with counting_tokens(copied, block) as tokens:
        copied(tiny.example(1))
        assert tokens() == 12
    assert not copied.blocks[1]._forward_hooks


def test_a_denoiser_has_no_tokens_at_its_end():
    from denoisers import sd1

    with pytest.raises(TurboError, match="restores its tokens in every block.*turbo generate"):
        last_block(sd1())


def test_options_are_of_timm_only():
    with pytest.raises(TurboError, match="depth cannot apply to zoo:vit-digits"):
        load_model("zoo:vit-digits", {"depth": 2})
    with pytest.raises(TurboError, match="cannot make 'vit_tiny_patch16_224'.*colour"):
        load_model(TINY[0], {"colour": 2})


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], (3.0, 3.0)), ([2.0, 1.0], (1.0, 2.0)), ([4.0, 1.0, 2.0, 3.0], (1.75, 3.25))]
)
def test_quartiles(values, expected):
    assert quartiles(values) == expected
