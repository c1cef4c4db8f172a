"""Runners of a text's cross-attention: image tokens count by their sizes, and merge from layer to layer."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.reader import Handover, Reader
from turbo.attention import proportional_attention
from turbo.engine.acceleration import Acceleration
from turbo.engine.readings import Reading
from turbo.engine.runner import Runner
from turbo.engine.score import match_tokens
from turbo.errors import TurboError
from turbo.information import spread_queries
from turbo.merging import add_up, merge

_NOTHING = 1e-30
"""Patches that a hidden token stands for: its logarithm hides it, and two of them can still merge."""


class HandoverRunner(Runner):
    """A module whose output readers get: its sizes are noted."""

    acceleration: Acceleration

    def __init__(self, site: Handover, acceleration: Acceleration) -> None:
        super().__init__(site.module, acceleration)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.original(*args, **kwargs)
        flow = self.acceleration.state.flow
        if flow is None or flow.depth < len(self.acceleration.blocks):
            return output
        self.acceleration.state.flow = None
        if not isinstance(output, Tensor):
            raise TurboError(
                f"{type(self.module).__name__} returned {type(output).__name__}: the adapter "
                f"{self.acceleration.adapter_name} hands its output to readers, which needs a tensor, b n d"
            )
        self.acceleration.readings.hand_over(output, flow.size)
        return output


class ReaderRunner(Runner):
    """A cross-attention layer on merged image tokens, after which more of them may merge."""

    acceleration: Acceleration

    def __init__(self, reader: Reader, depth: int | None, acceleration: Acceleration) -> None:
        super().__init__(reader.module, acceleration)
        self.reader = reader
        self.depth = depth  # None: nothing merges after it
        self.arguments = list(inspect.signature(reader.module.forward).parameters)
        # Image tokens have no queries here.
        self.settings = replace(acceleration.settings, metric="keys")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(self.arguments, args, strict=False)) | kwargs
        tokens, reader = given.get(self.reader.argument), self.reader
        if tokens is None:
            return self.original(*args, **kwargs)
        readings = self.acceleration.readings
        reading = None if self.depth is None else readings.enter(self.depth, tokens)
        size = readings.size_of(tokens) if reading is None else reading.size
        if reading is None and size is None:
            return self.original(*args, **kwargs)
        if self.depth is None or self.depth == 0:  # further readers have it in their sizes
            size = self._hide(tokens, size, given)
        q = reader.queries(given[self.arguments[0]])
        k, v = reader.keys_values(tokens if reading is None else reading.tokens, given)
        dropout = reader.dropout() if reader.module.training else 0.0
        y = proportional_attention(q, k, v, size, scale=reader.scale, dropout=dropout)
        if reading is not None:
            readings.leave(self._merge(reading._replace(size=size), q, k))
        return reader.output(y.transpose(1, 2).flatten(2))

    def _merge(self, reading: Reading, q: Tensor, k: Tensor) -> Reading:
        reader, drop = self.reader, reading.counts[reading.depth]
        after = reading._replace(depth=reading.depth + 1)
        if not drop:
            return after
        if q.shape[0] > k.shape[0] == 1:  # several texts for one image: each has its own attention
            reading, k = _expanded(reading, q.shape[0]), k.expand(q.shape[0], -1, -1, -1)
        elif k.shape[0] > q.shape[0] == 1:
            q = q.expand(k.shape[0], -1, -1, -1)
        match = match_tokens(
            q,
            k,
            q[:, :, :1] if reader.class_token else spread_queries(q),
            reading.size,
            reading.value,
            drop=drop,
            depth=reading.depth,
            protected=reader.protected,
            scale=reader.scale,
            settings=self.settings,
        )
        tokens, size = merge(reading.tokens, match.matching, reading.size)
        return after._replace(
            tokens=tokens, size=size, value=add_up(match.value, match.matching) if self.settings.momentum else None
        )

    def _hide(self, tokens: Tensor, size: Tensor | None, given: dict[str, Any]) -> Tensor | None:
        """Image tokens that a mask hides have size 0, but for rounding: the logarithm takes them out of attention.

        transformers leaves a mask of ones out where it can look at it, which a compiled model cannot.
        """
        mask = None if self.reader.mask is None else given.get(self.reader.mask)
        if not isinstance(mask, Tensor):
            return size
        if self.depth is not None and not torch.compiler.is_compiling():
            raise TurboError(
                f"{type(self.module).__name__} was called with {self.reader.mask}, which hides image tokens, and with "
                "cross_modal these merge: call without it, or leave cross_modal out"
            )
        if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[-1] != tokens.shape[1]:
            raise TurboError(
                f"{type(self.module).__name__} was called with {self.reader.mask} of shape {tuple(mask.shape)} for "
                f"{tokens.shape[1]} image tokens: turbo knows masks b 1 t n, the same for all of a text's tokens"
            )
        shown = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] >= 0
        if not torch.compiler.is_compiling() and not (shown == shown[:, :1]).all():
            raise TurboError(
                f"{type(self.module).__name__} was called with {self.reader.mask} that hides other image tokens from "
                "each of a text's tokens: turbo knows masks that are the same for all of them"
            )
        visible = shown[:, 0].float()
        return (visible if size is None else size * visible).clamp_min(_NOTHING)


def _expanded(reading: Reading, batch: int) -> Reading:
    """Image tokens of one image, once for each of several texts."""
    size, value = (None if each is None else each.expand(batch, -1) for each in (reading.size, reading.value))
    return reading._replace(tokens=reading.tokens.expand(batch, -1, -1), size=size, value=value)


def make_reader_runners(acceleration: Acceleration) -> list[Runner]:
    """Runners of what hands over and what reads."""
    runners: list[Runner] = []
    depth = 0
    for site in acceleration.sites:
        if isinstance(site, Handover):
            runners.append(HandoverRunner(site, acceleration))
        elif isinstance(site, Reader):
            merges = site in acceleration.readings.merging
            runners.append(ReaderRunner(site, depth if merges else None, acceleration))
            depth += merges
    return runners
