"""The main job on real input: a digit reader, faster with every strategy, and pictures of what merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import turbo
from turbo import zoo
from turbo.bench import compare, hold_allocator, interleave
from turbo.cli.progress import progress
from turbo.cli.tables import comparison_table
from turbo.engine.times import median_ratio
from turbo.engine.trace import recording
from turbo.models import load_model
from turbo.viz import merged_images, save_merged

DROPS: dict[str, int | list[int]] = {
    "26": 26,
    "100 60 20 0…": [100, 60, 20, 0, 0, 0, 0, 0],
    "120 60 20 0…": [120, 60, 20, 0, 0, 0, 0, 0],
}
"""Drop per block. Merged early, before the model has read the digit, the choice of tokens matters most."""
SHOWN = "100 60 20 0…"
ROUNDS = 5
SCENES = 400
BATCH = 100
PICTURES = 4
ORDER = ("s1", "s2", "s3", "s4", "bound", "ward", "distortion", "tome", "attention", "random")
CLIP_DROP = 18


def run_demo(console: Console, out: Path, *, full_size: bool) -> None:
    """Show what a user would want to see: quality and speed side by side, and what was merged."""
    hold_allocator()
    out.mkdir(parents=True, exist_ok=True)
    with progress("drawing scenes from held-out handwritten digits"):
        model = zoo.load("vit-digits")
        scenes, labels = zoo.digit_scenes("test", SCENES, seed=2)
        images, truth = zoo.preprocess(scenes), torch.from_numpy(labels)
    console.print(
        f"Which handwritten digit is in the scene? [bold]vit-digits[/bold] looks at {SCENES} scenes with digits it was "
        "never trained on, as 257 tokens in 8 blocks.\n"
    )
    accuracy = _accuracies(model, images, truth)
    speed = _speedups(model, images[:BATCH])
    tokens = {label: _tokens_left(model, label) for label in DROPS}
    console.print(_table(accuracy, speed, tokens))
    picture, results = out / "merged.png", out / "vit-digits.json"
    _draw(model, images[:PICTURES], picture)
    console.print(f"What merged, block by block: [bold]{picture}[/bold]. Figures: {results}\n")
    rows = [
        {"strategy": strategy, "drop": label, "accuracy": right, "speedup": speed.get(label, 1.0)}
        for (strategy, label), right in accuracy.items()
    ]
    results.write_text(json.dumps(rows, indent=1) + "\n")
    if full_size:
        _full_size(console)


def _accuracies(model: nn.Module, images: Tensor, truth: Tensor) -> dict[tuple[str, str], float]:
    known = turbo.list_strategies()
    strategies = [name for name in ORDER if name in known] + [name for name in known if name not in ORDER]
    sides = [("untouched", ""), *((strategy, label) for strategy in strategies for label in DROPS)]
    found = {}
    with progress("accuracy of every strategy", steps=len(sides)) as advance:
        for strategy, label in sides:
            with _accelerated(model, strategy, label):
                answers = torch.cat([_answer(model, part) for part in torch.split(images, BATCH)])
            found[strategy, label] = (answers == truth).float().mean().item()
            advance()
    return found


def _speedups(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Measured with S1: what the strategies differ in is below the noise."""
    calls: dict[str, Callable[[], object]] = dict.fromkeys(["", *DROPS], lambda: _answer(model, images))
    with progress("speed, interleaved with the untouched model", steps=ROUNDS + 1) as advance:
        seconds = interleave(
            calls, rounds=ROUNDS, prepare=lambda label: _accelerated(model, "s1", label), on_round=advance
        )
    return {label: median_ratio(seconds[""], seconds[label]) for label in DROPS}


def _accelerated(model: nn.Module, strategy: str, label: str) -> AbstractContextManager[object]:
    return turbo.accelerated(model, strategy, drop=DROPS[label]) if label else nullcontext()


@torch.inference_mode()
def _answer(model: nn.Module, images: Tensor) -> Tensor:
    answers: Tensor = model(images).logits.argmax(dim=1)
    return answers


def _tokens_left(model: nn.Module, label: str) -> int:
    with _accelerated(model, "s1", label):
        return turbo.report(model).blocks[-1].tokens_out


def _table(accuracy: dict[tuple[str, str], float], speed: dict[str, float], tokens: dict[str, int]) -> Table:
    table = Table("drop per block", "0", *DROPS)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("tokens left", "257", *(str(tokens[label]) for label in DROPS))
    table.add_row("speed-up", "1.00x", *(f"{speed[label]:.2f}x" for label in DROPS), style="bold")
    table.add_section()
    untouched = f"{accuracy['untouched', '']:.1%}"
    for strategy in dict.fromkeys(strategy for strategy, label in accuracy if label):
        table.add_row(strategy, untouched, *(f"{accuracy[strategy, label]:.1%}" for label in DROPS))
    table.title = "Accuracy of each strategy, and speed-up measured against the untouched model"
    table.caption = "s1 to s4: the paper's; bound, ward, distortion: from bounds; tome, attention, random: baselines"
    table.title_justify = table.caption_justify = "left"
    return table


def _draw(model: nn.Module, images: Tensor, path: Path) -> None:
    with _accelerated(model, "s1", SHOWN), recording(model) as trace:
        _answer(model, images)
    merged = merged_images(trace, images, strategy="s1", mean=[zoo.digits.MEAN] * 3, std=[zoo.digits.STD] * 3)
    save_merged(path, merged)


def _full_size(console: Console) -> None:
    with progress("building CLIP ViT-L/14 at 336 px with random weights"):
        loaded = load_model("random:clip-l14-336")
    with progress("timing CLIP ViT-L/14 at 336 px, interleaved with the untouched model", steps=4) as advance:
        result = compare(loaded, {"s1": {"strategy": "s1", "drop": CLIP_DROP}}, rounds=3, on_round=advance)
    console.print("The same call on a full-size model, against its own fused attention:\n")
    console.print(f"    turbo.accelerate(model, strategy='s1', drop={CLIP_DROP})\n", highlight=False)
    console.print(comparison_table(result))
