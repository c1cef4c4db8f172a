"""UNets at the edges: other libraries' patches, hooks and processors, containers, and timesteps that differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from denoisers import inputs, unet
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    PAGCFGIdentitySelfAttnProcessor2_0,
    SlicedAttnProcessor,
)

import turbo
from turbo.testing import AdapterCase

CASE = AdapterCase("unet", unet, inputs, name="unet", restores=True)
EVERYWHERE: dict[str, Any] = {
    "ratio": dict.fromkeys(("self_attention", "cross_attention", "feed_forward"), 0.5),
    "max_downsample": 2,
}


@pytest.mark.parametrize("processor", [AttnProcessor(), SlicedAttnProcessor(2), AttnProcessor2_0()])
def test_upcast_attention_takes_the_bias_in_its_own_type(processor: Any):
    model = unet(upcast_attention=True).to(torch.bfloat16)
    model.set_attn_processor(processor)
    turbo.accelerate(model, **EVERYWHERE)
    given = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in inputs(2).items()}
    assert CASE.run(model, given).dtype == torch.bfloat16


def test_a_patched_block_is_refused_by_its_name():
    model = unet()
    block = model.down_blocks[0].attentions[0].transformer_blocks[0]
    block.__class__ = type("ToMeBlock", (type(block),), {})
    with pytest.raises(turbo.TurboError, match="a class of its own, ToMeBlock"):
        turbo.accelerate(model)


def test_a_report_is_refused_under_hooks_and_the_model_stays_well():
    model = unet()
    untouched = CASE.run(model)
    add_hook_to_module(model.conv_in, ModelHook())
    turbo.accelerate(model, ratio=0.5)
    with pytest.raises(turbo.TurboError, match="hooks of another library"):
        turbo.report(model)
    assert torch.equal(CASE.run(turbo.restore(model)), untouched)


def test_restore_undoes_everything_in_a_container():
    both = torch.nn.ModuleList([unet(), unet()])
    for model in both:
        turbo.accelerate(model, ratio=0.5)
    with pytest.raises(turbo.TurboError, match="holds 2 accelerated models"):
        turbo.report(both)
    turbo.restore(both)
    assert not any("forward" in module.__dict__ for module in both.modules())


def test_one_timestep_for_all_where_it_decides():
    model = turbo.accelerate(unet(), ratio=lambda t: 0.5 if t > 300 else 0.25)
    with pytest.raises(turbo.TurboError, match=r"timesteps \[900, 10\] differ"):
        CASE.run(model, inputs(2) | {"timestep": torch.tensor([900, 10])})


def test_perturbed_attention_guidance_is_refused_where_tokens_merge():
    model = turbo.accelerate(unet(), ratio=0.5)
    model.down_blocks[0].attentions[0].transformer_blocks[0].attn1.set_processor(PAGCFGIdentitySelfAttnProcessor2_0())
    with pytest.raises(turbo.TurboError, match="perturbed-attention guidance"):
        CASE.run(model, inputs(3))
