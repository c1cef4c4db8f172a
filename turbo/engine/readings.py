"""What the readers of one accelerated model share: how many patches an image token stands for, and what merges."""

from __future__ import annotations

import threading
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from turbo.adapters.reader import Reader
from turbo.engine.by_tensor import ByTensor
from turbo.errors import TurboError, TurboWarning
from turbo.plan import Plan
from turbo.schedule import Schedule

_COMPARED = 8
"""Channels of the first token by which rows are looked for; what is found is then compared as a whole."""


class Reading(NamedTuple):
    """What a reader hands to the next one.

    Attributes:
        depth: index of the reader that comes next.
        source: ``b N d``, the image tokens that the text model was given.
        counts: tokens that merge after each reader.
        tokens: ``b n d``, what is left of them.
        size: ``b n``, patches per token; None while nothing has merged, in the tower or here.
        value: ``b n``, running semantic value; None while nothing has merged here.
    """

    depth: int
    source: Tensor
    counts: tuple[int, ...]
    tokens: Tensor
    size: Tensor | None
    value: Tensor | None


class _ThreadState(threading.local):
    """One text at a time per thread. Never copied with the model."""

    reading: Reading | None = None
    handed: tuple[Tensor, Tensor | None] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _ThreadState:
        return _ThreadState()

    def __reduce__(self) -> tuple[type[_ThreadState], tuple[()]]:
        return _ThreadState, ()


class Readings:
    """Sizes of the tower's outputs, and the tokens that readers hand on.

    Args:
        readers: those between which tokens merge, in their order; none where nothing is to merge.
        ratio: share of the tokens that a reader sees which merge after it.
        expected: whether the tower merges, so that image tokens of unknown size are worth a warning.
    """

    def __init__(self, readers: list[Reader], ratio: float, *, expected: bool) -> None:
        self.readers = readers
        self.ratio = ratio
        self.expected = expected
        self.state = _ThreadState()
        self.sizes = ByTensor()
        self._plans: dict[int, Plan] = {}

    def plan(self, n: int) -> Plan:
        """The plan for n image tokens: nothing merges after the last reader."""
        if n not in self._plans:
            counts = Schedule(ratio=self.ratio).plan(n, len(self.readers) - 1, self.readers[0].protected).counts
            self._plans[n] = Plan(n, (*counts, 0))
            if not any(counts):
                layers = len(self.readers)
                warnings.warn(
                    f"cross_modal={self.ratio} merges no image token: there are {n}, and {layers} text layers",
                    TurboWarning,
                    stacklevel=5,
                )
        return self._plans[n]

    def hand_over(self, output: Tensor, size: Tensor | None) -> None:
        """Note the sizes, ``b n``, of a tower's output, ``b n d``."""
        if torch.compiler.is_compiling():
            self.state.handed = (output, size)
        else:
            self.sizes.known[output] = size

    def size_of(self, tokens: Tensor) -> Tensor | None:
        """``b n``, patches per token; None where all stand for one.

        The tower's output is known as the object that it is, and its rows wherever they went: generation repeats
        them for every beam, and users pair them with texts.
        """
        if torch.compiler.is_compiling():
            handed = self.state.handed
            return handed[1] if handed is not None and handed[0] is tokens else None
        if tokens in self.sizes.known:
            known: Tensor | None = self.sizes.known[tokens]
            return known
        size = self._size_of_rows(tokens) if self.expected else None
        self.sizes.known[tokens] = size
        return size

    def _size_of_rows(self, tokens: Tensor) -> Tensor | None:
        size = torch.ones(tokens.shape[:2], dtype=torch.float32, device=tokens.device)
        missing = torch.ones(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        for output, known in list(self.sizes.known.items()):
            if output.shape[1:] != tokens.shape[1:] or known is None:
                continue
            row, equal = _find_rows(tokens, output)
            size = torch.where(equal[:, None], known.to(size.device)[row], size)
            missing &= ~equal
            if not missing.any():
                return size
        warnings.warn(
            f"{int(missing.sum())} of {len(missing)} rows of image tokens are not rows of what the accelerated tower "
            "returned: each of their tokens counts once, however many patches it stands for. Hand over the tower's own "
            "output, whole or some of its rows, while it is still there",
            TurboWarning,
            stacklevel=2,
        )
        return None if missing.all() else size

    def enter(self, depth: int, tokens: Tensor) -> Reading:
        """What reader `depth` sees; the first one starts anew."""
        if depth == 0:
            return Reading(0, tokens, self.plan(tokens.shape[1]).counts, tokens, self.size_of(tokens), None)
        current = self.state.reading
        if current is None or current.depth != depth or current.source is not tokens:
            raise TurboError(
                f"cross-attention layer {depth} ran without the layers before it, or on other image tokens: with "
                "cross_modal the text model's layers run in order from the first, and gradient checkpointing "
                "does not work; leave cross_modal out, or turbo.restore(model) first"
            )
        return current

    def leave(self, reading: Reading) -> None:
        """Hand on to the next reader; after the last one nothing is kept."""
        self.state.reading = None if reading.depth == len(self.readers) else reading


def _find_rows(tokens: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of tokens a row of an output, ``b`` int64, and whether the two are equal, ``b`` bool."""
    output = output.to(tokens)
    alike = (tokens[:, None, 0, :_COMPARED] == output[None, :, 0, :_COMPARED]).all(-1)
    row = alike.int().argmax(dim=1)
    return row, (tokens == output[row]).flatten(1).all(dim=1)
