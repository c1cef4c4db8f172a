"""timm's Eva: EVA, EVA02, DINOv3, the Perception Encoder; positions are added to the tokens, rotary, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Site, Unsupported
from turbo.adapters.eva_block import EvaBlock, RotaryEvaBlock
from turbo.adapters.timm_block import sites_around


class Eva(Adapter):
    """timm's Eva. Pools of patches get the full sequence back. Without a class token, sampled ones say what A is.

    Rotary positions are one for all heads and blocks; learned ones that differ ("mixed") are refused.
    """

    target = "timm.models.eva:Eva"

    def sites(self, model: Any) -> Sequence[Site]:
        if model.rope_mixed:
            raise Unsupported(
                f"{type(model.rope).__name__}: each head has places of its own, turbo knows one of a token"
            )
        for block in model.blocks:
            _require_plain(block)
        kind = EvaBlock if model.rope is None else RotaryEvaBlock
        prefix, class_token = model.num_prefix_tokens, model.cls_token is not None
        blocks = [kind(block, protected=prefix, class_token=class_token) for block in model.blocks]
        return sites_around(model, blocks)

    def shape(self, model: Any) -> tuple[int, int]:
        return model.patch_embed.num_patches + model.num_prefix_tokens, model.embed_dim

    def example(self) -> Example:
        from timm.models.eva import Eva as Model

        size = {"img_size": 48, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3, "num_classes": 5}
        options = {"init_values": 0.1, "use_rot_pos_emb": True}
        return Example(lambda: Model(**size, **options), lambda batch: {"x": torch.randn(batch, 3, 48, 48)})


def _require_plain(block: Any) -> None:
    """Refuse blocks whose arithmetic is another one: post-norm, gated, fewer keys than queries."""
    kind, attention = type(block).__name__, block.attn
    if kind != "EvaBlock" or type(attention).__name__ not in ("EvaAttention", "AttentionRope"):
        raise Unsupported(f"timm Eva block of class {kind} with attention {type(attention).__name__} is not supported")
    if attention.gate is not None:
        raise Unsupported("timm Eva attention with an output gate is not supported")
    if getattr(attention, "num_kv_groups", 1) != 1:
        raise Unsupported(f"timm Eva attention with {attention.num_kv_heads} key heads for {attention.num_heads}")
