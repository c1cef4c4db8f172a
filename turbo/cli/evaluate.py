"""``turbo eval``: quality by the field's metrics against measured speed, for a grid of settings."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from turbo import defaults
from turbo.cli import options as opt
from turbo.cli.progress import progress
from turbo.denoisers import is_denoiser
from turbo.errors import TurboError

if TYPE_CHECKING:
    from turbo.evaluation.data.sources import Task
    from turbo.evaluation.tasks.job import Decoding
    from turbo.models import LoadedModel

console = Console()


def evaluate(
    model: Annotated[str, typer.Option(help=opt.MODEL_HELP)],
    data: Annotated[
        str,
        typer.Option(
            help="scenes or digits (the zoo's, on both grounds; scenes:plain, …), coco:FOLDER, flickr30k:FOLDER, "
            "vqav2:FOLDER or imagenet:FOLDER."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that stopped goes on there.")],
    strategies: Annotated[
        str, typer.Option(help="Strategies with commas between: s1,s4(alpha=0.3,beta=0.9),package.module:Name,…")
    ] = f"{defaults.STRATEGY},tome",
    drop: Annotated[
        str | None, typer.Option(help="Tokens merged per block: 10,20,… each its own setting; one per block: 30:20:10.")
    ] = None,
    ratio: Annotated[str | None, typer.Option(help="Fractions of its tokens that a block merges: 0.1,0.2,…")] = None,
    speedup: Annotated[str | None, typer.Option(help="Factors by which the blocks' FLOPs fall: 1.5,2,…")] = None,
    threshold: Annotated[str, typer.Option(help="Merge only while the sequence is at least this long: 0,40,…")] = "0",
    min_tokens: Annotated[str, typer.Option(help="Never leave fewer tokens than this: 0,60,…")] = "0",
    schedule: Annotated[
        str | None, typer.Option(help="In which blocks the tokens of a --speedup merge: constant,early,…")
    ] = None,
    destinations: Annotated[str | None, typer.Option(help="Which tokens may receive others: parity,ordered,…")] = None,
    metric: Annotated[str | None, typer.Option(help="What tokens are compared by: keys,queries.")] = None,
    units: Annotated[str | None, typer.Option(help="Units of the semantic value: relative,probability.")] = None,
    momentum: Annotated[
        str | None, typer.Option(help="Shares of the semantic value that come from the blocks before: 0,0.5,…")
    ] = None,
    cross_modal: Annotated[
        str | None, typer.Option(help="Shares of the image tokens that merge after each text layer: 0,0.2,…")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="captioning, vqa, matching, retrieval or classification; by default what fits.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation or train, where the data have it.")] = "test",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Examples, the first ones; by default 1,000 scenes or a folder's all.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of the zoo's scenes; each draws its own, and all count: 0,1,2.")] = "0",
    batch: Annotated[int, typer.Option(min=1, help="Examples at a time, and in what is timed.")] = 32,
    beams: Annotated[int | None, typer.Option(min=1, help="Of the search for a text; by default 3.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of a text, at most.")] = None,
    min_length: Annotated[int | None, typer.Option(min=0, help="Tokens of a text, at least.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help='Start of every caption; by default "a picture of", for zoo models none.')
    ] = None,
    nll_only: Annotated[
        bool, typer.Option("--nll-only", "--quick", help="Write no texts: likelihood of the right one only.")
    ] = False,
    timing: Annotated[bool, typer.Option(help="Time encoder and whole call, all settings in turn.")] = True,
    rounds: Annotated[int, typer.Option(min=1, help="Times each setting is timed, after one warm-up.")] = 7,
    plot: Annotated[bool, typer.Option(help="Draw quality against speed-up.")] = True,
    plot_metric: Annotated[
        str | None, typer.Option(help="What is drawn and compared; by default the task's main metric.")
    ] = None,
    adapter: opt.Adapter = None,
    dtype: opt.Dtype = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Measure quality and speed of a grid of settings: captions, answers, retrieval, classification."""
    import torch

    from turbo.cli.grid import parse_grid, parse_list
    from turbo.cli.scores import CAPTION, notes, score_table, settings_table
    from turbo.evaluation import load_data
    from turbo.evaluation.pareto import require_matplotlib
    from turbo.evaluation.run import preview
    from turbo.evaluation.study import find_metric, run_study
    from turbo.evaluation.tasks.choice import find_task
    from turbo.models import load_model

    # What can be wrong is found before a model is loaded and data are read, which takes its time.
    if is_denoiser(model):
        raise TurboError(f"{model}: measure a pipeline that draws images with `turbo generate`")
    opt.check_dtype(dtype)
    settings = parse_grid(
        strategies,
        {"drop": drop, "ratio": ratio, "speedup": speedup},
        {
            "threshold": threshold,
            "min_tokens": min_tokens,
            "schedule": schedule,
            "destinations": destinations,
            "metric": metric,
            "semantic_units": units,
            "momentum": momentum,
            "cross_modal": cross_modal,
        },
        adapter,
    )
    drawn = parse_list("seeds", seeds, int)
    if plot:
        require_matplotlib()
    with progress(f"loading {model}"):
        loaded = load_model(model)
        loaded.model.to(device, getattr(torch, dtype))
    chosen = find_task(loaded, data, task)
    wanted = {"beams": beams, "max_length": max_length, "min_length": min_length, "prompt": prompt}
    decoding = _decoding(loaded, chosen, wanted, nll_only)
    previews = preview(loaded, list(settings.values()))
    console.print(f"{model}, {chosen} on {data}: {len(settings)} settings and the untouched model", highlight=False)
    console.print(settings_table(previews))
    with progress(f"reading {data}"):
        parts = [part for seed in drawn for part in load_data(data, chosen, split=split, limit=limit, seed=seed)]
    results = run_study(
        loaded,
        parts,
        settings,
        out,
        task=chosen,
        batch=batch,
        decoding=decoding,
        rounds=rounds if timing else None,
        plot=plot,
        plot_metric=plot_metric,
        about={"command": shlex.join(["turbo", *sys.argv[1:]])},
        progress=progress,
    )
    shown = find_metric(results, chosen, plot_metric)
    for part in results["parts"]:
        console.print(score_table(results, part, shown, console.width))
    console.print(CAPTION, style="dim", highlight=False)
    for note in notes(previews):
        console.print(f"note: {note}", style="yellow", highlight=False)
    console.print(f"written to {out}: results.json, results.csv{', plot.png' if plot else ''}", style="dim")


def _decoding(loaded: LoadedModel, task: Task, wanted: Mapping[str, Any], nll_only: bool) -> Decoding:
    """How texts are written: what is given, else the model's published protocol."""
    from turbo.evaluation.tasks.choice import WRITING, default_decoding

    given = {name: value for name, value in wanted.items() if value is not None}
    if task not in WRITING and (given or nll_only):
        names = [f"--{name.replace('_', '-')}" for name in given] + ["--nll-only"] * nll_only
        raise TurboError(f"{', '.join(names)} cannot apply to {task}: no text is written")
    if nll_only and given.keys() - {"prompt"}:
        names = [f"--{name.replace('_', '-')}" for name in given if name != "prompt"]
        raise TurboError(f"{', '.join(names)} cannot apply with --nll-only: no text is written")
    if task == "vqa" and "prompt" in given:
        raise TurboError("--prompt cannot apply to vqa: a question starts with itself")
    found = replace(default_decoding(loaded, task), **given, generate=not nll_only)
    if found.min_length > found.max_length:
        raise TurboError(f"--min-length {found.min_length} is more than --max-length {found.max_length}")
    return found
