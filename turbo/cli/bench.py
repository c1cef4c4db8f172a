"""``turbo bench``: how fast models are accelerated, and with ``--find`` from where on it pays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from turbo import defaults
from turbo.cli import options as opt
from turbo.cli.progress import progress
from turbo.cli.records import write_record
from turbo.denoisers import is_denoiser
from turbo.errors import TurboError
from turbo.models import LoadedModel, load_model

console = Console()


def bench(
    models: Annotated[list[str], typer.Argument(help=opt.MODEL_HELP)],
    strategy: Annotated[list[str] | None, typer.Option(help=f"{opt.STRATEGY_HELP} Each its own side.")] = None,
    drop: opt.Drop = None,
    ratio: opt.Ratio = None,
    speedup: opt.Speedup = None,
    threshold: opt.Threshold = 0,
    min_tokens: opt.MinTokens = 0,
    schedule: opt.ScheduleName = None,
    destinations: opt.Destinations = None,
    momentum: opt.Momentum = None,
    adapter: opt.Adapter = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per call; 1 by default.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Times each side is run, after one warm-up; 5 by default.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Time every side compiled with torch.compile.")] = False,
    find: Annotated[
        bool, typer.Option("--find", help="Find the sequence length, batch and drop from which merging pays here.")
    ] = False,
    batches: Annotated[str | None, typer.Option(help="With --find, images per call: 1,4,16 by default.")] = None,
    dtype: opt.Dtype = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here as well.")] = None,
) -> None:
    """Time models untouched and accelerated, interleaved: medians, FLOPs-ideal ratio, peak memory.

    With --find: from which sequence length, batch and drop merging pays on this machine.
    """
    from turbo.cli.specs import find_adapter, find_strategy

    # What can be wrong is found before a model is loaded, which takes its time.
    if denoisers := [name for name in models if is_denoiser(name)]:
        raise TurboError(
            f"{', '.join(denoisers)}: time a pipeline with `turbo generate`, and a UNet with benchmarks/sd_unet.py"
        )
    for name in models:
        opt.check_destinations(destinations, name)
    amounts = opt.schedule(drop, ratio, speedup, threshold, min_tokens, schedule)
    opt.check_dtype(dtype)
    common = {"destinations": destinations, "momentum": momentum, "adapter": find_adapter(adapter)}
    names = strategy or [defaults.STRATEGY]
    found = {name: find_strategy(name) for name in names}
    if find:
        limits = {"threshold": threshold or None, "min_tokens": min_tokens or None}
        _refuse({**amounts, **limits, "batch": batch, "rounds": rounds, "compile": compiled or None})
        if len(found) > 1:
            raise TurboError(f"--find with {len(found)} strategies: name one")
        records = _find(models, found[names[0]], common, opt.parse_batches(batches), dtype, device)
    else:
        if batches is not None:
            raise TurboError("--batches goes with --find; give --batch")
        sides: dict[str, dict[str, Any]] = {
            name: {"strategy": each, **amounts, **common} for name, each in found.items()
        }
        records = _compare(models, sides, batch or 1, rounds or 5, compiled, dtype, device)
    if json_file is not None:
        write_record(console, json_file, records)


def _compare(
    models: list[str],
    sides: Mapping[str, Mapping[str, Any]],
    batch: int,
    rounds: int,
    compiled: bool,
    dtype: str,
    device: str,
) -> list[dict[str, Any]]:
    from turbo.bench import compare
    from turbo.cli.tables import comparison_table

    records = []
    for name in models:
        loaded = _load(name, dtype, device)
        with progress(f"timing {name}", steps=rounds + 1) as advance:
            result = compare(loaded, sides, batch=batch, rounds=rounds, compiled=compiled, on_round=advance)
        console.print(comparison_table(result))
        records.append(result.to_json())
    return records


def _find(
    models: list[str], strategy: Any, common: dict[str, Any], batches: tuple[int, ...], dtype: str, device: str
) -> list[dict[str, Any]]:
    from turbo.bench.finding import LENGTHS, find_break_even
    from turbo.cli.tables import break_even_table

    options = {name: value for name, value in common.items() if value is not None}
    records = []
    for name in models:
        loaded = _load(name, dtype, device)
        steps = len(batches) * (len(LENGTHS) + 2)
        with progress(f"timing the blocks of {name}", steps=steps) as advance:
            result = find_break_even(loaded, strategy, batches=batches, lengths=LENGTHS, on_step=advance, **options)
        console.print(break_even_table(result))
        for batch in result.batches:
            console.print(batch.sentence, highlight=False)
        records.append(result.to_json())
    return records


def _load(name: str, dtype: str, device: str) -> LoadedModel:
    import torch

    with progress(f"loading {name}"):
        loaded = load_model(name)
        loaded.model.to(device, getattr(torch, dtype))
    return loaded


def _refuse(given: Mapping[str, object]) -> None:
    """Options that make no sense where the amount and the batch are what is searched for."""
    if names := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
        instead = "; for images per call give --batches" if "--batch" in names else ""
        raise TurboError(
            f"{', '.join(names)} cannot apply with --find, which times single blocks with the default amount and with "
            f"constant drops{instead}; leave it out"
        )
