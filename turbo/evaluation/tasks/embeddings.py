"""Images and texts in one space, by whatever model has both."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional


def embed_images(model: Any, pixels: Tensor) -> Tensor:
    """Unit vectors of images, float32 `b d`.

    Args:
        model: CLIP of transformers or open_clip (or whatever has their methods), or BlipForImageTextRetrieval, whose
            contrastive head is taken and not its matching head.
        pixels: `b 3 h w`.
    """
    if hasattr(model, "encode_image"):
        found = model.encode_image(pixels)
    elif hasattr(model, "vision_proj"):
        found = model.vision_proj(model.vision_model(pixels).last_hidden_state[:, 0])
    else:
        found = _pooled(model.get_image_features(pixel_values=pixels))
    return functional.normalize(found.float(), dim=-1)


def embed_texts(model: Any, made: dict[str, Tensor]) -> Tensor:
    """Unit vectors of texts, float32 `b d`.

    Args:
        model: as for `embed_images`.
        made: its text inputs.
    """
    if hasattr(model, "encode_text"):
        found = model.encode_text(made["input_ids"])
    elif hasattr(model, "text_proj"):
        found = model.text_proj(model.text_encoder(**made).last_hidden_state[:, 0])
    else:
        found = _pooled(model.get_text_features(**made))
    return functional.normalize(found.float(), dim=-1)


def embeds_both(model: Any) -> bool:
    """Whether a model has images and texts in one space."""
    pairs = (("encode_image", "encode_text"), ("get_image_features", "get_text_features"), ("vision_proj", "text_proj"))
    return any(all(hasattr(model, name) for name in pair) for pair in pairs)


def temperature(model: Any) -> float | None:
    """What a model multiplies its cosines by before the softmax; None where its weights do not say."""
    scale = getattr(model, "logit_scale", None)
    return None if scale is None else float(scale.exp())


def _pooled(found: Any) -> Tensor:
    pooled: Tensor = getattr(found, "pooler_output", found)
    return pooled
