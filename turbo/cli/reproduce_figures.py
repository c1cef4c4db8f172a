"""``turbo reproduce figure1`` and ``figure2``: pairs of images that a pipeline draws, untouched and accelerated."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turbo import defaults
from turbo.cli import options as opt
from turbo.cli.pictures import write_picture
from turbo.cli.progress import progress
from turbo.errors import TurboError

if TYPE_CHECKING:
    from turbo.viz import Panel

FIRST = "zoo:t2i-scenes"

Pipeline = Annotated[str, typer.Option(help="A folder or hub id of a diffusers pipeline, or zoo:t2i-scenes.")]
Out = Annotated[Path, typer.Option(help="Folder of the picture.")]
PromptFile = Annotated[
    str | None,
    typer.Option(help="A text file, one prompt per line; by default captions of scenes (zoo), else the paper's."),
]
Count = Annotated[int | None, typer.Option(min=1, help="Images; by default a file's lines, or a few.")]
Ratio = Annotated[float, typer.Option(help="Share of its tokens that a part merges, at most 0.75.")]
Seed = Annotated[int, typer.Option(min=0, help="Image i starts from the noise of seed + i.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Images per call; all at once without it.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of the scheduler; by default the pipeline's own.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale; by default the pipeline's own.")]
Columns = Annotated[int | None, typer.Option(min=1, help="Pairs beside each other; all without it.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]


def figure1(
    model: Pipeline = FIRST,
    out: Out = Path("out/reproduce"),
    prompts: PromptFile = None,
    count: Count = None,
    strategy: opt.Strategy = defaults.DENOISER_STRATEGY,
    ratio: Ratio = 0.5,
    parts: opt.Parts = None,
    max_downsample: opt.MaxDownsample = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a side; by default the pipeline's own.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    batch: Batch = None,
    columns: Columns = None,
    dtype: opt.Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Text to image: left untouched, right with turbo, from the same noise."""
    from turbo.evaluation.paper.pictures import scene_prompts

    options = _options(ratio, parts, max_downsample)
    own = scene_prompts(count or 4, seed) if model == FIRST else None
    texts = _repeated(own if prompts is None else _prompts(prompts), count, 4)
    call = {"height": size, "width": size, "num_inference_steps": steps, "guidance_scale": guidance}
    work = {"model": model, "strategy": strategy, "options": options, "seed": seed, "batch": batch, "call": call}
    work |= {"dtype": dtype, "device": device, "prompts": texts}
    panels = _draw(work, None)
    title = f"Text to image. Left: untouched. Right: turbo ({_setting(strategy, ratio, parts)})."
    write_picture(out / "figure1.png", [(title, panels)], work, columns=columns, flat=model == FIRST)


def figure2(
    model: Pipeline = FIRST,
    out: Out = Path("out/reproduce"),
    start: Annotated[
        list[Path] | None,
        typer.Option(help="Image to start from, can be given several times; the zoo's scenes are its own."),
    ] = None,
    prompts: PromptFile = None,
    count: Count = None,
    strength: Annotated[float, typer.Option(help="Share of the steps that change the image, up to 1.")] = 0.6,
    strategy: opt.Strategy = defaults.DENOISER_STRATEGY,
    ratio: Ratio = 0.5,
    parts: opt.Parts = None,
    max_downsample: opt.MaxDownsample = None,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    batch: Batch = None,
    columns: Columns = None,
    dtype: opt.Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Image to image: left the start, middle untouched, right with turbo, from the same noise."""
    from turbo.evaluation.data.images import read_image
    from turbo.evaluation.paper.pictures import scene_changes

    options = _options(ratio, parts, max_downsample)
    if start is None and model != FIRST:
        raise TurboError(f"{model} needs images to start from: give --start FILE, once or several times")
    if start is None and prompts is not None:
        raise TurboError("--prompts needs --start: the zoo's scenes come with prompts of their own")
    if start is not None and count is not None:
        raise TurboError("--count cannot apply with --start: each image is changed once")
    if start is None:
        starts, texts = scene_changes(count or 3, seed)
    else:
        starts = [read_image(path) for path in start]
        given = None if prompts is None else _prompts(prompts)
        texts = _repeated(given, len(starts) if given is None or len(given) == 1 else None, len(starts))
    call = {"strength": strength, "num_inference_steps": steps, "guidance_scale": guidance}
    work = {"model": model, "strategy": strategy, "options": options, "seed": seed, "batch": batch, "call": call}
    work |= {"dtype": dtype, "device": device, "prompts": texts}
    panels = _draw(work, starts)
    title = f"Image to image. Left: the start. Middle: untouched. Right: turbo ({_setting(strategy, ratio, parts)})."
    about = work | {"starts": [path.name for path in start or ()]}
    write_picture(out / "figure2.png", [(title, panels)], about, columns=columns, flat=start is None)


def _options(ratio: float, parts: str | None, max_downsample: int | None) -> dict[str, Any]:
    found = {"ratio": ratio if parts is None else opt.parse_parts(parts, ratio), "max_downsample": max_downsample}
    return {name: value for name, value in found.items() if value is not None}


def _setting(strategy: str, ratio: float, parts: str | None) -> str:
    return f"{strategy}, {f'ratio {ratio:g}' if parts is None else parts + f' at {ratio:g}'}"


def _prompts(spec: str) -> list[str]:
    from turbo.bench.prompts import find_prompts

    return list(find_prompts(spec).texts)


def _repeated(texts: Sequence[str] | None, count: int | None, few: int) -> list[str]:
    """As many prompts as are wanted; the paper's own where there are none."""
    from turbo.evaluation.paper.pictures import PAPER_PROMPT

    found = [PAPER_PROMPT] if texts is None else texts
    wanted = count or (few if texts is None else len(found))
    return [found[place % len(found)] for place in range(wanted)]


def _draw(work: dict[str, Any], starts: Sequence[Any] | None) -> list[Panel]:
    import torch

    from turbo.cli.specs import find_strategy
    from turbo.denoisers import load_pipeline
    from turbo.viz import as_image_to_image, draw_pairs

    dtype, texts = work["dtype"], work["prompts"]
    opt.check_dtype(dtype)
    strategy = find_strategy(work["strategy"])
    with progress(f"loading {work['model']}"):
        pipe = load_pipeline(work["model"], getattr(torch, dtype)).to(work["device"])
        pipe = pipe if starts is None else as_image_to_image(pipe)
    work["diffusers"] = version("diffusers")
    batch = work["batch"] or len(texts)
    with progress(f"drawing {len(texts)} pairs", steps=2 * -(-len(texts) // batch)) as advance:
        return draw_pairs(
            pipe,
            texts,
            starts=starts,
            strategy=strategy,
            options=work["options"],
            seed=work["seed"],
            batch=batch,
            arguments={name: value for name, value in work["call"].items() if value is not None},
            on_batch=advance,
        )
