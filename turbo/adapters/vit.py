"""transformers' ViT and DeiT: a class token, and DeiT's distillation token, both protected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Adapter, Example, ResidualBlock, Restore, Site, split_heads

_VIT, _DEIT = "transformers.models.vit.modeling_vit", "transformers.models.deit.modeling_deit"


class ViTBlock(ResidualBlock):
    """ViTLayer and DeiTLayer."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, x = self.module.attention, self.module.layernorm_before(x)
        heads = attention.num_attention_heads
        q, k, v = (split_heads(linear(x), heads) for linear in (attention.q_proj, attention.k_proj, attention.v_proj))
        return q, k, v

    def project(self, y: Tensor) -> Tensor:
        projected: Tensor = self.module.dropout(self.module.attention.o_proj(y))
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        output: Tensor = self.module.dropout(self.module.mlp(self.module.layernorm_after(x)))
        return output

    def dropout(self) -> float:
        return float(self.module.attention.attention_dropout)


class ViT(Adapter):
    """transformers ViTModel and DeiTModel, alone or in a model with a head.

    Masked image modelling reads a dense grid, so it gets its full sequence back.
    """

    target = (
        f"{_VIT}:ViTModel",
        f"{_VIT}:ViTForMaskedImageModeling",
        f"{_DEIT}:DeiTModel",
        f"{_DEIT}:DeiTForMaskedImageModeling",
    )

    def sites(self, model: Any) -> Sequence[Site]:
        dense, tower = _tower(model)
        protected = 2 if hasattr(tower.embeddings, "distillation_token") else 1
        blocks: list[Site] = [ViTBlock(layer, protected=protected) for layer in tower.layers]
        return [*blocks, Restore(tower.layernorm)] if dense else blocks

    def shape(self, model: Any) -> tuple[int, int]:
        _, tower = _tower(model)
        _, n, width = tower.embeddings.position_embeddings.shape
        return n, width

    def example(self) -> Example:
        from transformers import ViTConfig, ViTForImageClassification

        size = {"image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = ViTConfig(intermediate_size=96, **size)
        return Example(
            lambda: ViTForImageClassification(config), lambda batch: {"pixel_values": torch.randn(batch, 3, 48, 48)}
        )


def _tower(model: Any) -> tuple[bool, Any]:
    """Whether the model reads a dense grid, and its ViTModel or DeiTModel."""
    tower = getattr(model, "vit", None) or getattr(model, "deit", None)
    return tower is not None, tower or model
