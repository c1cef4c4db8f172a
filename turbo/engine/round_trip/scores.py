"""What the tokens of a round-trip block are scored: redundancy, and a semantic value for each kind of part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turbo.adapters.base import split_heads
from turbo.adapters.round_trip import RoundTrip
from turbo.engine.round_trip.settings import RoundTripSettings
from turbo.engine.score import check_priority, full_precision
from turbo.fusion import Candidates
from turbo.information import mutual_redundancy, semantic_value, token_metric
from turbo.partition import Partition


@dataclass
class BlockScores:
    """What is known of a block's tokens at a step.

    Attributes:
        copies: how often the scored tokens stand in the batch: 2 where its halves are known to be twins, which are
            scored once.
        partition: roles of the tokens.
        redundancy: ``b m``.
        partner: ``b m`` int64.
        values: kind of value ("visual", "text") -> A of every token, ``b n``, in the units asked for.
    """

    copies: int
    partition: Partition
    redundancy: Tensor
    partner: Tensor
    values: dict[str, Tensor]

    def priority(self, kind: str, depth: int, settings: RoundTripSettings) -> Tensor:
        """The strategy's answer for one kind of value, ``b m``."""
        with torch.no_grad(), full_precision(self.redundancy.device.type):
            one = torch.ones_like(self.redundancy)
            value = self.values[kind]
            candidates = Candidates(
                redundancy=self.redundancy,
                value=value[:, self.partition.source],
                partner_value=value[:, self.partition.destination].gather(1, self.partner),
                size=one,
                partner_size=one,
                depth=depth,
            )
            priority = settings.strategy(candidates)
            check_priority(priority, candidates, settings.strategy_name)
        return priority


def score_tokens(
    block: RoundTrip, x: Tensor, partition: Partition, twins: Tensor | bool, settings: RoundTripSettings
) -> BlockScores:
    """Score a block's tokens from what enters self-attention.

    Args:
        block: the block.
        x: ``b n d``.
        partition: roles of the n tokens.
        twins: whether the batch's halves are the same latents without and with text; both then get the scores of
            the second, so that guidance compares two passes that merged alike.
        settings: metric and units.

    Returns:
        Redundancy, partners and the visual value.
    """
    with torch.no_grad():
        value = visual_value(block, x, twins)
        x = _second_half(x, twins)
        # Layers run as the user runs them, under autocast too; what is compared does not.
        compared = x if settings.metric == "hidden" else _mean_head(block.keys(), x, block.heads)
    with torch.no_grad(), full_precision(x.device.type):
        metric = token_metric(compared[:, None])
        redundancy, partner = mutual_redundancy(metric[:, partition.source], metric[:, partition.destination])
        values = {"visual": _in_units(value, settings)}
        copies = 2 if twins is True else 1
        return BlockScores(copies, partition, _twinned(redundancy, twins), _twinned(partner, twins), values)


def visual_value(block: RoundTrip, x: Tensor, twins: Tensor | bool) -> Tensor:
    """The visual semantic value A: shares that sum to 1.

    Under guidance it is the block's `guided_value` of the two halves; where they do not differ yet, and without
    guidance, its `visual_value`.

    Args:
        block: the block.
        x: ``b n d``, as it enters self-attention.
        twins: see `score_tokens`.

    Returns:
        ``b n``, or one row for each pair of known twins; float32.
    """
    own = block.visual_value(_second_half(x, twins)).float()
    if twins is not False:
        half = len(x) // 2
        change = block.guided_value(x[:half], x[half:]).float()
        told = change.sum(dim=1, keepdim=True) > 1e-3 * own[-half:].sum(dim=1, keepdim=True)
        change = torch.where(told, change, own[-half:])
        own = change if twins is True else torch.where(twins, torch.cat([change, change]), own)
    return own / own.sum(dim=1, keepdim=True).clamp_min(1e-30)


def add_text_value(
    scores: BlockScores, block: RoundTrip, query: Tensor, x: Tensor, twins: Tensor | bool, settings: RoundTripSettings
) -> None:
    """Add the text's attention to the image tokens, from what enters cross-attention.

    Args:
        scores: of the block at this step.
        block: the block.
        query: ``b h 1 e``, the key of the text's end-of-sequence token.
        x: ``b n d``.
        twins: see `score_tokens`; the half without text has nothing to say.
        settings: units.
    """
    with torch.no_grad():
        query, x = _second_half(query, twins), _second_half(x, twins)
        value = attention_of_query(query, block.queries(), x, block.scale)
        scores.values["text"] = _in_units(_twinned(value, twins), settings)


def attention_of_query(query: Tensor, layer: nn.Module, x: Tensor, scale: float | None) -> Tensor:
    """One query's attention to tokens that a linear layer maps to heads, averaged over heads.

    For a plain linear layer the query goes back through the weights, so that the tokens are never mapped: h rows of
    width d instead of n·h rows of width e. The layer's bias is the same for all tokens, and softmax does not see it.

    Args:
        query: ``b h 1 e``.
        layer: ``b n d`` -> ``b n (h e)``.
        x: ``b n d``.
        scale: what scores are multiplied by; None means 1/√e.

    Returns:
        ``b n``, float32, each row sums to 1.
    """
    heads = query.shape[1]
    if not _is_plain(layer, x):
        return semantic_value(query, split_heads(layer(x), heads), None, scale)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    weight = layer.weight.view(heads, query.shape[-1], -1)
    asked = torch.einsum("bhe,hed->bhd", query[:, :, 0] * scale, weight.to(query.dtype))
    scores = x @ asked.to(x.dtype).transpose(1, 2)
    return scores.float().softmax(dim=1).mean(dim=2)


def _mean_head(layer: nn.Module, x: Tensor, heads: int) -> Tensor:
    """A linear layer's output averaged over heads: ``b n d`` -> ``b n e``; for a plain one the weights are averaged."""
    if not _is_plain(layer, x):
        return split_heads(layer(x), heads).mean(dim=1)
    bias = None if layer.bias is None else layer.bias.view(heads, -1).mean(dim=0).to(x.dtype)
    return F.linear(x, layer.weight.view(heads, -1, layer.in_features).mean(dim=0).to(x.dtype), bias)


def _is_plain(layer: nn.Module, x: Tensor) -> TypeGuard[nn.Linear]:
    """Whether a layer does what its weight says: not a LoRA, not quantised, not offloaded, without hooks."""
    return (
        type(layer) is nn.Linear
        and type(layer.weight) is nn.Parameter
        and "forward" not in layer.__dict__
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
        and layer.weight.is_floating_point()
        and layer.weight.device == x.device
    )


def _second_half(x: Tensor, twins: Tensor | bool) -> Tensor:
    """The rows to score: where the halves are known to be twins, the second."""
    return x[len(x) // 2 :] if twins is True else x


def _twinned(x: Tensor, twins: Tensor | bool) -> Tensor:
    """The second half's rows for both halves, where the halves turn out to be twins."""
    if isinstance(twins, bool):
        return x
    second = x[len(x) // 2 :]
    return torch.where(twins, torch.cat([second, second]), x)


def _in_units(value: Tensor, settings: RoundTripSettings) -> Tensor:
    return value * value.shape[1] if settings.semantic_units == "relative" else value
