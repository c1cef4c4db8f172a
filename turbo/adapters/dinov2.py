"""transformers' DINOv2, with and without registers: LayerScale, SwiGLU, stochastic depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Restore, Site
from turbo.adapters.dino_block import DinoBlock

_PLAIN = "transformers.models.dinov2.modeling_dinov2"
_REGISTERS = "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers"


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
        blocks: list[Site] = [DinoBlock(layer, protected=protected) for layer in tower.encoder.layer]
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
