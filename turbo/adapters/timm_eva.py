"""timm's Eva with absolute positions: EVA, also in EVA-CLIP. Rotary ones (EVA02, DINOv3, ...) are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo.adapters.base import Adapter, Example, Refuse, ResidualBlock, Restore, Site, Unsupported, split_heads


class EvaBlock(ResidualBlock):
    """timm's EvaBlock with its EvaAttention: fused or separate projections, no bias on keys."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, x = self.module.attn, self.module.norm1(x)
        if attention.qkv is None:
            parts = [linear(x) for linear in (attention.q_proj, attention.k_proj, attention.v_proj)]
        else:
            biases = (attention.q_bias, attention.k_bias, attention.v_bias)
            bias = None if attention.q_bias is None else torch.cat(biases)
            parts = list(F.linear(x, attention.qkv.weight, bias).chunk(3, dim=-1))
        q, k, v = (split_heads(part, attention.num_heads) for part in parts)
        return attention.q_norm(q), attention.k_norm(k), v

    def project(self, y: Tensor) -> Tensor:
        block, attention = self.module, self.module.attn
        return self._added(block.gamma_1, block.drop_path1, attention.proj_drop(attention.proj(attention.norm(y))))

    def mlp(self, x: Tensor) -> Tensor:
        block = self.module
        return self._added(block.gamma_2, block.drop_path2, block.mlp(block.norm2(x)))

    def dropout(self) -> float:
        return float(self.module.attn.attn_drop.p)

    @staticmethod
    def _added(gamma: Tensor | None, drop_path: Any, y: Tensor) -> Tensor:
        added: Tensor = drop_path(y if gamma is None else gamma * y)
        return added


class Eva(Adapter):
    """timm's Eva where its positions are added to the tokens. Pools of patches get the full sequence back."""

    target = "timm.models.eva:Eva"

    def sites(self, model: Any) -> Sequence[Site]:
        if model.rope is not None:
            raise Unsupported(f"{type(model.rope).__name__}: rotary positions are of one patch each, and patches merge")
        kinds = {(type(block).__name__, type(block.attn).__name__) for block in model.blocks}
        if kinds != {("EvaBlock", "EvaAttention")} or any(block.attn.gate is not None for block in model.blocks):
            raise Unsupported(f"timm Eva with {kinds}, gated or not: turbo knows EvaBlock with EvaAttention, no gate")
        prefix, class_token = model.num_prefix_tokens, model.cls_token is not None
        sites: list[Site] = [EvaBlock(block, protected=prefix, class_token=class_token) for block in model.blocks]
        sites.append(Refuse(model, "forward_intermediates", "it folds each block's tokens into a grid of patches"))
        reads_patches = model.attn_pool is not None or model.global_pool not in ("token", "")
        return [*sites, Restore(model.norm)] if reads_patches else sites

    def shape(self, model: Any) -> tuple[int, int]:
        return model.patch_embed.num_patches + model.num_prefix_tokens, model.embed_dim

    def example(self) -> Example:
        from timm.models.eva import Eva as Model

        size = {"img_size": 48, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3, "num_classes": 5}
        return Example(lambda: Model(init_values=0.1, **size), lambda batch: {"x": torch.randn(batch, 3, 48, 48)})
