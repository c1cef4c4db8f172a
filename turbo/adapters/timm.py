"""timm's VisionTransformer: plain, LayerScale, q/k norm, registers, distilled, with or without a class token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Site, Unsupported
from turbo.adapters.timm_block import TimmBlock, sites_around


class Timm(Adapter):
    """timm's VisionTransformer and VisionTransformerDistilled.

    Average, maximum and attention pooling read all patches, so there the full sequence is restored after the
    last norm. Without a class token A is the attention that tokens receive from sampled ones.
    """

    target = "timm.models.vision_transformer:VisionTransformer"

    def sites(self, model: Any) -> Sequence[Site]:
        for block in model.blocks:
            _require_plain(block)
        prefix, class_token = model.num_prefix_tokens, model.cls_token is not None
        blocks = [TimmBlock(block, protected=prefix, class_token=class_token) for block in model.blocks]
        return sites_around(model, blocks)

    def shape(self, model: Any) -> tuple[int, int]:
        return model.patch_embed.num_patches + model.num_prefix_tokens, model.embed_dim

    def example(self) -> Example:
        from timm.models.vision_transformer import VisionTransformer

        size = {"img_size": 48, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3, "num_classes": 5}
        options = {"init_values": 0.1, "qk_norm": True, "reg_tokens": 3, "global_pool": "avg"}
        return Example(lambda: VisionTransformer(**size, **options), lambda batch: {"x": torch.randn(batch, 3, 48, 48)})


def _require_plain(block: Any) -> None:
    """Refuse blocks whose arithmetic is not the pre-norm block's (parallel, post-norm, rotary, gated…)."""
    kind, attention = type(block).__name__, getattr(block, "attn", None)
    if kind != "Block" or type(attention).__name__ != "Attention":
        raise Unsupported(f"timm block of class {kind} with attention {type(attention).__name__} is not supported")
    if getattr(attention, "gate", None) is not None:
        raise Unsupported("timm attention with an output gate is not supported")
