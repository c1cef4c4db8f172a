"""From one layer's q and k to the matching: metric, partition, information degree, choice."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor

from turbo.engine.acceleration import Settings
from turbo.errors import TurboError
from turbo.fusion import Candidates, Strategy
from turbo.information import mutual_redundancy, running_value, semantic_value, token_metric
from turbo.matching import Matching, in_order, select
from turbo.partition import Halves, Partition, Positions, alternating, parity

_DEEP = 47
"""Index of a block as deep as models go: what depends on depth is tried there too."""


class Match(NamedTuple):
    """What a block decided, and on which grounds.

    Attributes:
        matching: which tokens merge.
        candidates: what the strategy saw.
        priority: ``b m``, what it answered.
        value: ``b n``, A of every token as a share of attention.
        source: positions of the tokens that might have merged.
    """

    matching: Matching
    candidates: Candidates
    priority: Tensor
    value: Tensor
    source: Positions


def match_tokens(
    q: Tensor,
    k: Tensor,
    query: Tensor,
    size: Tensor | None,
    before: Tensor | None = None,
    *,
    drop: int,
    depth: int,
    protected: int,
    scale: float | None,
    settings: Settings,
) -> Match:
    """Choose which `drop` tokens merge into which.

    Args:
        q: ``b h n e``.
        k: ``b h n e``.
        query: ``b h m e``, whose attention, averaged over the m, is the semantic value.
        size: ``b n`` or None.
        before: ``b n``, A of the blocks before; None in the first one that merges.
        drop: tokens to merge.
        depth: index of the block.
        protected: leading tokens that never merge.
        scale: what attention scores are multiplied by.
        settings: metric, units and momentum of A, strategy, and how tokens split into sources and destinations.
    """
    with torch.no_grad(), full_precision(q.device.type):
        metric = token_metric(k if settings.metric == "keys" else q)
        partition = _split(k.shape[2], protected, depth, settings.destinations)
        redundancy, partner = mutual_redundancy(metric[:, partition.source], metric[:, partition.destination])
        value = running_value(semantic_value(query, k, size, scale), before, settings.momentum)
        given = value * value.shape[1] if settings.semantic_units == "relative" else value
        candidates = _candidates(redundancy, partner, given, size, partition, depth)
        priority = settings.strategy(candidates)
        check_priority(priority, candidates, settings.strategy_name)
        matching = select(priority, partner, drop, partition)
        if settings.destinations == "ordered":
            matching = in_order(matching)
        return Match(matching, candidates, priority, value, partition.source)


def _split(n: int, protected: int, depth: int, destinations: Halves) -> Partition:
    return alternating(n, protected, depth) if destinations == "alternating" else parity(n, protected)


def _candidates(
    redundancy: Tensor, partner: Tensor, value: Tensor, size: Tensor | None, partition: Partition, depth: int
) -> Candidates:
    if size is None:
        source_size = partner_size = torch.ones_like(redundancy)
    else:
        source_size = size[:, partition.source]
        partner_size = size[:, partition.destination].gather(1, partner)
    return Candidates(
        redundancy=redundancy,
        value=value[:, partition.source],
        partner_value=value[:, partition.destination].gather(1, partner),
        size=source_size,
        partner_size=partner_size,
        depth=depth,
    )


def check_priority(priority: object, candidates: Candidates, name: str) -> None:
    """Raise TurboError where a strategy returned anything but one finite-ordered number per source.

    NaN is looked for on the CPU only: elsewhere it would stall the device (`check_strategy` has looked before).
    """
    wanted = candidates.redundancy
    if not isinstance(priority, Tensor):
        raise TurboError(f"strategy {name} returned {type(priority).__name__}: it must return a tensor, b m")
    if priority.shape != wanted.shape:
        raise TurboError(
            f"strategy {name} returned shape {tuple(priority.shape)} for candidates of shape "
            f"{tuple(wanted.shape)}: it must return one priority per source, b m"
        )
    if priority.device != wanted.device:
        raise TurboError(f"strategy {name} returned a tensor on {priority.device}, the model is on {wanted.device}")
    if not priority.is_floating_point():
        raise TurboError(f"strategy {name} returned {priority.dtype}: priorities must be floating point")
    known = type(priority) is Tensor and priority.device.type == "cpu"  # a fake tensor has no values
    if known and not torch.compiler.is_compiling() and priority.isnan().any():
        raise TurboError(
            f"strategy {name} returned NaN in block {candidates.depth}: check divisions and logarithms at A = 0, R < 0"
        )


def check_strategy(strategy: Strategy, name: str) -> None:
    """Try a strategy on candidates at the edges of every domain, before any model is touched."""
    edge = torch.tensor([-1.0, -0.5, 0.0, 0.5, 0.999, 1.0])
    values = torch.tensor([0.0, 1e-8, 0.5, 1.0, 3.0, 100.0])
    redundancy = edge.repeat_interleave(len(values)).expand(2, -1).clone()
    value = values.repeat(len(edge)).expand(2, -1).clone()
    size = torch.arange(1.0, redundancy.shape[1] + 1).expand(2, -1).clone()
    for depth in (0, _DEEP):
        candidates = Candidates(redundancy, value, value.flip(1), size, size.flip(1), depth)
        try:
            priority = strategy(candidates)
        except Exception as error:
            raise TurboError(
                f"strategy {name} failed on sample candidates of block {depth}: {type(error).__name__}: {error}"
            ) from error
        check_priority(priority, candidates, name)


def full_precision(device: str) -> contextlib.AbstractContextManager[object]:
    """Scores are compared, so autocast stays out of them."""
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()
