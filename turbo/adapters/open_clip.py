"""open_clip's CLIP: its own vision transformer. A timm trunk inside open_clip is found by the timm adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Refuse, Restore, Site, Unsupported
from turbo.adapters.open_clip_block import block_of


class OpenCLIP(Adapter):
    """open_clip's VisionTransformer, alone or inside CLIP and CoCa.

    Average and attention pooling read all patches, so there the full sequence is restored first.
    """

    target = "open_clip.transformer:VisionTransformer"

    def sites(self, model: Any) -> Sequence[Site]:
        transformer = model.transformer
        if not getattr(transformer, "batch_first", True):
            raise Unsupported("open_clip transformer with batch_first=False: turbo needs b n d; use batch_first=True")
        sites: list[Site] = [block_of(block) for block in transformer.resblocks]
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
