"""Errors about models that are known not to fit, and about variants that an adapter refuses."""

from __future__ import annotations

import importlib

import pytest
import torch
from families import family
from transformers_models import VISION

import turbo
from turbo.engine.misfits import MISFITS


@pytest.mark.parametrize("name", MISFITS)
def test_every_misfit_is_a_class_of_its_library(name):
    module, _, cls = name.partition(":")
    assert isinstance(getattr(importlib.import_module(module), cls), type)


@pytest.mark.parametrize(
    ("model", "config", "why"),
    [
        ("BeitForImageClassification", "BeitConfig", "BeitModel has a relative position bias"),
        ("DINOv3ViTBackbone", "DINOv3ViTConfig", "DINOv3ViTBackbone has feature maps of several layers"),
    ],
)
def test_a_known_misfit_is_named_with_its_reason(model, config, why):
    import transformers

    built = getattr(transformers, model)(getattr(transformers, config)(**VISION))
    with pytest.raises(turbo.TurboError, match=rf"no adapter fits .*{model}: {why}.*, and patches merge"):
        turbo.accelerate(built)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"use_rot_pos_emb": True, "rope_type": "mixed"}, "RotaryEmbeddingMixed: each head has places of its own"),
        ({"attn_type": "rope", "qkv_fused": False, "num_kv_heads": 1}, "1 key heads for 3"),
        ({"use_post_norm": True}, "EvaBlockPostNorm"),
    ],
)
def test_eva_variants_are_refused(options, why):
    from timm.models.eva import Eva

    model = Eva(img_size=48, patch_size=8, embed_dim=48, depth=2, num_heads=3, **options)
    with pytest.raises(turbo.TurboError, match=why):
        turbo.accelerate(model)


def test_padded_images_are_refused_and_whole_ones_are_not():
    one = family("siglip-2-vision")
    model, inputs = turbo.accelerate(one.model(), drop=4), one.inputs()
    one.output(model, inputs)
    inputs["patch_mask"][1, -6:] = 0
    with pytest.raises(turbo.TurboError, match="Siglip2EncoderLayer was called with attention_mask = a tensor"):
        one.output(model, inputs)
    one.output(turbo.restore(model), inputs)


def test_other_towers_of_llava_are_refused():
    import transformers

    text = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 3}
    vision = {"model_type": "pixtral", "image_size": 48, "patch_size": 8, **text}
    config = transformers.LlavaConfig(
        vision_config=vision, text_config={"model_type": "llama", **text, "vocab_size": 64}
    )
    with pytest.raises(turbo.TurboError, match="a vision tower of class PixtralVisionModel"):
        turbo.accelerate(transformers.LlavaForConditionalGeneration(config))


def test_the_clip_adapter_alone_leaves_a_language_model_too_few_tokens():
    """What LLaVA's adapter is for: transformers counts image tokens and places, and says that they differ."""
    one = family("llava")
    model = turbo.accelerate(one.model(), drop=4, adapter="clip")
    with pytest.raises(ValueError, match="Image features and image tokens do not match, tokens: 72, features"):
        one.output(model, one.inputs())


def test_a_prompt_with_as_many_places_as_merged_tokens_takes_them():
    """The other way: the tower's tokens stay merged, and so the language model reads fewer."""
    one = family("llava")
    model = turbo.accelerate(one.model(), drop=4, adapter="clip", destinations="ordered")
    inputs, left = one.inputs(), turbo.report(model).blocks[-2].tokens_out - 1
    inputs["prompt"] = inputs["prompt"][:, -left - 7 :]
    assert one.output(model, inputs).shape[1] == left + 7


@pytest.mark.parametrize("name", ["clipseg-inner-layers", "llava", "llava-several-layers"])
def test_tokens_merge_up_to_the_first_layer_that_is_read(name):
    model = turbo.accelerate(family(name).model(), speedup=1.3)
    merging = {"clipseg-inner-layers": 2, "llava": 3, "llava-several-layers": 2}[name]
    report = turbo.report(model)
    assert (len(report.blocks), report.layers) == (merging, 4)
    assert f"FLOPs of {merging} of the 4 blocks fall by 1.3" in str(report)


@pytest.mark.parametrize("name", ["vit", "clipseg", "llava-last-layer", "timm-eva02", "open-clip-coca", "blip"])
def test_where_tokens_merge_in_all_blocks_the_report_says_nothing_of_others(name):
    report = turbo.report(turbo.accelerate(family(name).model(), drop=4))
    assert report.layers == len(report.blocks) == 4
    assert "FLOPs of the blocks fall by" in str(report)


def test_a_query_image_and_a_condition_image_are_restored_each_by_itself():
    """CLIPSeg runs its tower twice where the condition is an image."""
    one = family("clipseg")
    model, images = one.model(), one.inputs()["pixel_values"]
    calls = {"pixel_values": images, "conditional_pixel_values": images.flip(0)}
    with torch.no_grad():
        wanted = model(**calls).logits
        turbo.accelerate(model, drop=4)
        fast = model(**calls).logits
        embeds = model.get_conditional_embeddings(batch_size=2, conditional_pixel_values=images.flip(0))
        again = model(pixel_values=images, conditional_embeddings=embeds).logits
    assert fast.shape == wanted.shape
    torch.testing.assert_close(fast, again)
