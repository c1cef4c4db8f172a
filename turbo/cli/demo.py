"""The main job on real input: a digit reader, faster with every strategy, and pictures of what merged."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import turbo
from turbo import zoo
from turbo.bench import compare, hold_allocator, interleave
from turbo.cli.progress import progress
from turbo.cli.tables import comparison_table
from turbo.engine.trace import recording
from turbo.models import load_model
from turbo.viz import save_groups

DROPS = (12, 20, 26)
ROUNDS = 3
SCENES = 400
BATCH = 100
PICTURES = 4
ORDER = ("s1", "s2", "s3", "s4", "bound", "ward", "tome", "attention", "random")


def run_demo(console: Console, out: Path, *, full_size: bool) -> None:
    """Show what a user would want to see: quality and speed side by side, and what was merged."""
    hold_allocator()
    out.mkdir(parents=True, exist_ok=True)
    with progress("drawing scenes from held-out handwritten digits"):
        model = zoo.load("vit-digits")
        scenes, labels = zoo.scenes("test", SCENES, seed=2)
        images, truth = zoo.preprocess(scenes), torch.from_numpy(labels)
    console.print(
        f"[bold]vit-digits[/bold]: which handwritten digit is in the scene? {SCENES} scenes, each with a digit "
        "that was never trained on; 257 tokens, 8 blocks"
    )
    table, rows = _quality_and_speed(model, images, truth)
    console.print(table)
    picture = out / "merged.png"
    _picture(model, images, picture)
    console.print(f"what was merged, block by block: [bold]{picture}[/bold]")
    (out / "vit-digits.json").write_text(json.dumps(rows, indent=1) + "\n")
    if full_size:
        _full_size(console)


def _quality_and_speed(model: torch.nn.Module, images: Tensor, truth: Tensor) -> tuple[Table, list[dict[str, object]]]:
    known = turbo.list_strategies()
    strategies = [name for name in ORDER if name in known] + [name for name in known if name not in ORDER]
    sides = {"untouched": None, **{f"{s} {d}": (s, d) for s in strategies for d in DROPS}}
    right: dict[str, float] = {}
    batches = torch.split(images, BATCH)

    @torch.inference_mode()
    def answer(part: Tensor) -> Tensor:
        prediction: Tensor = model(part).logits.argmax(dim=1)
        return prediction

    with progress("accuracy", steps=len(sides)) as advance:
        for name, side in sides.items():
            if side is not None:
                turbo.accelerate(model, side[0], drop=side[1])
            found = torch.cat([answer(part) for part in batches])
            right[name] = (found == truth).float().mean().item()
            if side is not None:
                turbo.restore(model)
            advance()
    speed = _speedups(model, batches[0], answer)
    table = Table("drop per block", *(f"{d}" for d in DROPS), title_justify="left")
    table.title = f"accuracy (untouched {right['untouched']:.1%}) and speed-up against the untouched model"
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("tokens left", *(str(257 - 8 * d) for d in DROPS), style="dim")
    table.add_row("speed-up, measured", *(f"{speed[d]:.2f}x" for d in DROPS), style="bold")
    table.add_section()
    for name in strategies:
        table.add_row(name, *(f"{right[f'{name} {d}']:.1%}" for d in DROPS))
    table.caption = "s1–s4: the paper's; bound, ward: parameter-free; tome, attention, random: baselines"
    rows: list[dict[str, object]] = [{"strategy": "untouched", "drop": 0, "accuracy": right["untouched"]}]
    rows += [
        {"strategy": s, "drop": d, "accuracy": right[f"{s} {d}"], "speedup": speed[d]}
        for s in strategies
        for d in DROPS
    ]
    return table, rows


def _speedups(model: torch.nn.Module, images: Tensor, answer: object) -> dict[int, float]:
    """Measured with S1; what a strategy itself costs is below the noise."""
    import contextlib
    import statistics

    def prepare(name: str) -> contextlib.AbstractContextManager[object]:
        return turbo.accelerated(model, "s1", drop=int(name)) if name != "0" else contextlib.nullcontext()

    with progress("speed, interleaved with the untouched model", steps=ROUNDS + 1) as advance:
        calls = {str(d): lambda: answer(images) for d in (0, *DROPS)}  # type: ignore[operator]
        seconds = interleave(calls, rounds=ROUNDS, prepare=prepare, on_round=advance)
    return {d: statistics.median(a / b for a, b in zip(seconds["0"], seconds[str(d)], strict=True)) for d in DROPS}


def _picture(model: torch.nn.Module, images: Tensor, path: Path) -> None:
    with turbo.accelerated(model, "s1", drop=DROPS[1]), recording(model) as trace, torch.inference_mode():
        model(images[:PICTURES])
    shown = [0, 1, 3, 5, 7]
    left = [257 - DROPS[1] * (depth + 1) for depth in shown]
    save_groups(
        path,
        images[:PICTURES].permute(0, 2, 3, 1) / 2 + 0.5,
        [trace.groups(upto=depth) for depth in shown],
        titles=["image", *(f"block {depth}: {n} tokens" for depth, n in zip(shown, left, strict=True))],
    )


def _full_size(console: Console) -> None:
    with progress("building CLIP ViT-L/14 at 336 px, random weights"):
        loaded = load_model("random:clip-l14-336")
    with progress("timing CLIP ViT-L/14 at 336 px, interleaved", steps=ROUNDS + 1) as advance:
        result = compare(loaded, {"s1": {"drop": 18}}, rounds=ROUNDS, on_round=advance)
    console.print(comparison_table(result))
    console.print(f"turbo.accelerate(model, strategy='s1', drop=18): [bold]{result.sides[1].speedup:.2f}x[/bold]")
