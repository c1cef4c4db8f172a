"""From images and texts to what a model takes, by the processor that its library has for it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from turbo.errors import TurboError
from turbo.models import LoadedModel

if TYPE_CHECKING:
    from PIL import Image

_SPECIAL = 1000  # token ids at either end of a vocabulary that no made-up word gets


@dataclass(frozen=True)
class Inputs:
    """How a model's inputs are made.

    Attributes:
        images: RGB images -> pixel values, float32 `b 3 h w`.
        texts: texts, padded to one length -> the keyword arguments of the model's text side, with "input_ids", `b t`.
            With ``cut=True`` those that are longer than the model reads end there; open_clip always does so. None
            where the model reads no texts.
        decode: token ids, `b t` -> texts without special tokens; None where the model writes none.
    """

    images: Callable[[Sequence[Image.Image]], Tensor]
    texts: Callable[..., dict[str, Tensor]] | None = None
    decode: Callable[[Tensor], list[str]] | None = None


def load_inputs(loaded: LoadedModel) -> Inputs:
    """Loads the processor of a model: transformers', timm's or open_clip's own.

    A model of transformers with random weights (``random:NAME``) has none that could be had without a download. Its
    images are scaled to its size and to -1 to 1, and each word gets a token by its hash: lengths and times are those
    of the real model, answers mean nothing anyway.

    Args:
        loaded: by `turbo.models.load_model`.

    Returns:
        Its inputs.

    Raises:
        TurboError: there is no processor where the model came from.

    Examples:
        >>> from turbo.models import load_model
        >>> inputs = load_inputs(load_model("zoo:vit-digits"))
        >>> from PIL import Image
        >>> inputs.images([Image.new("RGB", (40, 30))]).shape
        torch.Size([1, 3, 64, 64])
    """
    kind, _, rest = loaded.name.partition(":")
    library, _, architecture = rest.partition("/")
    if kind == "timm" or (kind == "random" and architecture and library == "timm"):
        return _timm_inputs(loaded.model)
    if kind == "open_clip":
        return _open_clip_inputs(loaded.model, rest.partition(":")[0])
    if kind == "random":
        return _open_clip_inputs(loaded.model, architecture) if architecture else _made_up_inputs(loaded)
    if kind == "zoo":
        from turbo import zoo

        return _transformers_inputs(str(zoo.folder(rest)))
    return _transformers_inputs(loaded.name)


def _transformers_inputs(source: str) -> Inputs:
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TurboError(
            f"{source!r} has no processor that can be loaded here ({reason}): save it beside the model with "
            "processor.save_pretrained(folder)"
        ) from error
    tokenizer = getattr(processor, "tokenizer", None)
    image_processor = getattr(processor, "image_processor", None) or processor
    if not hasattr(image_processor, "image_mean"):
        raise TurboError(f"{source!r} has a {type(processor).__name__}, which does not read images")

    def images(pictures: Sequence[Image.Image]) -> Tensor:
        found: Tensor = image_processor(list(pictures), return_tensors="pt")["pixel_values"]
        return found

    if tokenizer is None:
        return Inputs(images)

    def texts(lines: Sequence[str], cut: bool = False) -> dict[str, Tensor]:
        made = tokenizer(list(lines), padding=True, truncation=cut, return_tensors="pt", return_token_type_ids=False)
        return {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"]}

    def decode(ids: Tensor) -> list[str]:
        return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    return Inputs(images, texts, decode)


def _timm_inputs(model: Any) -> Inputs:
    import timm.data

    config = timm.data.resolve_model_data_config(model)
    return Inputs(_stacking(timm.data.create_transform(**config, is_training=False)))


def _open_clip_inputs(model: Any, architecture: str) -> Inputs:
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    tokenizer = open_clip.get_tokenizer(architecture)
    return Inputs(_stacking(transform), lambda lines, cut=True: {"input_ids": tokenizer(list(lines))})


def _stacking(transform: Callable[[Image.Image], Tensor]) -> Callable[[Sequence[Image.Image]], Tensor]:
    return lambda pictures: torch.stack([transform(picture) for picture in pictures])


def _made_up_inputs(loaded: LoadedModel) -> Inputs:
    import numpy as np

    height, width = loaded.image_size

    def transform(picture: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(picture.resize((width, height))))
        return pixels.permute(2, 0, 1).float() / 127.5 - 1

    config = getattr(getattr(loaded.model, "config", None), "text_config", None)
    if config is None:
        return Inputs(_stacking(transform))
    end = config.eos_token_id if config.model_type.startswith("clip") else config.sep_token_id

    def texts(lines: Sequence[str], cut: bool = False) -> dict[str, Tensor]:
        span, most = config.vocab_size - 2 * _SPECIAL, config.max_position_embeddings - 2 if cut else None
        rows = [[_SPECIAL + zlib.crc32(word.encode()) % span for word in line.lower().split()[:most]] for line in lines]
        length = max(map(len, rows)) + 2
        ids = torch.full((len(rows), length), config.pad_token_id)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row) + 2] = torch.tensor([config.bos_token_id, *row, end])
            mask[place, : len(row) + 2] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def decode(ids: Tensor) -> list[str]:
        words = range(_SPECIAL, config.vocab_size - _SPECIAL)
        return [" ".join(f"word{token}" for token in row if token in words) for row in ids.tolist()]

    return Inputs(_stacking(transform), texts, decode)
