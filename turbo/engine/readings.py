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
"""Channels of the first token by which rows are looked for; of what is found the whole token is compared."""


class Noted(NamedTuple):
    """What is kept of a tower's output, or of rows of it, ``b n d``.

    Attributes:
        first: ``b d``, the first token of each row. Different images do not share it to the last bit.
        size: ``b n``, patches per token; None where nothing has merged.
        shape: n and d.
    """

    first: Tensor
    size: Tensor | None
    shape: tuple[int, ...]


class Found(NamedTuple):
    """The sizes of image tokens that are known as an object, and the state in which they were.

    Attributes:
        size: ``b n``, or None.
        version: how often they had been changed in place; None in inference mode, where nobody counts that.
        handed: what the tower returned last.
    """

    size: Tensor | None
    version: int | None
    handed: Noted | None


class Reading(NamedTuple):
    """What a reader hands to the next one.

    Attributes:
        depth: index of the merging reader that comes next.
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

    def __init__(self) -> None:  # attributes of the instance: what `torch.compile` guards
        self.reading: Reading | None = None
        self.handed: Noted | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _ThreadState:
        return _ThreadState()

    def __reduce__(self) -> tuple[type[_ThreadState], tuple[()]]:
        return _ThreadState, ()


class Readings:
    """Sizes of the tower's outputs, and the tokens that readers hand on.

    Args:
        merging: the readers between which tokens merge, in their order; none where nothing is to merge.
        schedule: how many merge after each.
        expected: whether the tower merges, so that image tokens of unknown size are worth a warning.
    """

    def __init__(self, merging: list[Reader], schedule: Schedule, *, expected: bool) -> None:
        self.merging = merging
        self.schedule = schedule
        self.expected = expected
        self.state = _ThreadState()
        self.outputs = ByTensor()  # Noted
        self.found = ByTensor()
        self._plans: dict[int, Plan] = {}

    def plan(self, n: int) -> Plan:
        """The plan for n image tokens: nothing merges after the last reader."""
        if n not in self._plans:
            counts = self.schedule.plan(n, len(self.merging) - 1, self.merging[0].protected).counts
            self._plans[n] = Plan(n, (*counts, 0))
            if not any(counts):
                layers = len(self.merging)
                warnings.warn(
                    f"cross_modal={self.schedule.ratio} merges no image token: there are {n}, and {layers} text layers",
                    TurboWarning,
                    stacklevel=5,
                )
        return self._plans[n]

    def hand_over(self, output: Tensor, size: Tensor | None) -> None:
        """Note the sizes, ``b n``, of a tower's output, ``b n d``; a thread's last one stays known when it is gone."""
        # A size may ask for gradients only because a reentrant checkpoint makes all that it returns do so.
        first, size = output[:, 0].detach().clone(), None if size is None else size.detach()
        self.state.handed = Noted(first, size, tuple(output.shape[1:]))
        if not torch.compiler.is_compiling():
            self.outputs.note(output, self.state.handed)
            self.found.note(output, Found(size, _version(output), self.state.handed))

    def size_of(self, tokens: Tensor) -> Tensor | None:
        """``b n``, patches per token; None where all stand for one.

        Rows of the tower's outputs are known by their first token, wherever they went: generation repeats them for
        every beam, and users pair them with texts. What was found is kept for the tensor until it changes in place.
        In inference mode nobody counts such changes, and it is kept until the tower runs again. Looking waits for the
        device; the output itself needs no look.
        """
        handed = self.state.handed
        if torch.compiler.is_compiling():  # no list of outputs and no warning in a graph: the last one is asked
            if handed is None or handed.size is None or handed.shape != tuple(tokens.shape[1:]):
                return None
            return _sizes(tokens, handed)[0]
        version, found = _version(tokens), self.found.get(tokens)
        if found is not None and found.version == version and (version is not None or found.handed is handed):
            size: Tensor | None = found.size
            return size
        size = self._size_of_rows(tokens) if self.expected else None
        self.found.note(tokens, Found(size, version, handed))
        if size is not None:  # rows of these may be on their way, too, when the output itself is gone
            self.outputs.note(tokens, Noted(tokens[:, 0].detach().clone(), size, tuple(tokens.shape[1:])))
        return size

    def _size_of_rows(self, tokens: Tensor) -> Tensor | None:
        last = [] if self.state.handed is None else [self.state.handed]
        size = torch.ones(tokens.shape[:2], dtype=torch.float32, device=tokens.device)
        missing = torch.ones(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        merged = False
        for noted in [*last, *self.outputs.all()]:
            if noted.shape != tuple(tokens.shape[1:]):
                continue
            sizes, equal = _sizes(tokens, noted)
            size, merged = torch.where((missing & equal)[:, None], sizes, size), merged or noted.size is not None
            missing &= ~equal
            if not missing.any():
                return size if merged else None
        warnings.warn(
            f"{int(missing.sum())} of {len(missing)} rows of image tokens are not rows of what the accelerated tower "
            "returned: each of their tokens counts once, however many patches it stands for. Hand over the tower's own "
            "output, whole or some of its rows, while it is still there",
            TurboWarning,
            stacklevel=2,
        )
        return size if merged else None

    def enter(self, depth: int, tokens: Tensor) -> Reading:
        """What merging reader `depth` sees; the first one starts anew."""
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
        self.state.reading = None if reading.depth == len(self.merging) else reading


def _version(tokens: Tensor) -> int | None:
    return None if tokens.is_inference() else tokens._version


def _sizes(tokens: Tensor, noted: Noted) -> tuple[Tensor, Tensor]:
    """Sizes ``b n`` of the rows of tokens, 1 where they are unknown, and whether they are known, ``b`` bool."""
    first, own = noted.first.to(tokens), tokens[:, 0]
    row = (own[:, None, :_COMPARED] == first[None, :, :_COMPARED]).all(-1).int().argmax(dim=1)
    equal = (own == first[row]).all(dim=1)
    if noted.size is None:
        return torch.ones(tokens.shape[:2], dtype=torch.float32, device=tokens.device), equal
    size = noted.size.to(tokens.device)[row]
    return torch.where(equal[:, None], size, torch.ones_like(size)), equal
