"""The cross-attention of BLIP's text models and of BLIP-2's and InstructBLIP's Q-Formers: BERT's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from turbo.adapters.base import split_heads
from turbo.adapters.reader import Reader


class BertReader(Reader):
    """A module with linear layers query, key and value, that returns its context and its attention maps."""

    def queries(self, text: Tensor) -> Tensor:
        return split_heads(self.module.query(text), self.module.num_attention_heads)

    def keys_values(self, tokens: Tensor, given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        heads = self.module.num_attention_heads
        return split_heads(self.module.key(tokens), heads), split_heads(self.module.value(tokens), heads)

    def output(self, y: Tensor) -> tuple[Tensor, None]:
        return y, None  # fused attention makes no map


class BlipReader(BertReader):
    """BlipTextSelfAttention of a cross-attention layer. A decoder caches keys and values in its first call."""

    def keys_values(self, tokens: Tensor, given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        cache, layer = given.get("past_key_values"), self.module.layer_idx
        if cache is None:
            return super().keys_values(tokens, given)
        if not cache.is_updated.get(layer):
            cache.cross_attention_cache.update(*super().keys_values(tokens, given), layer)
            cache.is_updated[layer] = True
        cached = cache.cross_attention_cache.layers[layer]
        return cached.keys, cached.values

    def dropout(self) -> float:
        return float(self.module.dropout.p)


class QFormerReader(BertReader):
    """Blip2QFormerMultiHeadAttention, InstructBlipQFormerMultiHeadAttention and that for videos."""

    mask = "encoder_attention_mask"

    def dropout(self) -> float:
        return float(self.module.attention_dropout)
