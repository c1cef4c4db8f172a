"""``turbo reproduce``: the paper's tables and figures, in kind, on the zoo's models or on real ones."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from turbo.cli import options as opt
from turbo.cli.progress import progress
from turbo.cli.reproduce_figures import figure1, figure2
from turbo.cli.reproduce_merging import figure3
from turbo.denoisers import is_denoiser
from turbo.errors import TurboError

if TYPE_CHECKING:
    from turbo.evaluation.paper.printed import Units
    from turbo.evaluation.paper.tables import PaperTable
    from turbo.models import LoadedModel

WIDTHS = {220: ("bleu4", "cider", "nll"), 165: ("cider", "nll"), 0: ("cider",)}
"""Columns of a terminal -> the figures of each part that it has room for."""
console = Console()
app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Model = Annotated[str, typer.Option(help="A captioner: zoo:blip-scenes, or a folder or hub id of BLIP's.")]
Data = Annotated[str, typer.Option(help="scenes (both grounds), scenes:plain, scenes:distractors, coco:FOLDER, …")]
Out = Annotated[Path, typer.Option(help="Folder of the results; a run that stopped goes on there.")]
Literal = Annotated[
    bool, typer.Option("--literal", help="Take the printed α for A as a probability, not for relative units.")
]
AlphaScale = Annotated[
    float | None,
    typer.Option(help="What printed α are multiplied by: 30, as in the published code; with --literal 1."),
]
Split = Annotated[str, typer.Option(help="test, validation or train, where the data have it.")]
Limit = Annotated[int | None, typer.Option(min=2, help="Images; by default 1,000 scenes or a folder's all.")]
Seeds = Annotated[str, typer.Option(help="Of the zoo's scenes; each draws its own, and all count: 0,1,2.")]
Batch = Annotated[int, typer.Option(min=1, help="Images at a time, and in what is timed.")]
Beams = Annotated[int | None, typer.Option(min=1, help="Of the search for a caption; by default 3.")]
Timing = Annotated[bool, typer.Option(help="Time encoder and whole call, all rows in turn.")]
Rounds = Annotated[int, typer.Option(min=1, help="Times each row is timed, after one warm-up.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]


@app.callback()
def _reproduce() -> None:
    """The paper's tables and figures, in kind, on the zoo's models or on real ones."""


@app.command()
def table1(
    model: Model = "zoo:blip-scenes",
    data: Data = "scenes",
    out: Out = Path("out/reproduce"),
    drop: Annotated[
        int | None,
        typer.Option(min=1, help="Υ, which the paper does not print; by default the least that halves the FLOPs."),
    ] = None,
    literal: Literal = False,
    alpha_scale: AlphaScale = None,
    split: Split = "test",
    limit: Limit = None,
    seeds: Seeds = "0",
    batch: Batch = 32,
    beams: Beams = None,
    timing: Timing = True,
    rounds: Rounds = 7,
    dtype: opt.Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Fusion strategies and their coefficients, on captions: B@4, CIDEr, NLL, images/s."""
    from turbo.evaluation.paper.tables import fusion_table

    units = _units(literal, alpha_scale)
    loaded = _load(model, data, dtype, device)
    with progress("finding the drop"):
        table = fusion_table(loaded, drop, units)
    wanted = {"split": split, "limit": limit, "seeds": seeds}
    _reproduce_table(loaded, data, table, out, wanted, batch, beams, rounds if timing else None)


@app.command()
def table2(
    model: Model = "zoo:blip-scenes",
    data: Data = "scenes",
    out: Out = Path("out/reproduce"),
    literal: Literal = False,
    alpha_scale: AlphaScale = None,
    split: Split = "test",
    limit: Limit = None,
    seeds: Seeds = "0",
    batch: Batch = 32,
    beams: Beams = None,
    timing: Timing = True,
    rounds: Rounds = 7,
    dtype: opt.Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Large Υ with and without a threshold, on captions: B@4, CIDEr, NLL, images/s."""
    from turbo.evaluation.paper.tables import threshold_table

    units = _units(literal, alpha_scale)
    loaded = _load(model, data, dtype, device)
    table = threshold_table(loaded, units)
    wanted = {"split": split, "limit": limit, "seeds": seeds}
    _reproduce_table(loaded, data, table, out, wanted, batch, beams, rounds if timing else None)


app.command()(figure1)
app.command()(figure2)
app.command()(figure3)


def _units(literal: bool, alpha_scale: float | None) -> Units:
    from turbo.evaluation.paper.printed import FACTOR, Units

    if alpha_scale is None:
        alpha_scale = 1.0 if literal else FACTOR
    return Units(literal, alpha_scale)


def _load(model: str, data: str, dtype: str, device: str) -> LoadedModel:
    import torch

    from turbo.evaluation.tasks.choice import find_task
    from turbo.models import load_model

    opt.check_dtype(dtype)
    if is_denoiser(model):
        raise TurboError(f"{model} draws images: the tables are of captioners, zoo:blip-scenes or one of BLIP's")
    with progress(f"loading {model}"):
        loaded = load_model(model)
        find_task(loaded, data, "captioning")
        loaded.model.to(device, getattr(torch, dtype))
    return loaded


def _reproduce_table(
    loaded: LoadedModel,
    data: str,
    table: PaperTable,
    out: Path,
    wanted: Mapping[str, Any],
    batch: int,
    beams: int | None,
    rounds: int | None,
) -> None:
    from turbo.cli.grid import parse_list
    from turbo.evaluation import load_data
    from turbo.evaluation.paper.reproduce import reproduce_table
    from turbo.evaluation.tasks.choice import default_decoding

    decoding = default_decoding(loaded, "captioning")
    decoding = decoding if beams is None else replace(decoding, beams=beams)
    drawn = parse_list("seeds", wanted["seeds"], int)
    read = {"split": wanted["split"], "limit": wanted["limit"]}
    with progress(f"reading {data}"):
        parts = [part for seed in drawn for part in load_data(data, "captioning", seed=seed, **read)]
    record = reproduce_table(
        loaded,
        parts,
        table,
        out,
        batch=batch,
        decoding=decoding,
        rounds=rounds,
        about={"command": shlex.join(["turbo", *sys.argv[1:]]), "seeds": drawn, **read},
        progress=progress,
    )
    _show(record)
    console.print(f"written to {out}: {table.name}.md, {table.name}.json, {table.name}/", style="dim")


def _show(record: Mapping[str, Any]) -> None:
    from turbo.evaluation.paper.report import CLAIMS_LEGEND, LEGEND, grid, notes, protocol, sentences

    metrics = next(metrics for width, metrics in WIDTHS.items() if console.width >= width)
    header, lines = grid(record, metrics, brief=len(metrics) == 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(header):
        longest = max(map(len, title.split()), default=0)
        table.add_column(title, justify="right" if place else "left", no_wrap=not place, min_width=longest)
    for line in lines:
        table.add_row(*map(escape, line))
    console.print(protocol(record), highlight=False)
    console.print(table)
    console.print(LEGEND, style="dim", highlight=False)
    for text in sentences(record):
        bold = re.sub(r"\*\*(.+?)\*\*", r"[bold]\1[/bold]", escape(text))
        console.print(f"- {bold}", highlight=False)
    console.print(CLAIMS_LEGEND, style="dim", highlight=False)
    for note in notes(record):
        console.print(f"note: {note}", style="yellow", highlight=False)
