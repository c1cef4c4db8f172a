"""The block of timm's VisionTransformer."""

from __future__ import annotations

from torch import Tensor

from turbo.adapters.base import ResidualBlock, split_qkv


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
