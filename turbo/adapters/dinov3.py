"""transformers' DINOv3: rotary positions in every block, of patches alone; class and register tokens have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Site
from turbo.adapters.dino_block import RotaryDinoBlock


class DINOv3(Adapter):
    """transformers DINOv3ViTModel, alone or inside another model. A merged token is where its patches are on average.

    DINOv3ViTBackbone, whose feature maps are grids of patches, has another class and does not fit.
    """

    target = "transformers.models.dinov3_vit.modeling_dinov3_vit:DINOv3ViTModel"

    def sites(self, model: Any) -> Sequence[Site]:
        return [RotaryDinoBlock(layer, protected=1 + model.config.num_register_tokens) for layer in model.model.layer]

    def shape(self, model: Any) -> tuple[int, int]:
        rotary, config = model.rope_embeddings, model.config
        return rotary.num_patches_h * rotary.num_patches_w + 1 + config.num_register_tokens, config.hidden_size

    def example(self) -> Example:
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        size = {"image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = DINOv3ViTConfig(intermediate_size=96, num_register_tokens=2, **size)
        return Example(lambda: DINOv3ViTModel(config), lambda batch: {"pixel_values": torch.randn(batch, 3, 48, 48)})
