"""The blocks of timm's Eva: EVA, EVA02 and what is built like them, with rotary positions or without."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo.adapters.base import ResidualBlock, split_heads
from turbo.adapters.rotary import RotaryBlock


class EvaBlock(ResidualBlock):
    """EvaBlock with EvaAttention or AttentionRope: fused or separate projections, with or without a bias on keys."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, x = self.module.attn, self.module.norm1(x)
        if attention.qkv is None:
            parts = [linear(x) for linear in (attention.q_proj, attention.k_proj, attention.v_proj)]
        elif getattr(attention, "q_bias", None) is None:
            parts = list(attention.qkv(x).chunk(3, dim=-1))
        else:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
            parts = list(F.linear(x, attention.qkv.weight, bias).chunk(3, dim=-1))
        q, k, v = (split_heads(part, attention.num_heads) for part in parts)
        return attention.q_norm(q), attention.k_norm(k), v

    def project(self, y: Tensor) -> Tensor:
        block, attention = self.module, self.module.attn
        return _added(block.gamma_1, block.drop_path1, attention.proj_drop(attention.proj(attention.norm(y))))

    def mlp(self, x: Tensor) -> Tensor:
        block = self.module
        return _added(block.gamma_2, block.drop_path2, block.mlp(block.norm2(x)))

    def dropout(self) -> float:
        return float(self.module.attn.attn_drop.p)


class RotaryEvaBlock(EvaBlock, RotaryBlock):
    """An EvaBlock that gets rotary positions, one for all heads."""

    argument = "rope"

    def __init__(self, module: Any, *, protected: int, class_token: bool) -> None:
        super().__init__(module, protected=protected, class_token=class_token)
        self.apply = sys.modules["timm.models.eva"].apply_rot_embed_cat

    def turns(self, given: Tensor) -> tuple[Tensor, Tensor]:
        sin, cos = given.chunk(2, dim=-1)
        return cos, sin

    def given(self, cos: Tensor, sin: Tensor) -> Tensor:
        return torch.cat([sin, cos], dim=-1)

    def rotate(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        given, half = self.given(cos, sin), self.module.attn.rotate_half
        return self.apply(q, given, half=half), self.apply(k, given, half=half)


def _added(gamma: Tensor | None, drop_path: Any, y: Tensor) -> Tensor:
    added: Tensor = drop_path(y if gamma is None else gamma * y)
    return added
