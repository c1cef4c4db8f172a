"""open_clip's CLIP: its own vision transformer. A timm trunk inside open_clip is found by the timm adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo.adapters.base import Adapter, Example, Refuse, ResidualBlock, Restore, Site, Unsupported, split_qkv


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


class OpenCLIP(Adapter):
    """open_clip's VisionTransformer, alone or inside CLIP and CoCa.

    Average and attention pooling read all patches, so there the full sequence is restored first.
    """

    target = "open_clip.transformer:VisionTransformer"

    def sites(self, model: Any) -> Sequence[Site]:
        transformer = model.transformer
        if not getattr(transformer, "batch_first", True):
            raise Unsupported("open_clip transformer with batch_first=False: turbo needs b n d; use batch_first=True")
        sites: list[Site] = [_block(block) for block in transformer.resblocks]
        sites.append(Refuse(model, "forward_intermediates", "it folds each block's tokens into a grid of patches"))
        reads_patches = model.attn_pool is not None or model.pool_type == "avg"
        return [*sites, Restore(transformer)] if reads_patches else sites

    def shape(self, model: Any) -> tuple[int, int]:
        n, width = model.positional_embedding.shape
        return n, width

    def example(self) -> Example:
        from open_clip.transformer import VisionTransformer

        size = {"image_size": 48, "patch_size": 8, "width": 48, "layers": 4, "heads": 3, "output_dim": 32}
        options = {"mlp_ratio": 2.0, "ls_init_value": 0.1, "pool_type": "avg"}
        return Example(lambda: VisionTransformer(**size, **options), lambda batch: {"x": torch.randn(batch, 3, 48, 48)})


def _block(block: Any) -> ResidualBlock:
    kind = type(block).__name__
    if kind == "ResidualAttentionBlock":
        return OpenCLIPBlock(block)
    if kind == "CustomResidualAttentionBlock":
        if block.attn.logit_scale is not None or block.attn.head_scale is not None:
            raise Unsupported("open_clip block with scaled-cosine or head-scaled attention is not supported")
        return OpenCLIPCustomBlock(block)
    raise Unsupported(f"open_clip block of class {kind} is not supported")
