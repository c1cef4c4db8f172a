"""Every supported vision tower as a small model with random weights, its inputs, and the output to compare.

UNets are in `denoisers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch

from turbo.testing import AdapterCase

IMAGE = 48
PATCH = 8
N = (IMAGE // PATCH) ** 2 + 1
IMAGE_TOKEN = 60
"""Of a language model's prompt: one for each patch, or for each token of a Q-Former."""

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
LLAMA = TEXT | {"model_type": "llama", "vocab_size": 64, "max_position_embeddings": 64}
OPT = {
    "model_type": "opt",
    "hidden_size": 48,
    "word_embed_proj_dim": 48,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}
Q_FORMER = TEXT | {"encoder_hidden_size": 48, "cross_attention_frequency": 1}
BLIP_TEXT = TEXT | {
    "encoder_hidden_size": 48,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "sep_token_id": 2,
}


@dataclass(frozen=True)
class Family:
    """A small model and how to run it: what the kit needs for a case, and what is known of it besides.

    `arguments` maps the forward's own keywords, in its order, to what `_images_and_text` makes; `n` counts the tokens
    that enter the first block. `flags` are fields of its AdapterCase.
    """

    name: str
    adapter: str
    build: Callable[[], torch.nn.Module]
    pick: Callable[[Any], torch.Tensor] | None = None
    arguments: Mapping[str, str] = field(default_factory=lambda: {"pixel_values": "pixel_values"})
    n: int = N
    protected: int = 1
    flags: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def case(self) -> AdapterCase:
        def inputs(batch: int) -> dict[str, torch.Tensor]:
            return self.named(_images_and_text(batch))

        known = {"name": self.name, "restores": False}
        return AdapterCase(self.adapter, self.build, inputs, self.pick, **known, **self.flags)

    def named(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the model's forward takes, by its own keywords."""
        return {keyword: inputs[source] for keyword, source in self.arguments.items()}

    def model(self, seed: int = 0) -> Any:
        return self.case.make_model(seed)

    def inputs(self, batch: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
        return _images_and_text(batch, torch.Generator().manual_seed(seed))

    def output(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.case.read(model(**self.named(inputs)))


def _images_and_text(batch: int, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
    images = torch.randn(batch, 3, IMAGE, IMAGE, generator=generator)
    text = torch.randint(3, 60, (batch, 7), generator=generator)
    sides = torch.tensor([IMAGE // PATCH, IMAGE // PATCH])
    return {
        "pixel_values": images,
        "input_ids": text,
        "prompt": torch.cat([torch.full((batch, N - 1), IMAGE_TOKEN), text], dim=1),
        "patches": torch.nn.functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2),
        "patch_mask": torch.ones(batch, N - 1, dtype=torch.long),
        "grid": sides.expand(batch, 2),
    }


def _hf(name: str, config: str, **options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import transformers

        return getattr(transformers, name)(getattr(transformers, config)(**(VISION | options)))

    return build


def _clip(name: str) -> Callable[[], torch.nn.Module]:
    return _composite(name, "CLIPConfig", projection_dim=32, num_labels=5)


def _blip(name: str) -> Callable[[], torch.nn.Module]:
    return _composite(name, "BlipConfig", text_config=BLIP_TEXT, projection_dim=32, image_text_hidden_size=32)


def _composite(name: str, config: str, **options: Any) -> Callable[[], torch.nn.Module]:
    """A model with a vision tower and a text model, by default a text tower of the same library."""

    def build() -> torch.nn.Module:
        import transformers

        configs = {"text_config": TEXT | {"bos_token_id": 1, "eos_token_id": 2}, "vision_config": VISION}
        return getattr(transformers, name)(getattr(transformers, config)(**(configs | options)))

    return build


def _llava(layer: int | list[int], **vision: Any) -> Callable[[], torch.nn.Module]:
    config = {"vision_config": {"model_type": "clip_vision_model"} | VISION | vision, "text_config": LLAMA}
    place = {"image_token_index": IMAGE_TOKEN, "image_seq_length": N - 1, "vision_feature_layer": layer}
    if vision:
        place["vision_feature_select_strategy"] = "full"
    return _composite("LlavaForConditionalGeneration", "LlavaConfig", **config, **place)


def _blip_2(name: str) -> Callable[[], torch.nn.Module]:
    reads = {"num_query_tokens": N - 1, "image_token_index": IMAGE_TOKEN}
    return _composite(name, "Blip2Config", text_config=OPT, qformer_config=Q_FORMER, **reads)


def _eva(**options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        from timm.models.eva import Eva

        size = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": 48, "depth": 4, "num_heads": 3, "num_classes": 5}
        return Eva(**size, **options)

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


def _detections(out: Any) -> torch.Tensor:
    return torch.cat([out.logits.flatten(1), out.pred_boxes.flatten(1)], dim=1)


def _answer(out: Any) -> torch.Tensor:
    """The image side, which reads the tower, and the decoder's loss, which reads all."""
    return torch.cat([out.image_embeds[:, 0].flatten(), out.loss[None]])


X = {"x": "pixel_values"}
BOTH = {"input_ids": "input_ids", "pixel_values": "pixel_values"}
DEIT = {"n": N + 1, "protected": 2}
NO_CLASS = {"n": N - 1, "protected": 0, "arguments": X}
MASKED = {"encoder_stride": PATCH}
REGISTERS = {"n": N + 4, "protected": 5}

PATCHES_ONLY = {"n": N - 1, "protected": 0}
NAFLEX_VISION = VISION | {"num_patches": N - 1}
NAFLEX = {"pixel_values": "patches", "pixel_attention_mask": "patch_mask", "spatial_shapes": "grid"}
PROMPT = {"input_ids": "prompt", "pixel_values": "pixel_values"}
DENSE = {"projection_dim": 48, "reduce_dim": 16, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}

CROSS_ATTENTION = {"counts_patches": False}
"""A text model attends to merged tokens, each once whatever its size; the adapter leaves them merged on purpose."""

FAMILIES = [
    Family("vit", "vit", _hf("ViTModel", "ViTConfig")),
    Family("vit-classifier", "vit", _hf("ViTForImageClassification", "ViTConfig", num_labels=5)),
    Family("deit", "vit", _hf("DeiTModel", "DeiTConfig"), **DEIT),
    Family("deit-teacher", "vit", _hf("DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=5), **DEIT),
    Family("vit-masked-image", "vit", _hf("ViTForMaskedImageModeling", "ViTConfig", **MASKED)),
    Family("deit-masked-image", "vit", _hf("DeiTForMaskedImageModeling", "DeiTConfig", **MASKED), **DEIT),
    Family("dinov2", "dinov2", _hf("Dinov2Model", "Dinov2Config", mlp_ratio=2)),
    Family(
        "dinov2-swiglu-classifier",
        "dinov2",
        _hf("Dinov2ForImageClassification", "Dinov2Config", use_swiglu_ffn=True, num_labels=5),
    ),
    Family(
        "dinov2-registers",
        "dinov2",
        _hf("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", mlp_ratio=2, num_register_tokens=4),
        **REGISTERS,
    ),
    Family(
        "dinov2-registers-classifier",
        "dinov2",
        _hf("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", mlp_ratio=2, num_labels=5),
        **REGISTERS,
    ),
    Family("timm", "timm", _timm(), arguments=X),
    Family("timm-layer-scale", "timm", _timm(init_values=0.3), arguments=X),
    Family("timm-qk-norm", "timm", _timm(qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True), arguments=X),
    Family("timm-registers", "timm", _timm(reg_tokens=3), arguments=X, n=N + 3, protected=4),
    Family("timm-no-class-avg", "timm", _timm(class_token=False, global_pool="avg"), **NO_CLASS),
    Family("timm-no-class-avgmax", "timm", _timm(class_token=False, global_pool="avgmax"), **NO_CLASS),
    Family("timm-attention-pool", "timm", _timm(class_token=False, global_pool="map"), **NO_CLASS),
    Family("timm-class-avg", "timm", _timm(global_pool="avg"), arguments=X),
    Family("timm-distilled", "timm", _timm_distilled, arguments=X, n=N + 1, protected=2),
    Family("clip-vision", "clip", _hf("CLIPVisionModel", "CLIPVisionConfig")),
    Family("clip", "clip", _clip("CLIPModel"), lambda out: out.image_embeds, BOTH),
    Family(
        "clip-vision-projection", "clip", _hf("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=32)
    ),
    Family("clip-classifier", "clip", _clip("CLIPForImageClassification")),
    Family(
        "open-clip",
        "open_clip",
        _open_clip,
        lambda out: torch.cat(out[:2], dim=1),
        {"image": "pixel_values", "text": "input_ids"},
    ),
    Family("open-clip-tower", "open_clip", _open_clip_tower(ls_init_value=0.3), arguments=X),
    Family("open-clip-avg", "open_clip", _open_clip_tower(pool_type="avg"), arguments=X),
    Family(
        "open-clip-attention-pool",
        "open_clip",
        _open_clip_tower(attentional_pool=True, attn_pooler_queries=8, attn_pooler_heads=4),
        arguments=X,
    ),
    Family(
        "open-clip-custom",
        "open_clip",
        _open_clip_tower(qk_norm=True, scale_attn_inner=True, scale_attn=True),
        arguments=X,
        flags={
            "expected_failures": {
                "check_own_checkpointing_gives_the_same_gradients": "open_clip 3.3 gives the block arguments that "
                "its forward does not take; the untouched model fails too"
            }
        },
    ),
    Family("blip-vision", "blip", _hf("BlipVisionModel", "BlipVisionConfig")),
    Family("blip", "blip", _blip("BlipModel"), lambda out: out.image_embeds, BOTH),
    Family(
        "blip-captioner",
        "blip",
        _blip("BlipForConditionalGeneration"),
        arguments={"pixel_values": "pixel_values", "input_ids": "input_ids"},
        flags=CROSS_ATTENTION,
    ),
    Family(
        "blip-vqa",
        "blip",
        _blip("BlipForQuestionAnswering"),
        _answer,
        BOTH | {"labels": "input_ids"},
        # labels come after three other arguments; the loss is a mean over the batch.
        flags={"positional": False, "independent_batch": False} | CROSS_ATTENTION,
    ),
    Family(
        "blip-retrieval",
        "blip",
        _blip("BlipForImageTextRetrieval"),
        lambda out: out.itm_score,
        BOTH,
        flags=CROSS_ATTENTION,
    ),
    Family("blip-2-vision", "blip", _hf("Blip2VisionModel", "Blip2VisionConfig")),
    Family("blip-2-retrieval", "blip", _blip_2("Blip2VisionModelWithProjection"), flags=CROSS_ATTENTION),
    Family(
        "blip-2",
        "blip",
        _blip_2("Blip2ForConditionalGeneration"),
        arguments={"pixel_values": "pixel_values", "input_ids": "prompt"},
        flags=CROSS_ATTENTION,
    ),
    Family("instructblip-vision", "blip", _hf("InstructBlipVisionModel", "InstructBlipVisionConfig")),
    Family("instructblipvideo-vision", "blip", _hf("InstructBlipVideoVisionModel", "InstructBlipVideoVisionConfig")),
    Family("siglip-vision", "siglip", _hf("SiglipVisionModel", "SiglipVisionConfig"), **PATCHES_ONLY),
    Family(
        "siglip-without-head",
        "siglip",
        _hf("SiglipVisionModel", "SiglipVisionConfig", vision_use_head=False),
        lambda out: out.last_hidden_state,
        **PATCHES_ONLY,
    ),
    Family(
        "siglip",
        "siglip",
        _composite("SiglipModel", "SiglipConfig"),
        lambda out: out.image_embeds,
        BOTH,
        **PATCHES_ONLY,
    ),
    Family(
        "siglip-classifier",
        "siglip",
        _composite("SiglipForImageClassification", "SiglipConfig", num_labels=5),
        **PATCHES_ONLY,
    ),
    Family(
        "siglip-2-vision",
        "siglip",
        _hf("Siglip2VisionModel", "Siglip2VisionConfig", **NAFLEX_VISION),
        arguments=NAFLEX,
        flags={"compiles": False},  # it resizes positions image by image, by numbers
        **PATCHES_ONLY,
    ),
    Family(
        "siglip-2-classifier",
        "siglip",
        _composite("Siglip2ForImageClassification", "Siglip2Config", vision_config=NAFLEX_VISION, num_labels=5),
        arguments=NAFLEX,
        flags={"compiles": False},
        **PATCHES_ONLY,
    ),
    Family(
        "owlvit",
        "owlvit",
        _composite("OwlViTForObjectDetection", "OwlViTConfig", projection_dim=48),
        _detections,
        BOTH,
    ),
    Family("owlvit-vision", "owlvit", _hf("OwlViTVisionModel", "OwlViTVisionConfig")),
    Family(
        "owlv2",
        "owlvit",
        _composite("Owlv2ForObjectDetection", "Owlv2Config", projection_dim=48),
        _detections,
        BOTH,
    ),
    Family("clipseg-vision", "clipseg", _hf("CLIPSegVisionModel", "CLIPSegVisionConfig")),
    Family(
        "clipseg",
        "clipseg",
        _composite("CLIPSegForImageSegmentation", "CLIPSegConfig", extract_layers=[3], **DENSE),
        arguments=BOTH,
    ),
    Family(
        "clipseg-inner-layers",
        "clipseg",
        _composite("CLIPSegForImageSegmentation", "CLIPSegConfig", extract_layers=[1, 2, 3], **DENSE),
        arguments=BOTH,
    ),
    Family("llava", "llava", _llava(-2), arguments=PROMPT),
    Family("llava-last-layer", "llava", _llava(-1), arguments=PROMPT),
    Family("llava-several-layers", "llava", _llava([-1, 2]), arguments=PROMPT),
    Family(
        "llava-siglip",
        "llava",
        _llava(-2, model_type="siglip_vision_model"),
        arguments=PROMPT,
        **PATCHES_ONLY,
    ),
    Family("timm-eva", "timm_eva", _eva(init_values=0.3), arguments=X),
    Family(
        "timm-eva-separate",
        "timm_eva",
        _eva(
            qkv_fused=False, qk_norm=True, scale_attn_inner=True, swiglu_mlp=True, scale_mlp=True, global_pool="token"
        ),
        arguments=X,
    ),
    Family("timm-eva-no-class", "timm_eva", _eva(class_token=False, qkv_bias=False), **NO_CLASS),
    Family(
        "timm-eva-attention-pool",
        "timm_eva",
        _eva(num_reg_tokens=2, global_pool="map"),
        arguments=X,
        n=N + 2,
        protected=3,
    ),
]


@cache
def family(name: str) -> Family:
    """A family by name."""
    return next(f for f in FAMILIES if f.name == name)
