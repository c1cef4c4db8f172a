"""Every supported class as a small model with random weights, its inputs, and the output to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

IMAGE = 48
PATCH = 8
N = (IMAGE // PATCH) ** 2 + 1

VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": IMAGE,
    "patch_size": PATCH,
}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "vocab_size": 60,
    "max_position_embeddings": 24,
}
BLIP_TEXT = TEXT | {
    "encoder_hidden_size": 48,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "sep_token_id": 2,
}


@dataclass(frozen=True)
class Family:
    """A small model and how to run it.

    `n` counts the tokens that enter the first block; `output` runs the model's image path to a tensor whose shape
    does not depend on how many tokens are left.
    """

    name: str
    adapter: str
    build: Callable[[], torch.nn.Module]
    output: Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]
    n: int = N
    protected: int = 1

    def model(self, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        model = self.build().eval()
        # Initial weights leave CLS attention nearly uniform; louder ones make scores differ and errors visible.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "embed" not in name:
                    parameter.normal_(0, 0.15)
        return model

    def inputs(self, batch: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {
            "pixel_values": torch.randn(batch, 3, IMAGE, IMAGE, generator=generator),
            "input_ids": torch.randint(3, 60, (batch, 7), generator=generator),
        }


def _hf(name: str, config: str, **options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import transformers

        return getattr(transformers, name)(getattr(transformers, config)(**(VISION | options)))

    return build


def _clip(name: str) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import transformers

        config = transformers.CLIPConfig(
            text_config=TEXT | {"bos_token_id": 1, "eos_token_id": 2},
            vision_config=VISION,
            projection_dim=32,
            num_labels=5,
        )
        return getattr(transformers, name)(config)

    return build


def _blip(name: str) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import transformers

        config = transformers.BlipConfig(
            text_config=BLIP_TEXT, vision_config=VISION, projection_dim=32, image_text_hidden_size=32
        )
        return getattr(transformers, name)(config)

    return build


def _timm(**options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        from timm.models.vision_transformer import VisionTransformer

        settings = {
            "img_size": IMAGE,
            "patch_size": PATCH,
            "embed_dim": 48,
            "depth": 4,
            "num_heads": 3,
            "num_classes": 5,
        }
        return VisionTransformer(**(settings | options))

    return build


def _timm_distilled() -> torch.nn.Module:
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(
        img_size=IMAGE, patch_size=PATCH, embed_dim=48, depth=4, num_heads=3, num_classes=5
    )


def _open_clip_tower(**options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        from open_clip.transformer import VisionTransformer

        settings = {"image_size": IMAGE, "patch_size": PATCH, "width": 48, "layers": 4, "heads": 3, "mlp_ratio": 2.0}
        return VisionTransformer(**(settings | {"output_dim": 32} | options))

    return build


def _open_clip() -> torch.nn.Module:
    from open_clip.model import CLIP

    vision = {"image_size": IMAGE, "patch_size": PATCH, "width": 48, "layers": 4, "head_width": 16}
    text = {"context_length": 7, "vocab_size": 60, "width": 48, "heads": 3, "layers": 2}
    return CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)


def _pixels(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(inputs["pixel_values"])


def _logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(inputs["pixel_values"]).logits


def _pooled(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(inputs["pixel_values"]).pooler_output


def _both_logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]).logits_per_image


def _caption_logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(pixel_values=inputs["pixel_values"], input_ids=inputs["input_ids"]).logits


def _answer_logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    out = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"], labels=inputs["input_ids"])
    return torch.cat([out.image_embeds[:, 0].flatten(), out.loss[None]])


def _match_logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]).itm_score


FAMILIES = [
    Family("vit", "vit", _hf("ViTModel", "ViTConfig"), _pooled),
    Family("vit-classifier", "vit", _hf("ViTForImageClassification", "ViTConfig", num_labels=5), _logits),
    Family("deit", "vit", _hf("DeiTModel", "DeiTConfig"), _pooled, n=N + 1, protected=2),
    Family(
        "deit-teacher",
        "vit",
        _hf("DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=5),
        _logits,
        n=N + 1,
        protected=2,
    ),
    Family(
        "vit-masked-image",
        "vit",
        _hf("ViTForMaskedImageModeling", "ViTConfig", encoder_stride=PATCH),
        lambda model, inputs: model(inputs["pixel_values"]).reconstruction,
    ),
    Family(
        "deit-masked-image",
        "vit",
        _hf("DeiTForMaskedImageModeling", "DeiTConfig", encoder_stride=PATCH),
        lambda model, inputs: model(inputs["pixel_values"]).reconstruction,
        n=N + 1,
        protected=2,
    ),
    Family("dinov2", "dinov2", _hf("Dinov2Model", "Dinov2Config", mlp_ratio=2, layerscale_value=0.5), _pooled),
    Family(
        "dinov2-swiglu-classifier",
        "dinov2",
        _hf("Dinov2ForImageClassification", "Dinov2Config", use_swiglu_ffn=True, num_labels=5, layerscale_value=0.5),
        _logits,
    ),
    Family(
        "dinov2-registers",
        "dinov2",
        _hf("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", mlp_ratio=2, num_register_tokens=4),
        _pooled,
        n=N + 4,
        protected=5,
    ),
    Family(
        "dinov2-registers-classifier",
        "dinov2",
        _hf("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", mlp_ratio=2, num_labels=5),
        _logits,
        n=N + 4,
        protected=5,
    ),
    Family("timm", "timm", _timm(), _pixels),
    Family("timm-layer-scale", "timm", _timm(init_values=0.3), _pixels),
    Family("timm-qk-norm", "timm", _timm(qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True), _pixels),
    Family("timm-registers", "timm", _timm(reg_tokens=3), _pixels, n=N + 3, protected=4),
    Family("timm-no-class-avg", "timm", _timm(class_token=False, global_pool="avg"), _pixels, n=N - 1, protected=0),
    Family(
        "timm-no-class-avgmax", "timm", _timm(class_token=False, global_pool="avgmax"), _pixels, n=N - 1, protected=0
    ),
    Family("timm-attention-pool", "timm", _timm(class_token=False, global_pool="map"), _pixels, n=N - 1, protected=0),
    Family("timm-class-avg", "timm", _timm(global_pool="avg"), _pixels),
    Family("timm-distilled", "timm", _timm_distilled, _pixels, n=N + 1, protected=2),
    Family("clip-vision", "clip", _hf("CLIPVisionModel", "CLIPVisionConfig"), _pooled),
    Family("clip", "clip", _clip("CLIPModel"), _both_logits),
    Family(
        "clip-vision-projection",
        "clip",
        _hf("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=32),
        lambda model, inputs: model(inputs["pixel_values"]).image_embeds,
    ),
    Family("clip-classifier", "clip", _clip("CLIPForImageClassification"), _logits),
    Family(
        "open-clip",
        "open_clip",
        _open_clip,
        lambda model, inputs: torch.cat(model(inputs["pixel_values"], inputs["input_ids"])[:2]),
    ),
    Family("open-clip-tower", "open_clip", _open_clip_tower(ls_init_value=0.3), _pixels),
    Family("open-clip-avg", "open_clip", _open_clip_tower(pool_type="avg"), _pixels),
    Family(
        "open-clip-attention-pool",
        "open_clip",
        _open_clip_tower(attentional_pool=True, attn_pooler_queries=8, attn_pooler_heads=4),
        _pixels,
    ),
    Family(
        "open-clip-custom", "open_clip", _open_clip_tower(qk_norm=True, scale_attn_inner=True, scale_attn=True), _pixels
    ),
    Family("blip-vision", "blip", _hf("BlipVisionModel", "BlipVisionConfig"), _pooled),
    Family("blip", "blip", _blip("BlipModel"), _both_logits),
    Family("blip-captioner", "blip", _blip("BlipForConditionalGeneration"), _caption_logits),
    Family("blip-vqa", "blip", _blip("BlipForQuestionAnswering"), _answer_logits),
    Family("blip-retrieval", "blip", _blip("BlipForImageTextRetrieval"), _match_logits),
]


@cache
def family(name: str) -> Family:
    """A family by name."""
    return next(f for f in FAMILIES if f.name == name)
