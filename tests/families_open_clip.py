"""Models of open_clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from family import IMAGE, PATCH, Family, X


def open_clip_tower(**options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        from open_clip.transformer import VisionTransformer

        settings = {"image_size": IMAGE, "patch_size": PATCH, "width": 48, "layers": 4, "heads": 3, "mlp_ratio": 2.0}
        return VisionTransformer(**(settings | {"output_dim": 32} | options))

    return build


def open_clip() -> torch.nn.Module:
    from open_clip.model import CLIP

    vision = {"image_size": IMAGE, "patch_size": PATCH, "width": 48, "layers": 4, "head_width": 16}
    text = {"context_length": 7, "vocab_size": 60, "width": 48, "heads": 3, "layers": 2}
    return CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)


def coca() -> torch.nn.Module:
    from open_clip.coca_model import CoCa

    text = {"context_length": 7, "vocab_size": 60, "width": 48, "heads": 3, "layers": 2}
    pool = {"attentional_pool": True, "attn_pooler_queries": 8, "attn_pooler_heads": 3, "output_tokens": True}
    vision = {"image_size": IMAGE, "patch_size": PATCH, "width": 48, "layers": 4, "head_width": 16, **pool}
    tower = text | {"embed_cls": True, "output_tokens": True}
    return CoCa(embed_dim=48, vision_cfg=vision, text_cfg=tower, multimodal_cfg=text)


def _image_and_captions(out: Any) -> torch.Tensor:
    return torch.cat([out["image_features"], out["logits"].flatten(1)], dim=1)


OPEN_CLIP = [
    Family(
        "open-clip",
        "open_clip",
        open_clip,
        lambda out: torch.cat(out[:2], dim=1),
        {"image": "pixel_values", "text": "input_ids"},
    ),
    Family("open-clip-coca", "open_clip", coca, _image_and_captions, {"image": "pixel_values", "text": "input_ids"}),
    Family("open-clip-tower", "open_clip", open_clip_tower(ls_init_value=0.3), arguments=X),
    Family("open-clip-avg", "open_clip", open_clip_tower(pool_type="avg"), arguments=X),
    Family(
        "open-clip-attention-pool",
        "open_clip",
        open_clip_tower(attentional_pool=True, attn_pooler_queries=8, attn_pooler_heads=4),
        arguments=X,
    ),
    Family(
        "open-clip-custom",
        "open_clip",
        open_clip_tower(qk_norm=True, scale_attn_inner=True, scale_attn=True),
        arguments=X,
        flags={
            "expected_failures": {
                "check_own_checkpointing_gives_the_same_gradients": "open_clip 3.3 gives the block arguments that "
                "its forward does not take; the untouched model fails too"
            }
        },
    ),
]
