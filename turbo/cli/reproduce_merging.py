"""``turbo reproduce figure3``: what merges where in a vision model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turbo import defaults
from turbo.cli import options as opt
from turbo.cli.pictures import write_picture
from turbo.cli.progress import progress
from turbo.denoisers import is_denoiser
from turbo.errors import TurboError

if TYPE_CHECKING:
    from turbo.viz import Panel

_OF_DATA = ("data", "split", "count", "seed")


def figure3(
    context: typer.Context,
    model: Annotated[str, typer.Option(help=opt.MODEL_HELP)] = "zoo:blip-scenes",
    out: Annotated[Path, typer.Option(help="Folder of the picture.")] = Path("out/reproduce"),
    data: Annotated[str, typer.Option(help="scenes, digits, coco:FOLDER, …: what `turbo eval` takes.")] = "scenes",
    image: Annotated[
        list[Path] | None, typer.Option(help="An image of yours in place of data, can be given several times.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images of each part of the data.")] = 2,
    split: Annotated[str, typer.Option(help="test, validation or train, where the data have it.")] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the zoo's scenes.")] = 0,
    strategy: opt.Strategy = defaults.STRATEGY,
    drop: opt.Drop = None,
    ratio: opt.Ratio = None,
    speedup: opt.Speedup = None,
    threshold: opt.Threshold = 0,
    min_tokens: opt.MinTokens = 0,
    schedule: opt.ScheduleName = None,
    destinations: opt.Destinations = None,
    momentum: opt.Momentum = None,
    adapter: opt.Adapter = None,
    columns: Annotated[int, typer.Option(min=2, help="Blocks that are shown, at most.")] = 6,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """What merges: images beside their groups after each block, with the captions where the model writes some."""
    from turbo.cli.specs import find_adapter, find_strategy
    from turbo.evaluation import load_data
    from turbo.evaluation.data.images import read_image
    from turbo.evaluation.paper.pictures import merging_panels, texts_of
    from turbo.evaluation.settings import Setting
    from turbo.evaluation.tasks.choice import find_task
    from turbo.evaluation.tasks.inputs import load_inputs
    from turbo.models import load_model

    if is_denoiser(model):
        raise TurboError(f"{model} restores its tokens after each part: figure3 is for models whose tokens stay merged")
    chosen = [name for name in _OF_DATA if context.get_parameter_source(name).name != "DEFAULT"]  # type: ignore[union-attr]
    if image is not None and chosen:
        raise TurboError(f"{', '.join(f'--{name}' for name in chosen)} cannot apply with --image: leave one out")
    speedup = 2.0 if drop is None and ratio is None and speedup is None else speedup
    arguments = opt.schedule(drop, ratio, speedup, threshold, min_tokens, schedule)
    opt.check_destinations(destinations, model)
    arguments |= {"strategy": find_strategy(strategy), "destinations": destinations, "momentum": momentum}
    arguments |= {"adapter": find_adapter(adapter)}
    setting = Setting.of("figure", arguments)
    with progress(f"loading {model}"):
        loaded = load_model(model)
        loaded.model.to(device)
        inputs = load_inputs(loaded)
    if image is not None:
        parts = [("", [read_image(path) for path in image], [path.name for path in image])]
    else:
        task = find_task(loaded, data)
        read = load_data(data, task, split=split, limit=count, seed=seed)
        parts = [(each.name, [each.images[row] for row in range(len(each.images))], texts_of(each)) for each in read]
    with progress("drawing", steps=len(parts)) as advance:
        rows: list[tuple[str, Sequence[Panel]]] = []
        for title, images, texts in parts:
            panels = merging_panels(loaded, inputs, images, texts, setting, columns=columns)
            rows += [(title if row == 0 else "", [panel]) for row, panel in enumerate(panels)]
            advance()
    shown = {"data": data, "split": split, "count": count, "seed": seed}
    about: dict[str, Any] = shown if image is None else {"images": [path.name for path in image]}
    about = {"model": model, **about, "setting": setting.record, "device": device}
    write_picture(out / "figure3.png", rows, about, flat=image is None)
