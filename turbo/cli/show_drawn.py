"""``turbo show`` of a pipeline: what it draws untouched and with turbo, where they differ, and what merged when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import turbo
from turbo import defaults
from turbo.cli.progress import progress
from turbo.cli.show_page import with_command, write_page


def show_drawn(
    console: Console,
    model: str,
    prompts: Sequence[str],
    arguments: Mapping[str, Any],
    *,
    steps: int | None,
    seed: int,
    out: Path,
    device: str,
) -> None:
    """Draw each prompt untouched and accelerated from the same noise: merged.png, and merged.html with its steps.

    Args:
        console: where to say where the files are.
        model: a pipeline's name.
        prompts: what to draw.
        arguments: of `turbo.accelerate`.
        steps: of the scheduler; None takes the pipeline's own number.
        seed: image i starts from the noise of seed + i.
        out: folder of the files.
        device: where to draw.
    """
    from turbo.cli.inspect import show_report
    from turbo.denoisers import load_pipeline
    from turbo.viz import draw_both, draw_sheet, save_sheet

    options = {name: value for name, value in arguments.items() if value is not None and name != "strategy"}
    strategy = arguments.get("strategy") or defaults.DENOISER_STRATEGY
    call = {} if steps is None else {"num_inference_steps": steps}
    with progress(f"loading {model}"):
        pipe = load_pipeline(model).to(device)
    # One at a time: Stable Diffusion at 512 px and its trace are large.
    with progress("drawing, untouched and accelerated", steps=2 * len(prompts)) as advance:
        drawn = draw_both(
            pipe,
            prompts,
            strategy=strategy,
            options=options,
            seed=seed,
            batch=1,
            arguments=call,
            on_batch=advance,
            record=True,
        )
    report = turbo.report(turbo.accelerate(pipe, strategy, **options))
    show_report(report)
    title = f"{model}, strategy {report.strategy}, the same noise"
    save_sheet(out / "merged.png", draw_sheet([(title, drawn.panels(difference=True))], columns=1))
    about = {
        "model": model,
        "adapter": report.adapter,
        "strategy": report.strategy,
        "FLOPs of a step": f"fall by {report.achieved:.2f}x",
    }
    write_page(console, out, drawn.steps(), with_command(about))
