"""transformers' CLIP: the vision tower, alone or in a composite model. The text tower is left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Restore, Site
from turbo.adapters.clip_block import CLIPBlock

_CLIP = "transformers.models.clip.modeling_clip"


class CLIP(Adapter):
    """transformers CLIPVisionModel, found inside CLIPModel and CLIPVisionModelWithProjection too.

    CLIPForImageClassification averages over patches, so there the full sequence is restored after the last block.
    """

    target = (f"{_CLIP}:CLIPVisionModel", f"{_CLIP}:CLIPForImageClassification")

    def sites(self, model: Any) -> Sequence[Site]:
        tower = getattr(model, "vision_model", model)
        layers = tower.encoder.layers
        blocks: list[Site] = [CLIPBlock(layer) for layer in layers]
        return blocks if tower is model else [*blocks, Restore(layers[-1])]

    def shape(self, model: Any) -> tuple[int, int]:
        embeddings = getattr(model, "vision_model", model).embeddings
        return embeddings.num_positions, embeddings.embed_dim

    def example(self) -> Example:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        size = {"image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = CLIPVisionConfig(intermediate_size=96, **size)
        return Example(lambda: CLIPVisionModel(config), lambda batch: {"pixel_values": torch.randn(batch, 3, 48, 48)})
