"""The block of timm's VisionTransformer, and what is around the blocks in this class and in Eva."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from turbo.adapters.base import Refuse, ResidualBlock, Restore, Site, split_qkv


class TimmBlock(ResidualBlock):
    """timm's Block with its Attention."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.module.attn
        q, k, v = split_qkv(attention.qkv(self.module.norm1(x)), attention.num_heads)
        return attention.q_norm(q), attention.k_norm(k), v

    def project(self, y: Tensor) -> Tensor:
        block, attention = self.module, self.module.attn
        projected: Tensor = block.drop_path1(block.ls1(attention.proj_drop(attention.proj(attention.norm(y)))))
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        block = self.module
        output: Tensor = block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output

    def dropout(self) -> float:
        return float(self.module.attn.attn_drop.p)


def sites_around(model: Any, blocks: Sequence[ResidualBlock]) -> list[Site]:
    """The blocks, what cannot work on merged tokens, and where the head reads all patches what restores them."""
    refuse = Refuse(model, "forward_intermediates", "it folds each block's tokens into a grid of patches")
    reads_patches = model.attn_pool is not None or model.global_pool not in ("token", "")
    return [*blocks, refuse, *([Restore(model.norm)] if reads_patches else [])]
