"""Models of timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from family import IMAGE, PATCH, Family, N, X

DINOV3 = {
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "rope_type": "dinov3",
    "rope_rotate_half": True,
    "num_reg_tokens": 4,
    "init_values": 0.1,
    "qkv_bias": False,
    "global_pool": "token",
}
PERCEPTION = {
    "use_rot_pos_emb": True,
    "attn_type": "rope",
    "use_pre_transformer_norm": True,
    "rope_grid_offset": 1.0,
    "rope_grid_indexing": "xy",
    "ref_feat_shape": (6, 6),
    "global_pool": "map",
}
NO_CLASS = {"n": N - 1, "protected": 0, "arguments": X}


def timm(**options: Any) -> Callable[[], torch.nn.Module]:
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


def timm_distilled() -> torch.nn.Module:
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(
        img_size=IMAGE, patch_size=PATCH, embed_dim=48, depth=4, num_heads=3, num_classes=5
    )


def eva(**options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        from timm.models.eva import Eva

        size = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": 48, "depth": 4, "num_heads": 3, "num_classes": 5}
        return Eva(**size, **options)

    return build


TIMM = [
    Family("timm", "timm", timm(), arguments=X),
    Family("timm-layer-scale", "timm", timm(init_values=0.3), arguments=X),
    Family("timm-qk-norm", "timm", timm(qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True), arguments=X),
    Family("timm-registers", "timm", timm(reg_tokens=3), arguments=X, n=N + 3, protected=4),
    Family("timm-no-class-avg", "timm", timm(class_token=False, global_pool="avg"), **NO_CLASS),
    Family("timm-no-class-avgmax", "timm", timm(class_token=False, global_pool="avgmax"), **NO_CLASS),
    Family("timm-attention-pool", "timm", timm(class_token=False, global_pool="map"), **NO_CLASS),
    Family("timm-class-avg", "timm", timm(global_pool="avg"), arguments=X),
    Family("timm-distilled", "timm", timm_distilled, arguments=X, n=N + 1, protected=2),
    Family("timm-eva", "timm_eva", eva(init_values=0.3), arguments=X),
    Family(
        "timm-eva-separate",
        "timm_eva",
        eva(qkv_fused=False, qk_norm=True, scale_attn_inner=True, swiglu_mlp=True, scale_mlp=True, global_pool="token"),
        arguments=X,
    ),
    Family("timm-eva-no-class", "timm_eva", eva(class_token=False, qkv_bias=False), **NO_CLASS),
    Family(
        "timm-eva-attention-pool",
        "timm_eva",
        eva(num_reg_tokens=2, global_pool="map"),
        arguments=X,
        n=N + 2,
        protected=3,
    ),
    Family("timm-eva-rotary", "timm_eva", eva(use_rot_pos_emb=True, ref_feat_shape=(4, 4)), arguments=X),
    Family(
        "timm-eva02",
        "timm_eva",
        eva(use_rot_pos_emb=True, qkv_fused=False, swiglu_mlp=True, scale_mlp=True, dynamic_img_size=True),
        arguments=X,
    ),
    Family("timm-dinov3", "timm_eva", eva(**DINOV3), arguments=X, n=N + 4, protected=5),
    Family("timm-perception-encoder", "timm_eva", eva(**PERCEPTION), arguments=X),
    Family(
        "timm-eva-multimodal-positions",
        "timm_eva",
        eva(use_rot_pos_emb=True, rope_type="mrope", rope_mrope_section=(2, 3, 3), class_token=False),
        **NO_CLASS,
    ),
]
