"""The rows of the paper's tables as settings of a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import turbo
from turbo import defaults
from turbo.engine.acceleration import Acceleration
from turbo.engine.install import require_acceleration
from turbo.errors import TurboError
from turbo.evaluation.paper.printed import (
    TABLE_1,
    TABLE_2,
    FusionRow,
    Units,
    beta_in,
    drop_in,
    gamma_in,
    threshold_in,
)
from turbo.evaluation.settings import Setting
from turbo.fusion import S1, S2, S3, S4, Strategy, Ward
from turbo.models import LoadedModel
from turbo.schedule import Schedule

OTHERS: dict[str, str | Strategy] = {
    "tome": "tome",
    "bound": "bound",
    "ward floor=0": Ward(0.0),
    "distortion": "distortion",
    "attention": "attention",
    "random": "random",
}
"""Strategies that the paper does not have, for comparison."""
DEFAULT: str = defaults.STRATEGY
"""What turbo uses where no strategy is named."""
_PUBLISHED = {"destinations": "parity", "metric": "keys", "momentum": 0.0}  # whatever turbo's defaults are


class Shape(NamedTuple):
    """Tokens that enter a model's first block, and its blocks."""

    tokens: int
    blocks: int


def encoder_shape(loaded: LoadedModel) -> Shape:
    """Count a model's tokens and blocks.

    Raises:
        TurboError: the model is not supported, or its tokens are restored after each part.
    """
    with turbo.accelerated(loaded.model, drop=1):
        model = _require_staying(loaded)
    return Shape(model.n, len(model.blocks))


def constant_drop(loaded: LoadedModel, factor: float = 2.0) -> int:
    """The smallest constant Υ that lets the FLOPs of a model's blocks fall by a factor.

    The last blocks may have less than twice as many tokens left; then they merge half of them, as in table 2.

    Args:
        loaded: the model.
        factor: by how much FLOPs should fall.

    Raises:
        TurboError: none does.

    Examples:
        >>> from turbo.models import load_model
        >>> constant_drop(load_model("zoo:vit-digits"))
        29
    """
    with turbo.accelerated(loaded.model, drop=1):
        model = _require_staying(loaded)
    for drop in range(1, model.n):
        plan = Schedule(drop=drop).plan(model.n, len(model.blocks), model.protected)
        if plan.speedup(model.flops) >= factor:
            return drop
    raise TurboError(f"no constant drop lets the FLOPs of {loaded.name} fall by {factor:g}x: give one with --drop")


def fusion_settings(shape: Shape, drop: int, units: Units) -> dict[str, Setting]:
    """Table 1 for a model: the paper's rows, turbo's default and what there is to compare with.

    Args:
        shape: of the model.
        drop: Υ, which the supplement does not print.
        units: how α is read.

    Returns:
        Name of the row -> setting. All merge the same number of tokens; the paper's rows and those of `OTHERS` choose
        receivers and compare tokens as published, turbo's default does as it does without being told, even where it is
        one of `OTHERS`.
    """
    common = {"drop": drop, "semantic_units": units.semantic_units, **_PUBLISHED}
    found = {row.name: {"strategy": _strategy(row, shape.blocks, units), **common} for row in TABLE_1}
    found[DEFAULT] = {"strategy": DEFAULT, "drop": drop}
    found |= {name: {"strategy": strategy, **common} for name, strategy in OTHERS.items() if name not in found}
    return {name: Setting.of(name, options) for name, options in found.items()}


def threshold_settings(shape: Shape, units: Units) -> dict[str, Setting]:
    """Table 2 for a model, with the strategy that the paper adopts: S1 with α = 6.

    Raises:
        TurboError: the model has so few tokens that two rows would be the same.
    """
    strategy = _strategy(TABLE_1[0], shape.blocks, units)
    amounts = {row: (drop_in(*shape, row.drop), threshold_in(shape.tokens, row.threshold)) for row in TABLE_2}
    if len(set(amounts.values())) < len(amounts) or min(amounts.values())[0] < 1:
        listed = ", ".join(f"{drop}/{threshold}" for drop, threshold in amounts.values())
        raise TurboError(
            f"{shape.tokens} tokens in {shape.blocks} blocks are too few to tell the rows of table 2 apart: as shares "
            f"of the tokens they are {listed} (Υ/threshold)"
        )
    common = {"strategy": strategy, "semantic_units": units.semantic_units, **_PUBLISHED}
    return {
        row.name: Setting.of(row.name, {**common, "drop": drop, "threshold": threshold})
        for row, (drop, threshold) in amounts.items()
    }


def _require_staying(loaded: LoadedModel) -> Acceleration:
    """The acceleration of a model whose tokens stay merged."""
    found = require_acceleration(loaded.model)
    if not isinstance(found, Acceleration):
        raise TurboError(f"{loaded.name} restores its tokens after each part: the paper's tables are of captioners")
    return found


def _strategy(row: FusionRow, blocks: int, units: Units) -> Strategy:
    given: dict[str, Any] = {}
    if row.alpha is not None:
        given["alpha"] = units.alpha(row.alpha)
    if row.beta is not None and row.gamma is not None:
        given |= {"beta": beta_in(blocks, row.beta), "gamma": gamma_in(blocks, row.gamma)}
    kinds: dict[str, Any] = {"S1": S1, "S2": S2, "S3": S3, "S4": S4}
    made: Strategy = kinds[row.strategy](**given)
    return made
