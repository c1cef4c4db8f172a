"""What `accelerate` was asked for on a denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from turbo.adapters.round_trip import PART_NAMES, RoundTrip
from turbo.engine.acceleration import Metric
from turbo.engine.round_trip.partition import Destinations, most_mergeable
from turbo.errors import TurboError
from turbo.fusion import Strategy
from turbo.ratios import Ratio, Ratios

DEFAULT_RATIO = 0.5
DEFAULT_PARTS = ("self_attention",)


@dataclass(frozen=True)
class RoundTripSettings:
    """The options of `accelerate` that concern a denoiser, checked."""

    strategy: Strategy
    strategy_name: str
    semantic_units: Literal["relative", "probability"]
    metric: Metric
    ratios: Ratios
    max_downsample: int
    refresh_every: int
    destinations: Destinations
    seed: int


def make_settings(
    blocks: Sequence[RoundTrip],
    *,
    strategy: Strategy,
    strategy_name: str,
    semantic_units: Literal["relative", "probability"],
    metric: Metric,
    ratio: Ratio | Mapping[str, Ratio] | None,
    max_downsample: int | None,
    refresh_every: int | None,
    destinations: Destinations | None,
    seed: int | None,
) -> RoundTripSettings:
    """Check the options against each other and the blocks; None takes the default.

    Raises:
        TurboError: an option makes no sense, or nothing would merge.
    """
    chosen = "grid" if destinations is None else destinations
    if chosen not in get_args(Destinations):
        raise TurboError(f"destinations={chosen!r}: must be {' or '.join(map(repr, get_args(Destinations)))}")
    known = [part for part in PART_NAMES if any(part in block.parts for block in blocks)]
    wanted = DEFAULT_RATIO if ratio is None else ratio
    return RoundTripSettings(
        strategy=strategy,
        strategy_name=strategy_name,
        semantic_units=semantic_units,
        metric=metric,
        ratios=Ratios.parse(wanted, known, DEFAULT_PARTS, most_mergeable(chosen)),
        max_downsample=_checked_downsample(max_downsample, blocks),
        refresh_every=_checked_int("refresh_every", refresh_every, default=1, least=1),
        destinations=chosen,
        seed=_checked_int("seed", seed, default=0, least=0, most=2**31 - 1),
    )


def _checked_downsample(given: int | None, blocks: Sequence[RoundTrip]) -> int:
    """The coarsest resolution at which blocks merge; the finest one that has blocks if nothing is asked for."""
    finest = min(block.downsample for block in blocks)
    most = _checked_int("max_downsample", given, default=finest, least=1)
    if most < finest:
        raise TurboError(
            f"max_downsample={most}: nothing would merge, the finest transformer blocks of this model have downsample "
            f"{finest}; leave it out, or give {finest} or more"
        )
    return most


def _checked_int(name: str, given: Any, *, default: int, least: int, most: int | None = None) -> int:
    if given is None:
        return default
    if not isinstance(given, int) or isinstance(given, bool) or given < least or (most is not None and given > most):
        raise TurboError(
            f"{name}={given!r}: must be a whole number, {least} {'or more' if most is None else f'to {most}'}"
        )
    return given
