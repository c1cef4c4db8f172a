"""The text side of BLIP: what its decoder reads and writes, for captions and for answers alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from turbo.errors import TurboError

IGNORED = -100  # a label that counts for nothing


def decoder_texts(model: Any, made: dict[str, Tensor], skipped: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Texts as the decoder learns them: begun by its start token, in place of the tokenizer's.

    Args:
        model: a BLIP model with a text decoder.
        made: "input_ids" and "attention_mask" of the texts, `b t`.
        skipped: tokens in front that are given, the start token included; they are no labels.

    Returns:
        Token ids, mask and labels (`IGNORED` for what is given and for padding), each `b t`.

    Raises:
        TurboError: a text has more tokens than the decoder has positions.
    """
    ids, mask = made["input_ids"].clone(), made["attention_mask"]
    require_length(model, ids)
    ids[:, 0] = model.config.text_config.bos_token_id
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[:, :skipped] = IGNORED
    return ids, mask, labels


def require_length(model: Any, ids: Tensor) -> None:
    """Refuse texts (`b t`) that are longer than a BLIP model reads.

    Raises:
        TurboError: they are.
    """
    if ids.shape[1] > (most := model.config.text_config.max_position_embeddings):
        raise TurboError(f"a text has {ids.shape[1]} tokens, and this {type(model).__name__} reads {most} at most")


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> list[float]:
    """Minus the log-probability of each text, in nats: the sum over its tokens.

    Args:
        logits: of each position's next token, `b t v`.
        labels: the tokens, not shifted, `b t`.

    Returns:
        One value for each text.

    Examples:
        >>> logits, labels = torch.zeros(1, 3, 4), torch.tensor([[IGNORED, 2, 1]])
        >>> [round(value, 4) for value in negative_log_likelihood(logits, labels)]  # two tokens, ln 4 each
        [2.7726]
    """
    each = functional.cross_entropy(
        logits[:, :-1].transpose(1, 2).float(), labels[:, 1:], ignore_index=IGNORED, reduction="none"
    )
    found: list[float] = each.sum(1).tolist()
    return found


def write(model: Any, start: Tensor, states: Tensor, **arguments: Any) -> Tensor:
    """Generate texts, as the models' own `generate` does once it has the states.

    Args:
        model: a BLIP model with a text decoder.
        start: the tokens that all texts start with, `p`.
        states: what the decoder looks at, `b n d`, without padding.
        **arguments: of transformers' `generate`.

    Returns:
        Token ids after the start, `b t`.
    """
    config = model.config.text_config
    ids: Tensor = model.text_decoder.generate(
        input_ids=start.expand(len(states), -1),
        eos_token_id=config.sep_token_id,
        pad_token_id=config.pad_token_id,
        encoder_hidden_states=states,
        encoder_attention_mask=torch.ones(states.shape[:2], dtype=torch.long, device=states.device),
        **arguments,
    )
    return ids[:, len(start) :]
