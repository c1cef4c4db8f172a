"""What must hold for every supported class."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from families import FAMILIES, Family
from families import family as find
from torch.utils._python_dispatch import TorchDispatchMode

import turbo
from turbo.engine.install import require_acceleration
from turbo.engine.trace import recording

DROP = 4
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


def run(family: Family, model, **inputs):
    with torch.no_grad():
        return family.output(model, family.inputs(**inputs))


@every_family
def test_drop_zero_and_restore_are_bit_exact(family: Family):
    model = family.model()
    attributes = {name: set(module.__dict__) for name, module in model.named_modules()}
    untouched = run(family, model)
    turbo.accelerate(model, drop=0)
    assert torch.equal(run(family, model), untouched)
    turbo.accelerate(model, drop=DROP)
    assert not torch.equal(run(family, model), untouched)
    turbo.restore(model)
    assert torch.equal(run(family, model), untouched)
    assert {name: set(module.__dict__) for name, module in model.named_modules()} == attributes


@every_family
def test_engine_with_nothing_to_merge_agrees_to_rounding(family: Family):
    model = family.model()
    untouched = run(family, model)
    with pytest.warns(turbo.TurboWarning, match="no block merges anything"):
        turbo.accelerate(model, drop=DROP, threshold=family.n + 1)
    torch.testing.assert_close(run(family, model), untouched, atol=1e-5, rtol=1e-5)


@every_family
def test_finds_its_adapter_and_counts_tokens(family: Family):
    model = turbo.accelerate(family.model(), drop=DROP)
    acceleration = require_acceleration(model)
    assert acceleration.adapter_name == family.adapter
    assert (acceleration.n, acceleration.protected) == (family.n, family.protected)
    with recording(model) as trace:
        run(family, model)
    assert acceleration.last_n == family.n
    assert [block.size.shape[1] for block in trace.blocks] == [family.n - DROP * (i + 1) for i in range(4)]
    assert [b.tokens_out for b in turbo.report(model).blocks] == [b.size.shape[1] for b in trace.blocks]


@every_family
def test_sizes_are_conserved_and_protected_tokens_stay(family: Family):
    model = turbo.accelerate(family.model(), drop=DROP)
    with recording(model) as trace:
        run(family, model)
    protected = torch.arange(family.protected).expand(2, -1)
    for block in trace.blocks:
        assert torch.equal(block.size.sum(dim=1), torch.full((2,), float(family.n)))
        assert torch.equal(block.assignment[:, : family.protected], protected)
        assert torch.equal(block.size[:, : family.protected], torch.ones_like(protected, dtype=torch.float32))


@every_family
def test_composition_of_the_block_is_upstreams(family: Family):
    """Duplicated nothing, merged nothing: a block run by the engine returns what the block itself returns."""
    model = family.model()
    turbo.accelerate(model, drop=0)
    for block in require_acceleration(model).blocks:
        x = torch.randn(2, family.n, 48)
        q, k, v = block.qkv(x)
        assert q.shape == k.shape == v.shape == (2, 3, family.n, 16)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=block.scale)
        half = x + block.project(y.transpose(1, 2).flatten(2))
        original = type(block.module).forward(
            block.module, x, *([None] if "CLIPEnc" in str(type(block.module)) else [])
        )
        torch.testing.assert_close(half + block.mlp(half), original, atol=1e-5, rtol=1e-5)


@every_family
def test_every_strategy_runs(family: Family):
    model = family.model()
    outputs = {}
    for strategy in turbo.list_strategies():
        outputs[strategy] = run(family, turbo.accelerate(model, strategy, drop=DROP))
        assert outputs[strategy].isfinite().all(), strategy
    assert not torch.equal(outputs["tome"], outputs["attention"])
    assert not torch.equal(outputs["tome"], outputs["random"])


@every_family
def test_batch_of_two_is_two_batches_of_one(family: Family):
    if family.name == "blip-vqa":
        pytest.skip("its output is a loss, averaged over the batch")
    model = turbo.accelerate(family.model(), drop=DROP)
    inputs = family.inputs(batch=2)
    with torch.no_grad():
        both = family.output(model, inputs)
        if family.name in ("clip", "blip"):
            first = family.output(model, {"pixel_values": inputs["pixel_values"][:1], "input_ids": inputs["input_ids"]})
        elif family.name == "open-clip":
            first = family.output(model, {k: v[:1] for k, v in inputs.items()})[:1]
        else:
            first = family.output(model, {k: v[:1] for k, v in inputs.items()})
    torch.testing.assert_close(both[:1], first, atol=1e-5, rtol=1e-5)


@every_family
def test_deepcopy_pickle_and_state_dict(family: Family):
    model = family.model()
    untouched, state = run(family, model), model.state_dict()
    turbo.accelerate(model, drop=DROP)
    fast = run(family, model)
    assert {k: v.data_ptr() for k, v in model.state_dict().items()} == {k: v.data_ptr() for k, v in state.items()}
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(run(family, twin), fast)
        turbo.restore(twin)
        assert torch.equal(run(family, twin), untouched)
        assert torch.equal(run(family, model), fast)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
    assert torch.equal(run(family, model), fast)


@every_family
def test_two_models_do_not_interfere(family: Family):
    model, twin = family.model(), family.model()
    untouched = run(family, twin)
    turbo.accelerate(model, drop=DROP)
    run(family, model)
    assert torch.equal(run(family, twin), untouched)


@every_family
def test_half_precision_keeps_its_type(family: Family):
    model = family.model().to(torch.bfloat16)
    inputs = family.inputs()
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    with torch.no_grad():
        wanted = family.output(model, inputs)
        with turbo.accelerated(model, drop=DROP), recording(model) as trace:
            found = family.output(model, inputs)
    assert found.dtype == wanted.dtype
    assert found.isfinite().all()
    assert trace.blocks[-1].size.dtype == torch.float32


@every_family
def test_gradients_flow(family: Family):
    model = turbo.accelerate(family.model(), drop=DROP)
    family.output(model, family.inputs()).float().square().mean().backward()
    for block in require_acceleration(model).blocks:
        gradients = [p.grad for p in block.module.parameters()]
        assert any(g is not None and g.abs().sum() > 0 for g in gradients)


class SquareMaps(TorchDispatchMode):
    """Remembers operations that return one number per pair of tokens and head."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.lengths, self.found, self.fused = {n - DROP * depth for depth in range(4)}, [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.fused += "_scaled_dot_product_flash_attention_for_cpu" in str(function)
        if isinstance(result, torch.Tensor) and result.ndim >= 3:
            *_, rows, columns = result.shape
            if rows == columns and rows in self.lengths:
                self.found.append((str(function), tuple(result.shape)))
        return result


