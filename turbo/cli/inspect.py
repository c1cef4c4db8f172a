"""``turbo inspect``: what would be merged where, and FLOPs before and after, without running the model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import turbo
from turbo.cli import options as opt
from turbo.cli.progress import progress
from turbo.denoisers import OFFICIAL_UNETS, build_unet, is_denoiser, load_pipeline
from turbo.errors import TurboError, TurboWarning
from turbo.models import load_model
from turbo.reporting import BlockReport, PartReport, Report

console = Console()


def inspect(
    model: opt.Model,
    strategy: opt.AnyStrategy = None,
    drop: opt.Drop = None,
    ratio: opt.Ratio = None,
    speedup: opt.Speedup = None,
    threshold: opt.Threshold = 0,
    min_tokens: opt.MinTokens = 0,
    schedule: opt.ScheduleName = None,
    destinations: opt.Destinations = None,
    parts: opt.Parts = None,
    max_downsample: opt.MaxDownsample = None,
    adapter: opt.Adapter = None,
) -> None:
    """What would be merged where, and FLOPs before and after, without running the model."""
    staying = drop, ratio, speedup, threshold, min_tokens, schedule
    # Before the model is loaded, which takes its time.
    arguments = find_arguments(model, strategy, staying, destinations, parts, max_downsample, adapter)
    with progress(f"loading {model}"):
        loaded = _load(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TurboWarning)  # the report repeats it
        report = turbo.report(turbo.accelerate(loaded, **arguments))
    show_report(report)


def find_arguments(
    model: str,
    strategy: str | None,
    amount: tuple[str | None, float | None, float | None, int, int, str | None],
    destinations: str | None,
    parts: str | None,
    max_downsample: int | None,
    adapter: str | None,
) -> dict[str, Any]:
    """The keyword arguments of `turbo.accelerate` that the options stand for; nothing of the model is loaded.

    Args:
        model: its name: a denoiser has options of its own.
        strategy: as given, as are the others.
        amount: drop, ratio, speedup, threshold, min_tokens and schedule.
        destinations: of either kind.
        parts: of a denoiser.
        max_downsample: of a denoiser.
        adapter: of either kind.

    Raises:
        TurboError: they do not fit the model or each other.
    """
    from turbo.cli.specs import find_adapter, find_strategy

    opt.check_destinations(destinations, model)
    drop, ratio, speedup, threshold, min_tokens, schedule = amount
    denoiser = {"parts": parts, "max_downsample": max_downsample}
    arguments: dict[str, Any] = {}
    if is_denoiser(model):
        staying = {
            "drop": drop,
            "speedup": speedup,
            "threshold": threshold or None,
            "min_tokens": min_tokens or None,
            "schedule": schedule,
        }
        require_none(staying, model, "its parts merge a --ratio")
        share = 0.5 if ratio is None else ratio
        arguments["ratio"] = share if parts is None else opt.parse_parts(parts, share)
        arguments["max_downsample"] = max_downsample
    else:
        require_none(
            denoiser, model, "they are for denoisers: random:sd15-unet, zoo:t2i-scenes, or a local folder of a pipeline"
        )
        arguments = opt.schedule(drop, ratio, speedup, threshold, min_tokens, schedule)
    if strategy is not None:
        arguments["strategy"] = find_strategy(strategy)
    return arguments | {"destinations": destinations, "adapter": find_adapter(adapter)}


def _load(name: str) -> Any:
    if not is_denoiser(name):
        return load_model(name).model
    unet = name.removeprefix("random:")
    return build_unet(unet, "meta") if unet in OFFICIAL_UNETS else load_pipeline(name)


def require_none(options: Mapping[str, Any], model: str, why: str) -> None:
    """Refuse options that are given and cannot apply."""
    if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
        raise TurboError(f"{', '.join(given)} cannot apply to {model}: {why}")


def show_report(report: Report) -> None:
    """Print a report as a table."""
    columns = ["block", "tokens in", "merged", "tokens out"]
    rows: list[tuple[Any, ...]] = [(b.depth, b.tokens_in, b.merged, b.tokens_out) for b in report.blocks]
    size, whole = "per image", "the blocks"
    if report.latents is not None:
        columns = ["downsample", "blocks", "part", "tokens", "run on"]
        rows = [(p.downsample, p.blocks, p.part, p.tokens_in, p.tokens_run) for p in report.parts]
        size, whole = f"one step on latents of {report.latents[0]} x {report.latents[1]}", "the whole step"
    table = Table(*columns, "GFLOPs", "untouched", title_justify="left")
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    # A list among a strategy's settings is no markup.
    table.title = f"{report.model} ({report.adapter} adapter), strategy {escape(report.strategy)}, {size}"
    costs: Sequence[BlockReport | PartReport] = report.blocks or report.parts
    for row, cost in zip(rows, costs, strict=True):
        table.add_row(*map(str, row), _giga(cost.flops), _giga(cost.flops_untouched))
    console.print(table)
    console.print(f"FLOPs of {whole} fall by [bold]{report.achieved:.2f}x[/bold]")
    for note in report.notes:
        console.print(f"note: {note}", style="yellow")


def _giga(flops: int) -> str:
    value = flops / 1e9
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
