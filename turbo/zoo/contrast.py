"""The contrastive loss of images and captions, with captions of earlier batches to tell images apart from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BANK = 384  # captions that are remembered


def wake_words(text: Any) -> None:
    """Makes the words and positions of an untrained CLIP text model unlike each other.

    Upstream's start is made for widths of 512 and more; a small model's words would be all alike.
    """
    with torch.no_grad():
        text.embeddings.token_embedding.weight.normal_(std=0.3)
        text.embeddings.position_embedding.weight.normal_(std=0.1)


class CaptionBank:
    """Computes contrastive losses, batch after batch.

    Several captions of a batch may read the same; all of them are right for each of their images.
    """

    def __init__(self) -> None:
        self._texts: Tensor | None = None
        self._captions: list[str] = []

    def loss(self, image: Tensor, text: Tensor, captions: list[str], scale: Tensor) -> Tensor:
        """The mean of both directions.

        Args:
            image: embeddings, `b d`, of any length.
            text: of the images' captions, `b d`.
            captions: how these read, `b`.
            scale: of the cosines.

        Returns:
            The scalar loss.
        """
        image, text = (functional.normalize(side.float(), dim=1) for side in (image, text))
        known = captions + self._captions
        texts = text if self._texts is None else torch.cat([text, self._texts])
        same = torch.tensor([[caption == other for other in known] for caption in captions], device=image.device)
        self._texts, self._captions = texts[:BANK].detach(), known[:BANK]
        logits = scale.clamp(max=100) * image @ texts.T
        forth = functional.cross_entropy(logits, same / same.sum(1, keepdim=True))
        own = same[:, : len(image)]  # a square, and the same both ways
        back = functional.cross_entropy(logits[:, : len(image)].T, own / own.sum(1, keepdim=True))
        mean: Tensor = (forth + back) / 2
        return mean
