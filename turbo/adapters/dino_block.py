"""The blocks of DINOv2 and DINOv3 in transformers, which differ in their positions."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor

from turbo.adapters.base import ResidualBlock, split_heads
from turbo.adapters.rotary import RotaryBlock

_DINOV3 = "transformers.models.dinov3_vit.modeling_dinov3_vit"


class DinoBlock(ResidualBlock):
    """Dinov2Layer and Dinov2WithRegistersLayer."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, x = self.module.attention, self.module.norm1(x)
        linears = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (split_heads(linear(x), self.heads()) for linear in linears)
        return q, k, v

    def project(self, y: Tensor) -> Tensor:
        block = self.module
        projected: Tensor = block.drop_path(block.layer_scale1(block.attention.o_proj(y)))
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        block = self.module
        output: Tensor = block.drop_path(block.layer_scale2(block.mlp(block.norm2(x))))
        return output

    def heads(self) -> int:
        """Attention heads."""
        return int(self.module.attention.num_attention_heads)

    def dropout(self) -> float:
        return float(self.module.attention.attention_dropout)


class RotaryDinoBlock(DinoBlock, RotaryBlock):
    """DINOv3ViTLayer."""

    argument = "position_embeddings"

    def __init__(self, module: Any, *, protected: int) -> None:
        super().__init__(module, protected=protected)
        self.apply = sys.modules[_DINOV3].apply_rotary_pos_emb

    def turns(self, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return given

    def given(self, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return cos, sin

    def rotate(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        rotated: tuple[Tensor, Tensor] = self.apply(q, k, cos, sin)
        return rotated

    def heads(self) -> int:
        return int(self.module.attention.num_heads)

    def dropout(self) -> float:
        return float(self.module.attention.dropout)
