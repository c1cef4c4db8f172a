"""``turbo generate``: the paper's protocol for text-to-image models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from turbo import defaults
from turbo.cli import options as opt
from turbo.cli.progress import progress

if TYPE_CHECKING:
    from turbo.bench.generate import Protocol
    from turbo.bench.prompts import Prompts

console = Console()


def generate(
    model: Annotated[str, typer.Argument(help="A folder or hub id of a diffusers pipeline, or zoo:t2i-scenes.")],
    out: Annotated[Path, typer.Option(help="Folder of the images and results; a run that stopped goes on there.")],
    prompts: Annotated[
        str, typer.Option(help="imagenet, scenes, or a text file with one prompt per line.")
    ] = "imagenet",
    images: Annotated[int, typer.Option(min=2, help="Images per side.")] = 2000,
    size: Annotated[int | None, typer.Option(help="Pixels of a side; by default the pipeline's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the scheduler; by default the pipeline's own.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; by default the pipeline's own.")] = None,
    strategy: opt.Strategy = defaults.DENOISER_STRATEGY,
    ratio: Annotated[float, typer.Option(help="Share of its tokens that a part merges, at most 0.75.")] = 0.5,
    parts: opt.Parts = None,
    max_downsample: opt.MaxDownsample = None,
    refresh_every: Annotated[int | None, typer.Option(help="Steps that keep one matching.")] = None,
    destinations: Annotated[str | None, typer.Option(help="grid or parity.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Folder of reference images for the FID.")] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Features of the FID: inception, inception:FILE, or judge (the default for scenes)."),
    ] = None,
    clip: Annotated[str | None, typer.Option(help="CLIP model for the CLIP score, a folder or hub id.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Image i starts from seed + i.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images per call.")] = 1,
    dtype: opt.Dtype = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Draw images untouched and accelerated, same prompts and seeds, in turn: FID, CLIP score, seconds per image."""
    import torch

    from turbo.bench.evaluate import evaluate, find_reference
    from turbo.bench.fidelity import find_extractor, load_clip
    from turbo.bench.generate import SIDES, Protocol, run_protocol
    from turbo.bench.prompts import find_prompts
    from turbo.cli.specs import find_strategy
    from turbo.denoisers import load_pipeline

    # Before anything is loaded or drawn, which takes its time.
    opt.check_dtype(dtype)
    function = find_strategy(strategy)
    wanted = {
        "ratio": ratio if parts is None else opt.parse_parts(parts, ratio),
        "max_downsample": max_downsample,
        "refresh_every": refresh_every,
        "destinations": destinations,
    }
    chosen = {name: value for name, value in wanted.items() if value is not None}
    asked = find_prompts(prompts)
    references = None if reference is None else find_reference(reference)
    extractor = find_extractor(features or ("judge" if asked.labels is not None else "inception"))
    judged = None if clip is None else load_clip(clip)
    protocol = Protocol(model, seed, batch, size, steps, guidance, dtype, device, strategy, chosen)
    with progress(f"loading {model}"):
        pipe = load_pipeline(model, getattr(torch, dtype)).to(device)
    batches = len(SIDES) * -(-images // batch)
    with progress(f"drawing {images} images, untouched and accelerated", steps=batches) as advance:
        made = run_protocol(pipe, protocol, asked, images, out, strategy=function, on_batch=advance)
    if made < len(SIDES) * images:
        console.print(f"{len(SIDES) * images - made} images were there already", style="dim")
    del pipe  # its memory is wanted by what comes next
    with progress("measuring quality"):
        results = evaluate(protocol, asked, images, out, reference=references, extractor=extractor, clip=judged)
    record = {"command": "turbo " + " ".join(sys.argv[1:]), **results}
    (out / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    show(results, protocol, asked)
    console.print(f"written to {out / 'results.json'}", style="dim")


def show(results: dict[str, Any], protocol: Protocol, prompts: Prompts) -> None:
    """Print the results as a table."""
    from turbo.bench.generate import SIDES

    table = Table("", *SIDES, title_justify="left", caption_justify="left")
    table.title = f"{protocol.model}, {results['images']} images, prompts: {prompts.name}, strategy {protocol.strategy}"
    for column in table.columns[1:]:
        column.justify = "right"
    rows = {
        f"FID to {results['reference_images']} reference images": (results["fid"], ".4g"),
        "CLIP score": (results["clip_score"], ".2f"),
        "seconds per image": (results["seconds_per_image"], ".3f"),
    }
    for attribute in (results["agreement"] or {}).get(SIDES[0], ()):
        shares = {side: found[attribute] for side, found in results["agreement"].items()}
        rows[f"agreement: {attribute}"] = shares, ".1%"
    for name, (values, form) in rows.items():
        if values is not None:
            table.add_row(name, *(format(values[side], form) for side in SIDES))
    table.caption = f"Frechet distances by {results['features']}; seconds: medians over interleaved batches"
    console.print(table)
    console.print(f"Frechet distance between the sides: {results['fid_between']:.4g}")
    paired = "the images are identical" if results["identical"] else f"PSNR {results['psnr']:.1f} dB"
    if results["feature_distance"] is not None:
        paired += f", feature distance {results['feature_distance']:.4f} (the judge's layers)"
    console.print(f"against the untouched image of the same seed: {paired}")
    if results["speedup"] is not None:
        console.print(f"speed-up [bold]{results['speedup']:.2f}x[/bold] over {results['batches']} batches")
    notes = [*results["notes"]]
    if results["fid"] is None:
        notes.append("no FID to a reference: give --reference FOLDER")
    if results["clip_score"] is None:
        notes.append("no CLIP score: give --clip MODEL, such as openai/clip-vit-base-patch16")
    for note in notes:
        console.print(f"note: {note}", style="yellow", highlight=False)
