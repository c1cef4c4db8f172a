"""Whether what was looked for is among the first that a model finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from turbo.errors import TurboError

Hits = npt.NDArray[np.float64]
"""1 for each query that found what it looked for, else 0; its mean is the recall."""


@dataclass(frozen=True)
class Recall:
    """Recall at some ranks, query by query, in both directions.

    Attributes:
        image_to_text: rank -> for each image, whether a text of it is among that many first.
        text_to_image: rank -> for each text, whether its image is among that many first.
    """

    image_to_text: dict[int, Hits]
    text_to_image: dict[int, Hits]


def recall_at(
    scores: Tensor, image_of: Sequence[int], k: Sequence[int] = (1, 5, 10), *, texts: Sequence[str] | None = None
) -> Recall:
    """Recall at k of images by texts and of texts by images (Karpathy & Fei-Fei, CVPR 2015).

    A query is right at k when any of its right answers is among the first k: an image with five captions looks for
    any of them. A wrong answer of the same score counts as better, so a model that scores everything alike finds
    nothing. A k of at least the number of candidates is always right.

    Two images may have the very same text. Nothing in a text then says which is meant, so each of those images is
    right for it, and each such text for either image.

    Args:
        scores: how well images and texts fit, larger is better, `images x texts`.
        image_of: index of the image that each text belongs to.
        k: ranks.
        texts: the texts themselves, to find those that are the same; without them each belongs to its image only.

    Returns:
        A hit or miss of every query, for each rank and direction.

    Raises:
        TurboError: the shapes do not fit, an image has no text, a score is NaN, or a rank is below 1.

    Examples:
        >>> found = recall_at(torch.tensor([[0.9, 0.8], [0.1, 0.2]]), [0, 1], k=(1,))
        >>> found.image_to_text[1].tolist(), found.text_to_image[1].tolist()
        ([1.0, 1.0], [1.0, 0.0])
    """
    right = _right(scores, image_of, texts)
    _check_scores(scores)
    if not k or min(k) < 1:
        raise TurboError(f"k={tuple(k)}: give ranks of 1 or more, such as (1, 5, 10)")
    better = [_better(scores, right), _better(scores.T, right.T)]
    by_image, by_text = ({rank: (ahead < rank).astype(np.float64) for rank in k} for ahead in better)
    return Recall(by_image, by_text)


def top_1(scores: Tensor, labels: Sequence[int]) -> Hits:
    """Whether the right class has the highest score, image by image; a tie is a miss.

    Args:
        scores: of each class, `b c`.
        labels: index of each image's class.

    Returns:
        Hits (`b`); their mean is the top-1 accuracy.

    Raises:
        TurboError: the shapes do not fit, a label is no class, or a score is NaN.

    Examples:
        >>> top_1(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), [1, 1]).tolist()
        [1.0, 0.0]
    """
    if scores.ndim != 2 or len(scores) != len(labels) or not len(labels):
        raise TurboError(f"scores of shape {tuple(scores.shape)} for {len(labels)} labels: give one row for each image")
    if min(labels) < 0 or max(labels) >= scores.shape[1]:
        raise TurboError(f"labels {min(labels)} to {max(labels)}, but the scores have {scores.shape[1]} classes")
    _check_scores(scores)
    right = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    right[torch.arange(len(labels)), torch.as_tensor(labels)] = True
    return (_better(scores, right) < 1).astype(np.float64)


def _right(scores: Tensor, image_of: Sequence[int], texts: Sequence[str] | None) -> Tensor:
    """Says which texts are right for which images (bool, `images x texts`)."""
    if scores.ndim != 2 or scores.shape[1] != len(image_of) or not len(image_of):
        raise TurboError(
            f"scores of shape {tuple(scores.shape)} for {len(image_of)} texts: give one row for each image and one "
            "column for each text"
        )
    images = scores.shape[0]
    if set(image_of) != set(range(images)):
        odd = sorted(set(image_of) ^ set(range(images)))[:5]
        raise TurboError(
            f"image_of does not fit the {images} rows of scores: {odd} are on one side only; every image needs a text"
        )
    if texts is not None and len(texts) != len(image_of):
        raise TurboError(f"{len(texts)} texts, but image_of says whose {len(image_of)} texts are: give one for each")
    names = range(len(image_of)) if texts is None else texts
    columns: dict[object, list[int]] = {}
    for column, name in enumerate(names):
        columns.setdefault(name, []).append(column)
    right = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    for same in columns.values():
        rows = sorted({image_of[column] for column in same})
        right[torch.tensor(rows)[:, None], torch.tensor(same)] = True
    return right


def _check_scores(scores: Tensor) -> None:
    if scores.isnan().any():
        raise TurboError("a score is NaN: nothing can be ranked by it; look at what the model gave for that input")


def _better(scores: Tensor, right: Tensor) -> npt.NDArray[np.int64]:
    """Counts the wrong candidates that come before the best right one, for each row."""
    best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    counts: npt.NDArray[np.int64] = ((scores >= best) & ~right).sum(1).cpu().numpy()
    return counts
