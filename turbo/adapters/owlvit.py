"""transformers' OWL-ViT and OWLv2: a CLIP tower, and boxes and classes read off every patch in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Adapter, Example, Restore, Site
from turbo.adapters.clip_block import CLIPBlock


class OwlViT(Adapter):
    """transformers OwlViTVisionTransformer and Owlv2VisionTransformer, found inside detectors and inside OwlViTModel.

    The heads read a dense grid, so the full sequence is restored after the last block. Patches of one token get the
    same class scores, and boxes of the same offsets, each from its own place.
    """

    target = (
        "transformers.models.owlvit.modeling_owlvit:OwlViTVisionTransformer",
        "transformers.models.owlv2.modeling_owlv2:Owlv2VisionTransformer",
    )

    def sites(self, model: Any) -> Sequence[Site]:
        layers = model.encoder.layers  # the norm after them runs on the class token alone, and once more on all
        return [*(CLIPBlock(layer) for layer in layers), Restore(layers[-1])]

    def shape(self, model: Any) -> tuple[int, int]:
        return model.embeddings.num_positions, model.embeddings.embed_dim

    def example(self) -> Example:
        from transformers import OwlViTConfig, OwlViTForObjectDetection

        size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3}
        text = size | {"num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 24}
        vision = size | {"image_size": 48, "patch_size": 8}
        config = OwlViTConfig(text_config=text, vision_config=vision, projection_dim=48)

        def inputs(batch: int) -> dict[str, Tensor]:
            return {"input_ids": torch.randint(3, 60, (batch, 7)), "pixel_values": torch.randn(batch, 3, 48, 48)}

        return Example(lambda: OwlViTForObjectDetection(config), inputs)
