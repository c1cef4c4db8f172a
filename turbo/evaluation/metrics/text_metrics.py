"""How near captions are to references: BLEU and CIDEr-D, by pycocoevalcap's scorers.

Needs pycocoevalcap: ``pip install "turbo-vlm[eval]"``. Texts are cut by `turbo.evaluation.metrics.words`, so no Java
runs; figures may differ from the evaluation server's in the last digit where a caption has unusual marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from turbo.errors import TurboError
from turbo.evaluation.metrics.words import split_words

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> float:
    """BLEU@n of a corpus (Papineni et al., ACL 2002), with the reference nearest in length, as coco-caption has it.

    Args:
        candidates: a caption for each image, `b`.
        references: each image's right captions, one or more.
        n: longest run of words that is compared; 4 is the field's.

    Returns:
        0 to 1; papers print it times 100.

    Raises:
        TurboError: no image, not as many captions as images, an image without references, n below 1, or pycocoevalcap
            is not installed.

    Examples:
        >>> bleu(["a red ring on a table"], [["a red ring on a table", "a ring"]]) > 0.999
        True
    """
    return bleu_on(candidates, references, n)(np.arange(len(candidates)))


def bleu_on(candidates: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> Callable[[Rows], float]:
    """BLEU@n of any choice of images, repetitions included, as `intervals.bootstrap` asks for it.

    Words are counted once, by pycocoevalcap; a choice costs one sum.

    Args:
        candidates: as for `bleu`.
        references: as for `bleu`.
        n: as for `bleu`.

    Returns:
        Indices of images -> BLEU@n of the corpus they make up.

    Raises:
        TurboError: as for `bleu`.
    """
    texts, rights = _prepare(candidates, references)
    if n < 1:
        raise TurboError(f"n={n}: BLEU compares runs of at least one word; the field's is 4")
    scorer = _scorer("bleu.bleu_scorer")
    both = zip(texts, rights, strict=True)
    counts = [scorer.cook_test(text, scorer.cook_refs(right, n=n), n=n) for text, right in both]
    correct = np.array([count["correct"] for count in counts], dtype=np.float64)
    guessed = np.array([count["guess"] for count in counts], dtype=np.float64)
    length = np.array([count["testlen"] for count in counts], dtype=np.float64)
    # Of references equally near, the shorter.
    nearest = np.array(
        [min((abs(words - count["testlen"]), words) for words in count["reflen"])[1] for count in counts],
        dtype=np.float64,
    )

    def score(rows: Rows) -> float:
        precisions = (correct[rows].sum(0) + 1e-15) / (guessed[rows].sum(0) + 1e-9)  # the scorer's own safeguards
        ratio = (length[rows].sum() + 1e-15) / (nearest[rows].sum() + 1e-9)
        brevity = min(0.0, 1 - 1 / ratio)
        return float(np.exp(np.log(precisions).mean() + brevity))

    return score


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, Floats]:
    """CIDEr-D of a corpus (Vedantam et al., CVPR 2015), the variant that papers report as CIDEr.

    pycocoevalcap calls it Cider; it is CIDEr-D, with clipped counts and a Gaussian penalty on lengths (sigma 6), on
    words as they are, without stemming. How rare a run of words is, is taken from the references given, so a figure
    belongs to its set of images: compare models on the same one.

    Args:
        candidates: a caption for each image, `b`.
        references: each image's right captions, one or more.

    Returns:
        The mean, and each image's score (`b`): 0 to 10; papers print it times 100.

    Raises:
        TurboError: fewer than two images (every word is then as common as can be, and every score 0), not as many
            captions as images, an image without references, or pycocoevalcap is not installed.

    Examples:
        >>> mean, each = cider(["a red small ring", "a blue cross"], [["a red small ring"], ["one cross"]])
        >>> bool(each[0] > each[1] > 0)
        True
    """
    texts, rights = _prepare(candidates, references)
    if len(texts) < 2:
        raise TurboError(
            "CIDEr of one image: words are weighed by how few images have them, so every score is 0; give two or more"
        )
    scorer = _scorer("cider.cider").Cider()
    mean, each = scorer.compute_score(dict(enumerate(rights)), {index: [text] for index, text in enumerate(texts)})
    return float(mean), np.asarray(each, dtype=np.float64)


def _prepare(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Cuts all texts into words, joined by spaces as the scorers expect them."""
    if len(candidates) != len(references):
        raise TurboError(f"{len(candidates)} captions, and references of {len(references)} images: give one for each")
    if not candidates:
        raise TurboError("no captions: give one or more")
    for index, right in enumerate(references):
        if isinstance(right, str):
            raise TurboError(f"the references of image {index} are one text: give a list of texts, [{right!r}]")
        if not right:
            raise TurboError(f"image {index} has no reference: give one or more for each image")
    return (
        [" ".join(split_words(text)) for text in candidates],
        [[" ".join(split_words(text)) for text in right] for right in references],
    )


def _scorer(module: str) -> Any:
    """Imports a module of pycocoevalcap; those used here need neither Java nor pycocotools."""
    from importlib import import_module

    try:
        return import_module(f"pycocoevalcap.{module}")
    except ImportError as error:
        raise TurboError('BLEU and CIDEr need pycocoevalcap: pip install "turbo-vlm[eval]"') from error
