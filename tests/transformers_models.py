"""Small models of transformers: configurations, and what builds a model of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from family import IMAGE, PATCH

VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": IMAGE,
    "patch_size": PATCH,
}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "vocab_size": 60,
    "max_position_embeddings": 24,
}
LLAMA = TEXT | {"model_type": "llama", "vocab_size": 64, "max_position_embeddings": 64}
OPT = {
    "model_type": "opt",
    "hidden_size": 48,
    "word_embed_proj_dim": 48,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}
Q_FORMER = TEXT | {"encoder_hidden_size": 48, "cross_attention_frequency": 1}
BLIP_TEXT = TEXT | {
    "encoder_hidden_size": 48,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "sep_token_id": 2,
}


def hf(name: str, config: str, **options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        import transformers

        return getattr(transformers, name)(getattr(transformers, config)(**(VISION | options)))

    return build


def composite(name: str, config: str, **options: Any) -> Callable[[], torch.nn.Module]:
    """A model with a vision tower and a text model, by default a text tower of the same library."""

    def build() -> torch.nn.Module:
        import transformers

        configs = {"text_config": TEXT | {"bos_token_id": 1, "eos_token_id": 2}, "vision_config": VISION}
        return getattr(transformers, name)(getattr(transformers, config)(**(configs | options)))

    return build
