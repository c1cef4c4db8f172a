"""The block of BLIP's vision tower in transformers, and of BLIP-2's and InstructBLIP's."""

from __future__ import annotations

from torch import Tensor

from turbo.adapters.base import ResidualBlock, split_qkv


class BlipBlock(ResidualBlock):
    """BlipEncoderLayer, Blip2EncoderLayer, InstructBlipEncoderLayer and InstructBlipVideoEncoderLayer.

    BLIP computes softmax attention inline; under turbo it runs fused.
    """

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.module.self_attn
        return split_qkv(attention.qkv(self.module.layer_norm1(x)), attention.num_heads)

    def project(self, y: Tensor) -> Tensor:
        projected: Tensor = self.module.self_attn.projection(y)
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        output: Tensor = self.module.mlp(self.module.layer_norm2(x))
        return output

    def dropout(self) -> float:
        attention = self.module.self_attn  # BLIP has a module for it, the others a number
        return float(attention.dropout.p if hasattr(attention, "dropout") else attention.attention_dropout)
