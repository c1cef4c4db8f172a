"""What must hold for every supported class beyond the conformance kit (`test_conformance.py` runs that)."""

from __future__ import annotations

import warnings

import pytest
import torch
from families import FAMILIES, Family
from families import family as find
from torch.utils._python_dispatch import TorchDispatchMode

import turbo
from turbo.engine.install import require_acceleration

DROP = 4
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


def run(family: Family, model, **inputs):
    with torch.no_grad():
        return family.output(model, family.inputs(**inputs))


@every_family
def test_tokens_and_protected_tokens_are_the_known_ones(family: Family):
    acceleration = require_acceleration(turbo.accelerate(family.model(), drop=DROP))
    assert acceleration.adapter_name == family.adapter
    assert (acceleration.n, acceleration.protected) == (family.n, family.protected)
    assert {block.protected for block in acceleration.blocks} == {family.protected}


@every_family
def test_strategies_choose_other_tokens(family: Family):
    model = family.model()
    outputs = {name: run(family, turbo.accelerate(model, name, drop=DROP)) for name in ("tome", "attention", "random")}
    assert not torch.equal(outputs["tome"], outputs["attention"])
    assert not torch.equal(outputs["tome"], outputs["random"])


@every_family
def test_nothing_is_left_in_the_thread(family: Family):
    model = turbo.accelerate(family.model(), drop=DROP)
    run(family, model)
    assert require_acceleration(model).state.flow is None


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


def test_nothing_is_left_in_the_thread_by_compiled_code():
    family = find("open-clip-avg")
    model = turbo.accelerate(family.model(), drop=DROP)
    torch._dynamo.reset()
    run(family, torch.compile(model, fullgraph=True, backend="eager"))
    assert require_acceleration(model).state.flow is None


def test_no_warning_in_normal_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for family in FAMILIES[:3]:
            run(family, turbo.accelerate(family.model(), drop=DROP))
