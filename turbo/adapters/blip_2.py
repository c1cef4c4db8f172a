"""transformers' BLIP-2 and InstructBLIP, also for videos: a Q-Former's queries read the image's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import Adapter, Example, Site
from turbo.adapters.bert_reader import QFormerReader
from turbo.adapters.blip_block import BlipBlock
from turbo.adapters.reader import Handover

_BLIP_2 = "transformers.models.blip_2.modeling_blip_2:Blip2"
_INSTRUCT = "transformers.models.instructblip.modeling_instructblip:InstructBlip"
_VIDEO = "transformers.models.instructblipvideo.modeling_instructblipvideo:InstructBlipVideo"
_COMMON = ("VisionModel", "Model", "ForConditionalGeneration")


class Blip2(Adapter):
    """The vision tower of BLIP-2 and InstructBLIP, alone or with the Q-Former that reads it.

    A Q-Former hands as many tokens as ever to its language model. Between its cross-attention layers image tokens may
    merge, guided by the attention of its queries: there is no class token.
    """

    target = (
        *(f"{family}{name}" for family in (_BLIP_2, _INSTRUCT, _VIDEO) for name in _COMMON),
        f"{_BLIP_2}VisionModelWithProjection",
        f"{_BLIP_2}ForImageTextRetrieval",
    )

    def sites(self, model: Any) -> Sequence[Site]:
        tower = getattr(model, "vision_model", model)
        blocks: list[Site] = [BlipBlock(layer) for layer in tower.encoder.layers]
        if tower is model:
            return blocks
        layers = [layer for layer in model.qformer.encoder.layer if layer.has_cross_attention]
        readers = [QFormerReader(layer.crossattention.attention, merges=True, class_token=False) for layer in layers]
        return [*blocks, Handover(tower.post_layernorm), *readers]

    def shape(self, model: Any) -> tuple[int, int]:
        embeddings = getattr(model, "vision_model", model).embeddings
        return embeddings.num_positions, embeddings.embed_dim

    def example(self) -> Example:
        from transformers import Blip2Config, Blip2VisionModelWithProjection

        size = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 3}
        vision = size | {"image_size": 48, "patch_size": 8, "num_hidden_layers": 4}
        former = size | {"encoder_hidden_size": 48, "num_hidden_layers": 4, "vocab_size": 60}
        config = Blip2Config(vision_config=vision, qformer_config=former, num_query_tokens=6)

        def inputs(batch: int) -> dict[str, Tensor]:
            return {"pixel_values": torch.randn(batch, 3, 48, 48)}

        return Example(lambda: Blip2VisionModelWithProjection(config), inputs)
