"""transformers' LLaVA and its kin: a language model reads an inner state of the tower, patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Adapter, Example, Restore, Site, Unsupported
from turbo.adapters.clip_block import CLIPBlock


class Llava(Adapter):
    """transformers LlavaModel, LlavaNextModel, LlavaOnevisionModel and VipLlavaModel over a tower of CLIP or SigLIP.

    Tokens merge up to the layer that is read, the first one of several, and the full sequence is restored there: the
    language model finds as many image tokens as its prompt has places for, and costs what it did.
    """

    target = (
        "transformers.models.llava.modeling_llava:LlavaModel",
        "transformers.models.llava_next.modeling_llava_next:LlavaNextModel",
        "transformers.models.llava_onevision.modeling_llava_onevision:LlavaOnevisionModel",
        "transformers.models.vipllava.modeling_vipllava:VipLlavaModel",
    )

    def sites(self, model: Any) -> Sequence[Site]:
        tower, read = model.vision_tower, model.config.vision_feature_layer
        if type(tower).__name__ not in ("CLIPVisionModel", "SiglipVisionModel"):
            raise Unsupported(f"a vision tower of class {type(tower).__name__}: turbo knows LLaVA's CLIP and SigLIP")
        states = len(tower.encoder.layers) + 1  # the first one is what enters the layers
        layers = tower.encoder.layers[: min(i % states for i in ([read] if isinstance(read, int) else read))]
        if not len(layers):
            raise Unsupported(f"vision_feature_layer={read}: the language model reads what enters the first layer")
        class_token = hasattr(tower.embeddings, "class_embedding")
        blocks = [CLIPBlock(layer, protected=int(class_token), class_token=class_token) for layer in layers]
        return [*blocks, Restore(layers[-1])]

    def shape(self, model: Any) -> tuple[int, int]:
        return model.vision_tower.embeddings.num_positions, model.vision_tower.embeddings.embed_dim

    def example(self) -> Example:
        from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

        size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3}
        vision, text = CLIPVisionConfig(image_size=48, patch_size=8, **size), LlamaConfig(vocab_size=64, **size)
        config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=60, image_seq_length=36)

        def inputs(batch: int) -> dict[str, Tensor]:
            ids = torch.cat([torch.full((batch, 36), 60), torch.randint(3, 60, (batch, 7))], dim=1)
            return {"input_ids": ids, "pixel_values": torch.randn(batch, 3, 48, 48)}

        return Example(lambda: LlavaForConditionalGeneration(config), inputs)
