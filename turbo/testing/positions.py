"""Checks of blocks that are told the places of patches: rotary positions."""

from __future__ import annotations

import torch
from torch import Tensor

from turbo.adapters import RotaryBlock
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import require_close, require_equal
from turbo.testing.probe import Call, list_blocks, watch
from turbo.testing.results import NotApplicable

_PATCHES = 3
"""In each of the two groups that merge."""


def check_merged_places_are_means(case: AdapterCase) -> None:
    """A score at two mean places is the mean of the scores at the places themselves, and given() undoes turns()."""
    model = case.make_model()
    blocks = list_blocks(case, model)
    if not any(isinstance(block, RotaryBlock) for block in blocks):
        raise NotApplicable("no block is told the places of its patches")
    calls = watch(case, model, blocks, case.make_inputs())
    for depth, (block, call) in enumerate(zip(blocks, calls, strict=True)):
        if isinstance(block, RotaryBlock):
            _require_inverse(block, call, depth)
            _require_linear(block, call, depth)


def _require_inverse(block: RotaryBlock, call: Call, depth: int) -> None:
    turns = block.turns(call.positions)
    for name, found, wanted in zip(("cosines", "sines"), block.turns(block.given(*turns)), turns, strict=True):
        require_equal(found, wanted, f"block {depth}: given() does not undo turns(), {name} come back as others")


@torch.no_grad()
def _require_linear(block: RotaryBlock, call: Call, depth: int) -> None:
    """One query in some places, one key in others: all their scores, and the one at the mean places."""
    q, k, _ = block.qkv(call.x[:1])
    places = block.places(call.positions, call.x.shape[1])[:1]
    first, second = places[:, -_PATCHES:], places[:, -2 * _PATCHES : -_PATCHES]
    queries, keys = (part[:, :, -1:].expand(-1, -1, _PATCHES, -1) for part in (q, k))
    scores = _scores(block, queries, keys, first, second)
    middle = [group.mean(dim=1, keepdim=True) for group in (first, second)]
    found = _scores(block, queries[:, :, :1], keys[:, :, :1], *middle)
    require_close(
        # At the scale of the scores themselves, which may cancel in a mean.
        found - scores.mean(dim=(2, 3), keepdim=True) + scores,
        scores,
        f"block {depth}: a score at mean places is not the mean of the scores (rotate() must be linear in cosines and "
        "sines: turns() may return no angles, rotate() may bring nothing back to length 1)",
    )


def _scores(block: RotaryBlock, q: Tensor, k: Tensor, of_q: Tensor, of_k: Tensor) -> Tensor:
    turned, _ = block.turn(q, q, of_q)
    _, against = block.turn(k, k, of_k)
    return turned @ against.transpose(2, 3)


CHECKS = (check_merged_places_are_means,)
