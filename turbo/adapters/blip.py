"""transformers' BLIP, BLIP-2 and InstructBLIP: the vision tower of captioners, question answerers and retrievers.

BLIP computes softmax attention inline; under turbo it runs fused. The text side, or a Q-Former, reads fewer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Adapter, Example, ResidualBlock, Site, split_qkv

_MODELS = "transformers.models"


class BlipBlock(ResidualBlock):
    """BlipEncoderLayer, Blip2EncoderLayer, InstructBlipEncoderLayer and InstructBlipVideoEncoderLayer."""

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


class Blip(Adapter):
    """transformers BlipVisionModel, Blip2VisionModel and InstructBLIP's, found inside every model of these families."""

    target = (
        f"{_MODELS}.blip.modeling_blip:BlipVisionModel",
        f"{_MODELS}.blip_2.modeling_blip_2:Blip2VisionModel",
        f"{_MODELS}.instructblip.modeling_instructblip:InstructBlipVisionModel",
        f"{_MODELS}.instructblipvideo.modeling_instructblipvideo:InstructBlipVideoVisionModel",
    )

    def sites(self, model: Any) -> Sequence[Site]:
        return [BlipBlock(layer) for layer in model.encoder.layers]

    def shape(self, model: Any) -> tuple[int, int]:
        return model.embeddings.num_positions, model.embeddings.embed_dim

    def example(self) -> Example:
        from transformers import BlipVisionConfig, BlipVisionModel

        size = {"image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = BlipVisionConfig(intermediate_size=96, **size)
        return Example(lambda: BlipVisionModel(config), lambda batch: {"pixel_values": torch.randn(batch, 3, 48, 48)})
