"""Vision towers of transformers, alone and under a head."""

from __future__ import annotations

from family import BOTH, PATCH, Family, N
from transformers_models import VISION, composite, hf

DEIT = {"n": N + 1, "protected": 2}
MASKED = {"encoder_stride": PATCH}
REGISTERS = {"n": N + 4, "protected": 5}
PATCHES_ONLY = {"n": N - 1, "protected": 0}
NAFLEX_VISION = VISION | {"num_patches": N - 1}
NAFLEX = {"pixel_values": "patches", "pixel_attention_mask": "patch_mask", "spatial_shapes": "grid"}

TRANSFORMERS = [
    Family("vit", "vit", hf("ViTModel", "ViTConfig")),
    Family("vit-classifier", "vit", hf("ViTForImageClassification", "ViTConfig", num_labels=5)),
    Family("deit", "vit", hf("DeiTModel", "DeiTConfig"), **DEIT),
    Family("deit-teacher", "vit", hf("DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=5), **DEIT),
    Family("vit-masked-image", "vit", hf("ViTForMaskedImageModeling", "ViTConfig", **MASKED)),
    Family("deit-masked-image", "vit", hf("DeiTForMaskedImageModeling", "DeiTConfig", **MASKED), **DEIT),
    Family("dinov2", "dinov2", hf("Dinov2Model", "Dinov2Config", mlp_ratio=2)),
    Family(
        "dinov2-swiglu-classifier",
        "dinov2",
        hf("Dinov2ForImageClassification", "Dinov2Config", use_swiglu_ffn=True, num_labels=5),
    ),
    Family(
        "dinov2-registers",
        "dinov2",
        hf("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", mlp_ratio=2, num_register_tokens=4),
        **REGISTERS,
    ),
    Family(
        "dinov2-registers-classifier",
        "dinov2",
        hf("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", mlp_ratio=2, num_labels=5),
        **REGISTERS,
    ),
    Family("dinov3", "dinov3", hf("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=2), n=N + 2, protected=3),
    Family("dinov3-gated", "dinov3", hf("DINOv3ViTModel", "DINOv3ViTConfig", use_gated_mlp=True, key_bias=True)),
    Family("siglip-vision", "siglip", hf("SiglipVisionModel", "SiglipVisionConfig"), **PATCHES_ONLY),
    Family(
        "siglip-without-head",
        "siglip",
        hf("SiglipVisionModel", "SiglipVisionConfig", vision_use_head=False),
        lambda out: out.last_hidden_state,
        **PATCHES_ONLY,
    ),
    Family(
        "siglip",
        "siglip",
        composite("SiglipModel", "SiglipConfig"),
        lambda out: out.image_embeds,
        BOTH,
        **PATCHES_ONLY,
    ),
    Family(
        "siglip-classifier",
        "siglip",
        composite("SiglipForImageClassification", "SiglipConfig", num_labels=5),
        **PATCHES_ONLY,
    ),
    Family(
        "siglip-2-vision",
        "siglip",
        hf("Siglip2VisionModel", "Siglip2VisionConfig", **NAFLEX_VISION),
        arguments=NAFLEX,
        flags={"compiles": False},  # it resizes positions image by image, by numbers
        **PATCHES_ONLY,
    ),
    Family(
        "siglip-2-classifier",
        "siglip",
        composite("Siglip2ForImageClassification", "Siglip2Config", vision_config=NAFLEX_VISION, num_labels=5),
        arguments=NAFLEX,
        flags={"compiles": False},
        **PATCHES_ONLY,
    ),
]
