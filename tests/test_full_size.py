"""Full-size official configurations with random weights: structure, exactness, and the tokens that arrive."""

from __future__ import annotations

import pytest
import torch

import turbo
from turbo.denoisers import build_unet
from turbo.engine.install import require_acceleration
from turbo.models import load_model

# name, tokens, protected, blocks
OFFICIAL = [
    ("random:vit-b16-224", 197, 1, 12),
    ("random:vit-b16-384", 577, 1, 12),
    ("random:deit-b16-224", 198, 2, 12),
    ("random:dinov2-reg-b14-518", 1374, 5, 12),
    ("random:clip-b32-224", 50, 1, 12),
    ("random:clip-l14-336", 577, 1, 24),
    ("random:blip-base-384", 577, 1, 12),
    ("random:blip-vqa-base-384", 577, 1, 12),
    ("random:blip-itm-base-384", 577, 1, 12),
    ("random:timm/vit_base_patch16_224", 197, 1, 12),
    ("random:timm/vit_small_patch14_reg4_dinov2", 1374, 5, 12),
    ("random:timm/deit3_small_patch16_224", 197, 1, 12),
    ("random:timm/deit_base_distilled_patch16_224", 198, 2, 12),
    ("random:timm/vit_base_patch16_siglip_224", 196, 0, 12),
    ("random:open_clip/ViT-B-16", 197, 1, 12),
    ("random:open_clip/coca_ViT-B-32", 50, 1, 12),
]


def tensor(output: object) -> torch.Tensor:
    """The one tensor of an output whose shape does not depend on how many tokens are left."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple):
        return output[0]
    return next(t for name in ("logits", "pooler_output") if (t := getattr(output, name, None)) is not None)


@pytest.mark.parametrize(("name", "n", "protected", "blocks"), OFFICIAL, ids=[row[0] for row in OFFICIAL])
@torch.inference_mode()
def test_official_configuration(name: str, n: int, protected: int, blocks: int):
    loaded = load_model(name)
    images = loaded.example(batch=1)
    untouched = tensor(loaded.images(images))
    turbo.accelerate(loaded.model)  # the default amount
    acceleration = require_acceleration(loaded.model)
    assert (acceleration.n, acceleration.protected, len(acceleration.blocks)) == (n, protected, blocks)
    fast = tensor(loaded.images(images))
    assert acceleration.last_n == n
    assert fast.shape == untouched.shape
    assert fast.isfinite().all()
    assert not torch.equal(fast, untouched)
    report = turbo.report(loaded.model)
    assert report.blocks[-1].tokens_out == n - round(0.55 * n)
    assert 1.5 < report.achieved < 1.75
    turbo.restore(loaded.model)
    assert torch.equal(tensor(loaded.images(images)), untouched)


@torch.inference_mode()
def test_engine_with_nothing_to_merge_agrees_at_full_size():
    for name in ("random:vit-b16-224", "random:blip-base-384"):
        loaded = load_model(name)
        images = loaded.example(batch=1)
        untouched = tensor(loaded.images(images))
        with pytest.warns(turbo.TurboWarning, match="no block merges"):
            turbo.accelerate(loaded.model, drop=13, threshold=1000)
        torch.testing.assert_close(tensor(loaded.images(images)), untouched, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_blip_base_captions_with_beams():
    loaded = load_model("random:blip-base-384")
    images = loaded.example(batch=1)
    options = {"num_beams": 3, "max_new_tokens": 3, "do_sample": False}
    untouched = loaded.model.generate(pixel_values=images, **options)
    turbo.accelerate(loaded.model, drop=30)
    captions = loaded.model.generate(pixel_values=images, **options)
    assert captions.shape[0] == 1
    assert loaded.model.vision_model(images).last_hidden_state.shape[1] == 577 - 12 * 30
    turbo.restore(loaded.model)
    assert torch.equal(loaded.model.generate(pixel_values=images, **options), untouched)


UNETS = {
    # official name; blocks by downsample; heads, their width and tokens of the finest ones
    "sd1": ("sd15-unet", {1: 5, 2: 5, 4: 5, 8: 1}, (8, 40), 4096),
    "sdxl": ("sdxl-unet", {2: 2 * 2 + 3 * 2, 4: 2 * 10 + 3 * 10 + 10}, (10, 64), 4096),
    "sdxl-refiner": ("sdxl-refiner-unet", {2: 5 * 4, 4: 5 * 4, 8: 4}, (12, 64), 4096),
}


@pytest.mark.parametrize("name", UNETS)
def test_official_unets_on_the_meta_device(name: str):
    """Blocks, resolutions and heads, found without gigabytes of weights; and the tokens that arrive there."""
    from turbo.adapters.unet import UNet

    official, blocks, (heads, width), tokens = UNETS[name]
    model = build_unet(official, "meta")
    turbo.accelerate(model, ratio={"self_attention": 0.5}, max_downsample=8)
    generation = require_acceleration(model)
    found = [block.downsample for block in generation.blocks]
    assert {step: found.count(step) for step in sorted(set(found))} == blocks
    assert len(found) == {"sd1": 16, "sdxl": 70, "sdxl-refiner": 44}[name]
    finest = next(block for block in generation.blocks if block.downsample == min(blocks))
    assert finest.heads == heads
    assert finest.keys().out_features == heads * width
    assert generation.adapter_name == "unet"
    assert UNet().shape(model) == (tokens, width * heads)
    if name == "sd1":  # counting takes seconds
        report = turbo.report(model)
        rows = [row for row in report.parts if row.part == "self_attention"]
        assert {row.downsample: row.blocks for row in rows} == blocks
        assert {row.downsample: row.tokens_in for row in rows} == {1: 4096, 2: 1024, 4: 256, 8: 64}
        assert all(row.tokens_run * 2 == row.tokens_in for row in rows)
        assert report.achieved > 1.05


@torch.inference_mode()
def test_dinov2_giant_on_the_meta_device():
    """SwiGLU at its real size: shapes and FLOPs without its 4.5 GB of weights."""
    from transformers import Dinov2Config, Dinov2Model

    with torch.device("meta"):
        config = Dinov2Config(
            hidden_size=1536,
            num_hidden_layers=40,
            num_attention_heads=24,
            use_swiglu_ffn=True,
            image_size=518,
            patch_size=14,
        )
        model = turbo.accelerate(Dinov2Model(config).eval(), speedup=1.8)
        output = model(torch.empty(1, 3, 518, 518))
    report = turbo.report(model)
    assert report.n == 1370
    assert output.last_hidden_state.shape == (1, report.blocks[-1].tokens_out, 1536)
    assert report.achieved == pytest.approx(1.8, abs=0.02)