@pytest.mark.parametrize("name", ["vit", "dinov2", "timm", "clip-vision", "open-clip-tower", "blip-vision"])
def test_attention_is_fused_and_no_map_is_made(name: str):
    family = find(name)
    model = turbo.accelerate(family.model(), drop=DROP)
    with SquareMaps(family.n) as accelerated:
        run(family, model)
    assert accelerated.fused == 4
    assert accelerated.found == []
    turbo.restore(model)
    with SquareMaps(family.n) as untouched:
        run(family, model)
    # BLIP computes its softmax inline: the check sees it.
    assert bool(untouched.found) == (name == "blip-vision")


COMPILED = ["vit", "dinov2-registers-classifier", "timm-no-class-avg", "clip-vision", "open-clip-avg", "blip-vision"]


@pytest.mark.parametrize("name", COMPILED)
def test_compiles_without_graph_breaks(name: str):
    """One class per adapter, with and without a restored output; Dynamo decides, so its own backend is enough."""
    family = find(name)
    model = turbo.accelerate(family.model(), drop=DROP)
    eager = run(family, model)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(run(family, compiled), eager, atol=1e-5, rtol=1e-5)
    assert require_acceleration(model).state.flow is None
    turbo.restore(model)
    torch.testing.assert_close(run(family, compiled), run(family, model), atol=1e-5, rtol=1e-5)


def test_no_warning_in_normal_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for family in FAMILIES[:3]:
            run(family, turbo.accelerate(family.model(), drop=DROP))
