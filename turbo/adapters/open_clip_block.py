"""The blocks of open_clip's vision transformer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from turbo.adapters.base import ResidualBlock, Unsupported, split_qkv


class OpenCLIPBlock(ResidualBlock):
    """ResidualAttentionBlock, whose attention is torch's nn.MultiheadAttention."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.module.attn
        qkv = F.linear(self.module.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
        return split_qkv(qkv, attention.num_heads)

    def project(self, y: Tensor) -> Tensor:
        projected: Tensor = self.module.ls_1(self.module.attn.out_proj(y))
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        output: Tensor = self.module.ls_2(self.module.mlp(self.module.ln_2(x)))
        return output

    def dropout(self) -> float:
        return float(self.module.attn.dropout)


class OpenCLIPCustomBlock(OpenCLIPBlock):
    """CustomResidualAttentionBlock: open_clip's own attention, with q/k norm and inner norms."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().qkv(x)
        return self.module.attn.ln_q(q), self.module.attn.ln_k(k), v

    def project(self, y: Tensor) -> Tensor:
        attention = self.module.attn
        y = attention.out_drop(attention.out_proj(attention.ln_inner(y)))
        projected: Tensor = self.module.ls_1(self.module.ln_attn(y))
        return projected

    def dropout(self) -> float:
        return float(self.module.attn.attn_drop.p)


def block_of(block: Any) -> ResidualBlock:
    """The description of a block, by its class.

    Raises:
        Unsupported: turbo knows no such block.
    """
    kind = type(block).__name__
    if kind == "ResidualAttentionBlock":
        return OpenCLIPBlock(block)
    if kind == "CustomResidualAttentionBlock":
        if block.attn.logit_scale is not None or block.attn.head_scale is not None:
            raise Unsupported("open_clip block with scaled-cosine or head-scaled attention is not supported")
        return OpenCLIPCustomBlock(block)
    raise Unsupported(f"open_clip block of class {kind} is not supported")
