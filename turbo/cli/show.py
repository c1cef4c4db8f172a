"""``turbo show``: what merged in images of yours, as a picture and as a page with a slider."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import turbo
from turbo.cli import options as opt
from turbo.cli.inspect import find_arguments, require_none, show_report
from turbo.cli.progress import progress
from turbo.cli.show_page import with_command, write_page
from turbo.denoisers import OFFICIAL_UNETS, is_denoiser
from turbo.errors import TurboError, TurboWarning
from turbo.reporting import Report
from turbo.viz.panels import BLOCKS, save_merged

if TYPE_CHECKING:
    from PIL import Image

    from turbo.evaluation.tasks.inputs import Inputs
    from turbo.models import LoadedModel
    from turbo.viz.merged import MergedImage

console = Console()
SCENES = 4


def show(
    model: opt.Model,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="Image files; a zoo: model has scenes of its own.")
    ] = None,
    strategy: opt.AnyStrategy = None,
    drop: opt.Drop = None,
    ratio: opt.Ratio = None,
    speedup: opt.Speedup = None,
    threshold: opt.Threshold = 0,
    min_tokens: opt.MinTokens = 0,
    schedule: opt.ScheduleName = None,
    destinations: opt.Destinations = None,
    adapter: opt.Adapter = None,
    blocks: Annotated[
        int | None,
        typer.Option(min=1, help=f"Blocks in the picture, at most; {BLOCKS} by default. The page has all."),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option(min=1, help=f"Of a zoo: model without images, held-out scenes; {SCENES} by default.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Of a pipeline, what to draw; can be given several times.")
    ] = None,
    parts: opt.Parts = None,
    max_downsample: opt.MaxDownsample = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of a pipeline; by default its own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes, or of a pipeline's noise.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of merged.png and merged.html.")] = Path("out/show"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Draw what merged in images, block by block: merged.png, and merged.html with a slider.

    For a pipeline with --prompt: untouched, turbo and their difference, and what merged in each step.
    """
    amount = drop, ratio, speedup, threshold, min_tokens, schedule
    arguments = find_arguments(model, strategy, amount, destinations, parts, max_downsample, adapter)
    if is_denoiser(model):
        from turbo.cli.show_drawn import show_drawn

        require_none({"blocks": blocks, "scenes": scenes}, model, "a pipeline draws what --prompt asks for")
        _require_pipeline(model, images, prompt)
        show_drawn(console, model, prompt or [], arguments, steps=steps, seed=seed, out=out, device=device)
        return
    require_none({"prompt": prompt, "steps": steps}, model, "it draws nothing; give it images to look at")
    pictures = _pictures(model, images, scenes, seed)
    with progress(f"loading {model}"):
        loaded, inputs = _load(model, device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TurboWarning)  # the report repeats it
            turbo.accelerate(loaded.model, **arguments)
    merged: list[MergedImage] = []
    with progress("looking at the images", steps=len(pictures)) as advance:
        for title, picture in pictures:
            merged += look(loaded, inputs, picture, title)
            advance()
    report = turbo.report(loaded.model)
    show_report(report)
    with progress("drawing"):
        save_merged(out / "merged.png", merged, blocks=blocks or BLOCKS)
    write_page(console, out, merged, _about(model, report))


def look(loaded: LoadedModel, inputs: Inputs, picture: Image.Image, title: str) -> list[MergedImage]:
    """Run an accelerated model on one image and record: one result, or one for each tile that it is cut into."""
    import torch
    from PIL import ImageOps

    from turbo.engine.install import require_acceleration
    from turbo.evaluation.tasks.seen import as_seen
    from turbo.viz.merged import merged_images

    if loaded.name.startswith("random:") and "/" not in loaded.name:
        # It has no processor: what processors do to photographs, so that nothing is squashed.
        height, width = loaded.image_size
        picture = ImageOps.fit(picture, (width, height))
    pixels, titles = inputs.images([picture]), [title]
    acceleration = require_acceleration(loaded.model)
    run: Any = loaded.images
    if pixels.ndim == 5:  # b tiles 3 h w; the model itself would ask for the image's size too, or for a text
        pixels, run = pixels[0], getattr(acceleration.tower, "vision_tower", acceleration.tower)
        titles = [f"{title}, tile {tile}" for tile in range(len(pixels))]
    elif pixels.ndim != 4:
        raise TurboError(
            f"the processor of {loaded.name} gives {tuple(pixels.shape)}, not pixel values b 3 h w: record in Python, "
            "and give turbo.viz.merged_images the images"
        )
    weight = next(loaded.model.parameters())
    with torch.inference_mode(), turbo.recording(loaded.model) as trace:
        run(pixels.to(weight.device, weight.dtype))
    if not trace.blocks:
        raise TurboError(
            f"nothing merges in {loaded.name} with these options: ask for more, such as --drop 8 or --speedup 1.5"
        )
    seen = as_seen(inputs, pixels.float(), picture.size)
    return merged_images(trace, seen, titles=titles, strategy=acceleration.settings.strategy_name)


def _about(model: str, report: Report) -> dict[str, str]:
    left = report.blocks[-1].tokens_out
    return with_command(
        {
            "model": model,
            "adapter": report.adapter,
            "strategy": report.strategy,
            "tokens": f"{report.n}, of which {left} are left",
            "FLOPs of the blocks": f"fall by {report.achieved:.2f}x",
        }
    )


def _load(model: str, device: str) -> tuple[LoadedModel, Inputs]:
    from turbo.evaluation.tasks.inputs import load_inputs
    from turbo.models import load_model

    loaded = load_model(model)
    loaded.model.to(device)
    return loaded, load_inputs(loaded)


def _pictures(model: str, paths: Sequence[Path] | None, scenes: int | None, seed: int) -> list[tuple[str, Image.Image]]:
    """Titles and images: files, or scenes that a model of the zoo was never trained on."""
    from turbo.evaluation.data.images import read_image

    if paths:
        require_none({"scenes": scenes}, f"{model} with images", "give one or the other")
        return [(path.name, read_image(path)) for path in paths]
    if not model.startswith("zoo:"):
        require_none({"scenes": scenes}, model, "scenes are for the models of the zoo")
        raise TurboError(f"{model} has no images of its own: name some, turbo show {model} photo.jpg")
    return [(f"scene {row}", image) for row, image in enumerate(_scenes(model, scenes or SCENES, seed))]


def _scenes(model: str, count: int, seed: int) -> Iterable[Image.Image]:
    from PIL import Image

    from turbo import zoo

    zoo.folder(model.removeprefix("zoo:"))  # the name is known
    digits = model == "zoo:vit-digits"
    arrays = zoo.digit_scenes("test", count, seed)[0] if digits else zoo.draw_scenes("test", count, seed).images
    return [Image.fromarray(array) for array in arrays]


def _require_pipeline(model: str, images: Sequence[Path] | None, prompt: Sequence[str] | None) -> None:
    if model.removeprefix("random:") in OFFICIAL_UNETS:
        raise TurboError(f"{model} is a UNet alone, which draws nothing: name a pipeline, such as zoo:t2i-scenes")
    if images:
        raise TurboError(f"{model} looks at no images, it draws them: give --prompt in place of {images[0]}")
    if not prompt:
        raise TurboError(f'{model} draws what it is asked for: give --prompt "…", once or several times')
