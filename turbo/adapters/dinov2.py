"""transformers' DINOv2, with and without registers: LayerScale, SwiGLU, stochastic depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Adapter, Example, ResidualBlock, Restore, Site, split_heads

_PLAIN = "transformers.models.dinov2.modeling_dinov2"
_REGISTERS = "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers"


class Dinov2Block(ResidualBlock):
    """Dinov2Layer and Dinov2WithRegistersLayer."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, x = self.module.attention, self.module.norm1(x)
        heads = attention.num_attention_heads
        q, k, v = (split_heads(linear(x), heads) for linear in (attention.q_proj, attention.k_proj, attention.v_proj))
        return q, k, v

    def project(self, y: Tensor) -> Tensor:
        block = self.module
        projected: Tensor = block.drop_path(block.layer_scale1(block.attention.o_proj(y)))
        return projected

    def mlp(self, x: Tensor) -> Tensor:
        block = self.module
        output: Tensor = block.drop_path(block.layer_scale2(block.mlp(block.norm2(x))))
        return output

    def dropout(self) -> float:
        return float(self.module.attention.attention_dropout)


class Dinov2(Adapter):
    """transformers Dinov2Model and Dinov2WithRegistersModel, alone or under an image classifier.

    The classifier averages over patches, so there the full sequence is restored first.
    """

    target = (
        f"{_PLAIN}:Dinov2Model",
        f"{_PLAIN}:Dinov2ForImageClassification",
        f"{_REGISTERS}:Dinov2WithRegistersModel",
        f"{_REGISTERS}:Dinov2WithRegistersForImageClassification",
    )

    def sites(self, model: Any) -> Sequence[Site]:
        tower = model.base_model
        protected = 1 + getattr(tower.config, "num_register_tokens", 0)
        blocks: list[Site] = [Dinov2Block(layer, protected=protected) for layer in tower.encoder.layer]
        return blocks if tower is model else [*blocks, Restore(tower.layernorm)]

    def shape(self, model: Any) -> tuple[int, int]:
        tower = model.base_model
        _, n, width = tower.embeddings.position_embeddings.shape
        return n + getattr(tower.config, "num_register_tokens", 0), width

    def example(self) -> Example:
        from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersForImageClassification

        size = {"image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = Dinov2WithRegistersConfig(mlp_ratio=2, **size)
        return Example(
            lambda: Dinov2WithRegistersForImageClassification(config),
            lambda batch: {"pixel_values": torch.randn(batch, 3, 48, 48)},
        )
