"""Checks of the order in which a strategy lets tokens merge."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from turbo.fusion import Candidates
from turbo.testing.cases import StrategyCase
from turbo.testing.compare import require
from turbo.testing.samples import DEPTHS, REDUNDANCIES, VALUES, map_tensors, sample, unequal

_ROUNDING = 1e-9
"""Relative; the checks of order run in double precision, where an expression is off by some 1e-15."""


def check_rises_in_redundancy(case: StrategyCase) -> None:
    """A token that is more alike to its partner never merges later."""
    for depth in DEPTHS:
        before = _rows(depth)
        for step in (1e-3, 0.1, 0.7, 2.0):
            after = _with_first(before, redundancy=(before.redundancy[:, 0] + step).clamp_max(1))
            _require_not_below(case, after, before, "a higher R")


def check_falls_in_value(case: StrategyCase) -> None:
    """A token that is attended more never merges earlier."""
    for depth in DEPTHS:
        before = _rows(depth)
        for step in (1e-3, 0.1, 3.0, 1e4):
            attended = _with_first(before, value=before.value[:, 0] + step)
            _require_not_below(case, before, attended, "a lower A")


def _rows(depth: int) -> Candidates:
    """Many small images; what is changed is their first token, which runs through all edges of R and A."""
    rows = sample(depth, images=2048, tokens=5)
    pairs = torch.cartesian_prod(*(torch.tensor(edges, dtype=torch.float64) for edges in (REDUNDANCIES, VALUES)))
    rows.redundancy[: len(pairs), 0], rows.value[: len(pairs), 0] = pairs.unbind(1)
    return rows


def _with_first(candidates: Candidates, **fields: Tensor) -> Candidates:
    changed = {}
    for name, first in fields.items():
        tensor = getattr(candidates, name).clone()
        tensor[:, 0] = first
        changed[name] = tensor
    return dataclasses.replace(candidates, **changed)


def _require_not_below(case: StrategyCase, better: Candidates, worse: Candidates, what: str) -> None:
    high, low = case.function(better)[:, 0], case.function(worse)[:, 0]
    below = low - high > _ROUNDING * (1 + high.abs())
    if below.any():
        i = int(below.nonzero()[0])
        found = "; ".join(
            f"R={c.redundancy[i, 0].item():.9g}, A={c.value[i, 0].item():.9g}, E={e[i].item():.9g}"
            for c, e in ((worse, low), (better, high))
        )
        raise AssertionError(
            f"with {what} the priority falls in block {better.depth}: {found} (a wrong sign; or a product of "
            "R and A, which changes its direction where R < 0)"
        )


def check_judges_each_token_by_itself(case: StrategyCase) -> None:
    """Permuting the tokens of an image permutes their priorities."""
    for depth in DEPTHS:
        candidates = sample(depth)
        order = torch.randperm(candidates.redundancy.shape[1], generator=torch.Generator().manual_seed(depth))
        shuffled = case.function(_take(candidates, (slice(None), order)))
        _require_same(
            shuffled,
            case.function(candidates)[:, order],
            "permuted tokens get other priorities (a strategy that goes by position on purpose: per_token=False)",
        )


def check_judges_each_image_by_itself(case: StrategyCase) -> None:
    """The images of a batch get the priorities that they get alone."""
    for depth in DEPTHS:
        candidates = sample(depth)
        together = case.function(candidates)
        for image in range(len(together)):
            alone = case.function(_take(candidates, slice(image, image + 1)))
            _require_same(
                alone[0],
                together[image],
                "an image gets other priorities in a batch than alone (a mean or a maximum over dimension 0, or "
                "over all)",
            )


def _take(candidates: Candidates, index: Any) -> Candidates:
    return map_tensors(candidates, lambda tensor: tensor[index])


def _require_same(found: Tensor, wanted: Tensor, message: str) -> None:
    require(found.shape == wanted.shape, f"{message}: shape {tuple(found.shape)}, not {tuple(wanted.shape)}")
    wrong = unequal(found, wanted, _ROUNDING)
    require(not wrong.any(), f"{message}: {int(wrong.sum())} of {wrong.numel()} differ")


CHECKS = (
    check_rises_in_redundancy,
    check_falls_in_value,
    check_judges_each_token_by_itself,
    check_judges_each_image_by_itself,
)
