"""Full-size official configurations that `turbo.models` does not list: random weights, one image.

Widths, heads, resolutions and poolers are the published ones. Towers of a gigabyte and more have fewer layers here, and
language models are shallow: their own layers are none of turbo's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import turbo
from turbo.engine.install import require_acceleration
from turbo.testing.outputs import pick_output

LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 32064,
}
OPT = {
    "model_type": "opt",
    "hidden_size": 64,
    "word_embed_proj_dim": 64,
    "ffn_dim": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 99,
}
CLIP_L14_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
GIANT = {"num_hidden_layers": 4, "initializer_range": 0.02}
"""The published range of weights, 1e-10, makes all patches alike."""


def images(side: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(1, 3, side, side)}


def words(length: int = 16) -> Tensor:
    return torch.randint(3, 999, (1, length))


def prompt(places: int) -> Tensor:
    return torch.cat([torch.full((1, places), 32000), words()], dim=1)


def siglip(side: int) -> tuple[Any, dict[str, Tensor]]:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return SiglipVisionModel(SiglipVisionConfig(image_size=side)), images(side)


def owlvit() -> tuple[Any, dict[str, Tensor]]:
    from transformers import OwlViTConfig, OwlViTForObjectDetection

    return OwlViTForObjectDetection(OwlViTConfig()), {"input_ids": words()} | images(768)


def clipseg() -> tuple[Any, dict[str, Tensor]]:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    config = CLIPSegConfig(vision_config={"patch_size": 16, "image_size": 224})
    return CLIPSegForImageSegmentation(config), {"input_ids": words()} | images(352)


def llava() -> tuple[Any, dict[str, Tensor]]:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(vision_config=CLIP_L14_336 | {"num_hidden_layers": 6}, text_config=LLAMA)
    return LlavaForConditionalGeneration(config), {"input_ids": prompt(576)} | images(336)


def llava_next() -> tuple[Any, dict[str, Tensor]]:
    """An image of two crops beside the whole one: 576 places, and 24 rows of 48 with a line break after each."""
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

    config = LlavaNextConfig(vision_config=CLIP_L14_336 | {"num_hidden_layers": 4}, text_config=LLAMA)
    sizes = {"pixel_values": torch.randn(1, 3, 3, 336, 336), "image_sizes": torch.tensor([[336, 672]])}
    return LlavaNextForConditionalGeneration(config), {"input_ids": prompt(576 + 24 * 49)} | sizes


def blip_2() -> tuple[Any, dict[str, Tensor]]:
    from transformers import Blip2Config, Blip2VisionModelWithProjection

    config = Blip2Config(text_config=OPT, vision_config=GIANT)
    return Blip2VisionModelWithProjection(config), images(224)


def instructblip() -> tuple[Any, dict[str, Tensor]]:
    from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration

    q_former = {"num_hidden_layers": 2, "vocab_size": 999}
    config = InstructBlipConfig(text_config=OPT, vision_config=GIANT, qformer_config=q_former, image_token_index=98)
    text = torch.cat([torch.full((1, config.num_query_tokens), 98), torch.randint(3, 98, (1, 8))], dim=1)
    ids = {"qformer_input_ids": words(), "input_ids": text}
    return InstructBlipForConditionalGeneration(config), images(224) | ids


def dinov3() -> tuple[Any, dict[str, Tensor]]:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    size = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_register_tokens": 4}
    return DINOv3ViTModel(DINOv3ViTConfig(image_size=224, **size)), images(224)


def from_timm(name: str, **options: Any) -> Callable[[], tuple[Any, dict[str, Tensor]]]:
    def build() -> tuple[Any, dict[str, Tensor]]:
        import timm

        model = timm.create_model(name, **options)
        return model, {"x": torch.randn(1, *model.default_cfg["input_size"])}

    return build


class Official(NamedTuple):
    """A configuration: tokens that enter, those that are protected, and how many blocks merge."""

    name: str
    build: Callable[[], tuple[Any, dict[str, Tensor]]]
    adapter: str
    n: int
    protected: int
    blocks: int
    output: str | None = None

    def __str__(self) -> str:
        return self.name


OFFICIAL = [
    Official("siglip-base-patch16-224", lambda: siglip(224), "siglip", 196, 0, 12),
    Official("siglip2-base-patch16-256", lambda: siglip(256), "siglip", 256, 0, 12),
    Official("owlvit-base-patch32", owlvit, "owlvit", 577, 1, 12, "pred_boxes"),
    Official("clipseg-rd64-refined", clipseg, "clipseg", 485, 1, 4),
    Official("llava-1.5", llava, "llava", 577, 1, 5),
    Official("llava-v1.6", llava_next, "llava", 577, 1, 3),
    Official("blip2", blip_2, "blip_2", 257, 1, 4),
    Official("instructblip", instructblip, "blip_2", 257, 1, 4),
    Official("dinov3-vitb16", dinov3, "dinov3", 201, 5, 12),
    Official("timm/vit_base_patch16_dinov3", from_timm("vit_base_patch16_dinov3"), "timm_eva", 261, 5, 12),
    Official("timm/eva02_base_patch16_clip_224", from_timm("eva02_base_patch16_clip_224"), "timm_eva", 197, 1, 12),
    Official("timm/eva_giant_patch14_224", from_timm("eva_giant_patch14_224", depth=4), "timm_eva", 257, 1, 4),
    Official("timm/vit_pe_core_base_patch16_224", from_timm("vit_pe_core_base_patch16_224"), "timm_eva", 197, 1, 12),
]


@pytest.mark.parametrize("official", OFFICIAL, ids=str)
@torch.inference_mode()
def test_official_configuration(official: Official):
    torch.manual_seed(0)
    with torch.inference_mode(False):
        model, inputs = official.build()
    model.eval()

    def run() -> Tensor:
        result = model(**inputs)
        return result[official.output] if official.output else pick_output(result, None, official.name)

    untouched = run()
    turbo.accelerate(model)  # the default amount
    fast, report = run(), turbo.report(model)
    acceleration = require_acceleration(model)
    assert (report.adapter, report.n, acceleration.protected) == (official.adapter, official.n, official.protected)
    assert len(report.blocks) == official.blocks
    assert report.blocks[-1].tokens_out == official.n - round(0.55 * official.n)
    assert fast.shape == untouched.shape
    assert fast.isfinite().all()
    assert not torch.equal(fast, untouched)
    turbo.restore(model)
    assert torch.equal(run(), untouched)


TOWERS = {
    # class, configuration, tokens, protected, blocks
    "siglip-so400m-patch14-384": (
        "Siglip",
        {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
        },
        (729, 0, 27),
    ),
    "blip2-opt": ("Blip2", {}, (257, 1, 39)),
    "instructblip": ("InstructBlip", {}, (257, 1, 39)),
    "clip-vit-large-patch14-336": (
        "CLIP",
        {k: v for k, v in CLIP_L14_336.items() if k != "model_type"} | {"num_hidden_layers": 24},
        (577, 1, 24),
    ),
    "dinov3-vit7b16": (
        "DINOv3ViT",
        {
            "hidden_size": 4096,
            "intermediate_size": 8192,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_register_tokens": 4,
            "use_gated_mlp": True,
        },
        (201, 5, 40),
    ),
}


@pytest.mark.parametrize("name", TOWERS)
@torch.inference_mode()
def test_official_towers_on_the_meta_device(name: str):
    """Every layer of the largest ones: shapes and FLOPs without their gigabytes of weights."""
    import transformers

    family, options, (n, protected, blocks) = TOWERS[name]
    kind = "Model" if family == "DINOv3ViT" else "VisionModel"
    with torch.device("meta"):
        config = getattr(transformers, family + kind.replace("Model", "Config"))(**options)
        model = turbo.accelerate(getattr(transformers, family + kind)(config).eval(), speedup=1.5)
        output = model(torch.empty(1, 3, config.image_size, config.image_size))
    report = turbo.report(model)
    acceleration = require_acceleration(model)
    assert (report.n, acceleration.protected, len(report.blocks)) == (n, protected, blocks)
    assert report.achieved == pytest.approx(1.5, abs=0.02)
    left = n if family == "Siglip" else report.blocks[-1].tokens_out
    assert output.last_hidden_state.shape == (1, left, config.hidden_size)


@torch.inference_mode()
def test_coca_large_on_the_meta_device():
    import open_clip
    from open_clip.coca_model import CoCa

    config = open_clip.get_model_config("coca_ViT-L-14")
    del config["custom_text"]  # says which class it is
    with torch.device("meta"):
        model = turbo.accelerate(CoCa(**config).eval())
        outputs = model(torch.empty(2, 3, 224, 224), torch.zeros(2, 76, dtype=torch.long))
    assert {name: tuple(outputs[name].shape) for name in ("image_features", "logits")} == {
        "image_features": (2, 768),
        "logits": (2, 75, 49408),
    }
    report = turbo.report(model)
    assert (report.n, len(report.blocks), report.blocks[-1].tokens_out) == (257, 24, 257 - round(0.55 * 257))
