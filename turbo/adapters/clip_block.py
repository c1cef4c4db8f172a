"""The block of CLIP in transformers, and of the families written after it: SigLIP, CLIPSeg, OWL-ViT, LLaVA's towers."""

from __future__ import annotations

from torch import Tensor

from turbo.adapters.base import ResidualBlock, split_heads


class CLIPBlock(ResidualBlock):
    """CLIPEncoderLayer, and layers with its parts: two norms, an attention with four projections, an MLP."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, x = self.module.self_attn, self.module.layer_norm1(x)
        heads = attention.num_heads
        q, k, v = (split_heads(linear(x), heads) for linear in (attention.q_proj, attention.k_proj, attention.v_proj))
        return q, k, v

    def project(self, y: Tensor) -> Tensor:
        projected: Tensor = self.module.self_attn.out_proj(y)
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        output: Tensor = self.module.mlp(self.module.layer_norm2(x))
        return output

    def dropout(self) -> float:
        return float(self.module.self_attn.dropout)
