"""transformers' BLIP: captioners, question answerers and retrievers, whose text models read the image's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from turbo.adapters.base import Adapter, Example, Site
from turbo.adapters.bert_reader import BlipReader
from turbo.adapters.blip_block import BlipBlock
from turbo.adapters.reader import Handover

_BLIP = "transformers.models.blip.modeling_blip"
_READING = ("BlipModel", "BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering")
"""Models in which a text attends to the image."""


class Blip(Adapter):
    """transformers BlipVisionModel, alone or in a BLIP model, whose text model reads its tokens.

    A question encoder and the encoder that matches texts with images read a text at once: image tokens may merge from
    layer to layer. The captioner's decoder writes token after token.
    """

    target = tuple(f"{_BLIP}:{name}" for name in ("BlipVisionModel", *_READING))

    def sites(self, model: Any) -> Sequence[Site]:
        tower = getattr(model, "vision_model", model)
        blocks: list[Site] = [BlipBlock(layer) for layer in tower.encoder.layers]
        if tower is model:
            return blocks
        # In this order: a question answerer has two, and its decoder attends to the question.
        text = next(
            getattr(model, name) for name in ("text_encoder", "text_decoder", "text_model") if hasattr(model, name)
        )
        layers = getattr(text, "bert", text).encoder.layer  # a decoder is a BERT with a head
        merges = not hasattr(text, "bert")
        readers = [
            BlipReader(layer.crossattention.self, merges=merges) for layer in layers if hasattr(layer, "crossattention")
        ]
        return [*blocks, Handover(tower.post_layernorm), *readers]

    def shape(self, model: Any) -> tuple[int, int]:
        embeddings = getattr(model, "vision_model", model).embeddings
        return embeddings.num_positions, embeddings.embed_dim

    def example(self) -> Example:
        from transformers import BlipVisionConfig, BlipVisionModel

        size = {"image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
        config = BlipVisionConfig(intermediate_size=96, **size)
        return Example(lambda: BlipVisionModel(config), lambda batch: {"pixel_values": torch.randn(batch, 3, 48, 48)})
