"""transformers' CLIPSeg: a CLIP tower whose patches a decoder reads, in their places, after several inner layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Adapter, Example, Restore, Site
from turbo.adapters.clip_block import CLIPBlock

_CLIPSEG = "transformers.models.clipseg.modeling_clipseg"


class CLIPSeg(Adapter):
    """transformers CLIPSegForImageSegmentation; and CLIPSegVisionModel, in CLIPSegModel, where nothing reads patches.

    The decoder reads `extract_layers`. Tokens merge up to the first of them, where the full sequence is restored:
    layers further on have to hand all tokens to the decoder, and run on all of them.
    """

    target = (f"{_CLIPSEG}:CLIPSegForImageSegmentation", f"{_CLIPSEG}:CLIPSegVisionModel")

    def sites(self, model: Any) -> Sequence[Site]:
        if not hasattr(model, "extract_layers"):
            return [CLIPBlock(layer) for layer in model.encoder.layers]
        layers = model.clip.vision_model.encoder.layers[: min(model.extract_layers) + 1]
        return [*(CLIPBlock(layer) for layer in layers), Restore(layers[-1])]

    def shape(self, model: Any) -> tuple[int, int]:
        embeddings = getattr(model, "clip", model)
        embeddings = getattr(embeddings, "vision_model", embeddings).embeddings
        return embeddings.num_positions, embeddings.embed_dim

    def example(self) -> Example:
        from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

        size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3}
        text = size | {"num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 24, "eos_token_id": 2}
        vision = size | {"image_size": 48, "patch_size": 8}
        options = {"projection_dim": 48, "reduce_dim": 16, "decoder_num_attention_heads": 2, "extract_layers": [3]}
        config = CLIPSegConfig(text_config=text, vision_config=vision, decoder_intermediate_size=32, **options)

        def inputs(batch: int) -> dict[str, Tensor]:
            return {"input_ids": torch.randint(3, 60, (batch, 7)), "pixel_values": torch.randn(batch, 3, 48, 48)}

        return Example(lambda: CLIPSegForImageSegmentation(config), inputs)
