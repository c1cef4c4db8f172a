"""The one verb, and how to undo, scope and inspect it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from turbo import defaults
from turbo.adapters.base import Adapter
from turbo.adapters.reader import Reader
from turbo.adapters.round_trip import RoundTrip
from turbo.drops import Shape
from turbo.engine.acceleration import Acceleration, Metric, Settings
from turbo.engine.calibration import calibrate as run_calibration
from turbo.engine.detect import find_tower, list_sites
from turbo.engine.install import find_acceleration, find_accelerations, install, require_acceleration, swap, uninstall
from turbo.engine.options import (
    checked_calibrate,
    checked_cross_modal,
    checked_halves,
    checked_momentum,
    require_choice,
    require_none,
)
from turbo.engine.round_trip.generation import Generation
from turbo.engine.round_trip.partition import Destinations
from turbo.engine.round_trip.settings import make_settings
from turbo.engine.strategy import find_strategy
from turbo.errors import TurboWarning
from turbo.fusion import Strategy
from turbo.partition import Halves
from turbo.plugins import adapters, strategies
from turbo.ratios import Ratio
from turbo.reporting import Report, make_report
from turbo.schedule import Schedule

ModelT = TypeVar("ModelT")


def accelerate(
    model: ModelT,
    strategy: str | Strategy | None = None,
    *,
    drop: int | Sequence[int] | None = None,
    ratio: Ratio | Mapping[str, Ratio] | None = None,
    speedup: float | None = None,
    threshold: int = 0,
    min_tokens: int = 0,
    schedule: Shape | None = None,
    calibrate: bool | int = False,
    metric: Metric = defaults.METRIC,
    semantic_units: Literal["relative", "probability"] = defaults.SEMANTIC_UNITS,
    momentum: float | None = None,
    cross_modal: float = defaults.CROSS_MODAL,
    max_downsample: int | None = None,
    refresh_every: int | None = None,
    destinations: Halves | Destinations | None = None,
    seed: int | None = None,
    adapter: str | Adapter | None = None,
) -> ModelT:
    """Make a model faster by merging its least informative tokens, in place.

    With none of drop, ratio and speedup round(0.55·n) tokens merge, the most in the first block and fewer in each
    further one, and the blocks' FLOPs fall by about 1.6; in a denoiser self-attention merges half of its tokens. A
    second call replaces the settings of the first. Nothing is trained, no weight changes, and `restore` gives back
    the model bit for bit.

    Args:
        model: a supported model, one that contains exactly one supported vision tower, or a diffusers pipeline, whose
            UNet is accelerated.
        strategy: how redundancy and semantic value are fused: a registered name or a callable that takes
            `turbo.fusion.Candidates`. None takes "ward" where tokens stay merged, "s1" in a denoiser.
        drop: Υ, tokens merged per block: one count for all or one per block. 0 runs the model's own forward.
        ratio: fraction of the tokens a block sees that it merges, above 0, at most 0.5. In a denoiser, of the tokens
            that a part of a block sees, 0 to 0.75: a number for the default parts, a dict from "self_attention",
            "cross_attention" and "feed_forward" to one each, and in place of a number a function of the timestep.
        speedup: factor by which the blocks' FLOPs should fall, or with `calibrate` their time; turbo solves for the
            drops.
        threshold: a block merges only while its sequence is at least this long (supplement, section 1.1).
        min_tokens: no merge leaves fewer tokens than this.
        schedule: in which blocks the tokens of a speedup merge: "constant" counts; "decreasing" ones, the default, or
            "increasing" ones, in a straight line; or "early": each block merges half of its tokens, until the factor
            is reached.
        calibrate: True or a number of images per call (True is 1): the blocks are timed now, on random tokens on the
            model's own device, and the drops solved so that their time falls by the speedup. It takes a few seconds, or
            some twenty forward passes where these take longer. The plan then stays: it is for this machine, this many
            images, and the model as it now runs (not compiled). A TurboWarning says so where it falls short.
        metric: tokens are compared by their "keys" or their "queries"; in a denoiser by their keys or by the "hidden"
            states that enter self-attention, which takes longer and suits feed-forward and cross-attention better.
        semantic_units: "relative" hands A to the strategy times the number of tokens (mean 1), "probability" as
            it is.
        momentum: of A: how much of it comes from the blocks before, at least 0 and below 1. 0 takes each block's own
            attention, as the paper does. Nothing comes from another block in a denoiser.
        cross_modal: of a text model that attends to image tokens, as BLIP's do: share of the image tokens that merge
            after each of its layers, at most 0.5, guided by the text's class token. 0, the default, merges none there.
            Either way image tokens that the vision tower merged are attended to as the patches that they stand for; to
            leave the text model as it is, accelerate the vision tower alone. `threshold` and `min_tokens` hold there,
            too.
        max_downsample: of a denoiser, the coarsest resolution at which blocks merge: latent pixels per token along an
            axis. None takes the finest at which the model has transformer blocks (1 in Stable Diffusion 1 and 2, 2 in
            XL).
        refresh_every: of a denoiser, for how many steps a matching serves; 1 makes a new one at every step.
        destinations: which tokens may receive others. "parity" (the default in a vision tower): every other position
            of the sequence, which merging reorders; "ordered": the same, and the sequence keeps the image's order;
            "alternating": as parity, but in every second block receivers and mergers change roles. Of a denoiser:
            "grid" (the default), one in every 2 x 2 positions, drawn anew at every step; or "parity".
        seed: of a denoiser, fixes that draw together with the timestep.
        adapter: which description of the model to use; found by itself when None.

    Returns:
        The same model.

    Raises:
        TurboError: the model is unsupported, options exclude each other or make no sense, or the strategy does
            not work. The model is then as it was.

    Examples:
        >>> from transformers import ViTConfig, ViTModel
        >>> model = ViTModel(ViTConfig(hidden_size=48, num_hidden_layers=4, num_attention_heads=4)).eval()
        >>> model = accelerate(model, strategy="s1", drop=16)
        >>> print(report(model).blocks[3].tokens_out)
        133
    """
    require_choice("semantic_units", semantic_units, ("relative", "probability"))
    staying = {
        "drop": drop,
        "speedup": speedup,
        "threshold": threshold or None,
        "min_tokens": min_tokens or None,
        "schedule": schedule,
        "calibrate": None if calibrate is False else calibrate,
        "momentum": momentum,
        "cross_modal": cross_modal or None,
    }
    restored = {"max_downsample": max_downsample, "refresh_every": refresh_every, "seed": seed}
    tower, adapter_name, found = find_tower(model, adapter)
    sites = list_sites(tower, adapter_name, found)
    acceleration: Acceleration | Generation
    blocks = [site for site in sites if isinstance(site, RoundTrip)]
    name, function = find_strategy(strategy, bool(blocks), semantic_units)
    if blocks:
        require_choice("metric", metric, ("keys", "hidden"))
        require_none(staying, tower, "merge a ratio in each part, each block by itself")
        round_trip = make_settings(
            blocks,
            strategy=function,
            strategy_name=name,
            semantic_units=semantic_units,
            metric=metric,
            ratio=ratio,
            destinations=destinations,  # type: ignore[arg-type]
            **restored,
        )
        acceleration = Generation(tower, adapter_name, sites, round_trip)
    else:
        require_choice("metric", metric, ("keys", "queries"))
        require_none(restored, tower, "keep their tokens merged, and have none of this")
        halves = checked_halves(destinations, tower)
        wanted = tuple(drop) if isinstance(drop, Sequence) and not isinstance(drop, str) else drop
        asked = Schedule(wanted, ratio, speedup, threshold, min_tokens, schedule)  # type: ignore[arg-type]
        share, images = checked_momentum(momentum), checked_calibrate(calibrate, speedup)
        readers = [site for site in sites if isinstance(site, Reader)]
        reading = checked_cross_modal(cross_modal, readers, tower)
        settings = Settings(function, name, asked, metric, semantic_units, halves, share, reading)
        acceleration = Acceleration(tower, adapter_name, sites, found.shape(tower), settings)
        if images is not None:
            calibration, plan = run_calibration(acceleration, images)
            acceleration.adopt(plan, calibration)
        acceleration.plan(acceleration.n)  # what cannot work says so now, not at the first image
    swap(model, acceleration)
    return model


def restore(model: ModelT) -> ModelT:
    """Undo `accelerate`: the very model you had, with no trace.

    Args:
        model: an accelerated model. A TurboWarning says so if it is not.

    Returns:
        The same model.

    Examples:
        >>> from transformers import ViTConfig, ViTModel
        >>> model = accelerate(ViTModel(ViTConfig(hidden_size=48, num_hidden_layers=4, num_attention_heads=4)))
        >>> "forward" in restore(model).layers[0].__dict__
        False
    """
    found = find_accelerations(model)
    if not found:
        warnings.warn(f"this {type(model).__name__} is not accelerated: nothing to restore", TurboWarning, stacklevel=2)
    for acceleration in found:
        uninstall(acceleration)
    return model


@contextmanager
def accelerated(model: ModelT, strategy: str | Strategy | None = None, **options: Any) -> Iterator[ModelT]:
    """`accelerate` for the length of a `with` block; afterwards the model is as it was before, accelerated or not.

    Args:
        model: as for `accelerate`.
        strategy: as for `accelerate`.
        **options: the keyword arguments of `accelerate`.

    Yields:
        The same model.

    Examples:
        >>> from transformers import ViTConfig, ViTModel
        >>> model = ViTModel(ViTConfig(hidden_size=48, num_hidden_layers=4, num_attention_heads=4))
        >>> with accelerated(model, drop=16):
        ...     print(report(model).n)
        197
    """
    before = find_acceleration(model)
    accelerate(model, strategy, **options)
    try:
        yield model
    finally:
        if (now := find_acceleration(model)) is not None:
            uninstall(now)
        if before is not None:
            install(before)


def report(model: object) -> Report:
    """What an accelerated model does, block by block: tokens in and out, FLOPs; promised and measured speed-up.

    Args:
        model: an accelerated model.

    Returns:
        A report; `print` it, or read its fields.

    Raises:
        TurboError: the model is not accelerated.

    Examples:
        >>> from transformers import ViTConfig, ViTModel
        >>> model = ViTModel(ViTConfig(hidden_size=48, num_hidden_layers=4, num_attention_heads=4))
        >>> round(report(accelerate(model, speedup=1.5)).achieved, 1)
        1.5
    """
    return make_report(require_acceleration(model))


def list_adapters() -> list[str]:
    """Names of all adapters, turbo's own and those of installed plug-ins; imports none of them.

    Examples:
        >>> "clip" in list_adapters()
        True
    """
    return adapters.names()


def list_strategies() -> list[str]:
    """Names of all fusion strategies, turbo's own and those of installed plug-ins; imports none of them.

    Examples:
        >>> "s1" in list_strategies()
        True
    """
    return strategies.names()
