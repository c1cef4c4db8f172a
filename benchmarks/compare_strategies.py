"""Compares all strategies on the digits model's test scenes, where merging is hard enough for the choice to matter.

    python benchmarks/compare_strategies.py     # some minutes on 2 cores; writes benchmarks/results/strategies.json

Negative log-likelihood of the right digit, and accuracy; at each drop all strategies leave the same tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

import torch
from choose_alpha import score
from rich.console import Console
from rich.table import Table

import turbo
from turbo import zoo
from turbo.bench.compare import machine
from turbo.cli.progress import progress

DROPS = ((26,) * 8, (100, 60, 20, 0, 0, 0, 0, 0), (110, 60, 40, 20, 0, 0, 0, 0), (120, 60, 20, 0, 0, 0, 0, 0))
SEEDS = (21, 22, 23, 24, 25)
SCENES = 400


def main() -> None:
    """Score every strategy at every drop on every seed."""
    model = zoo.load("vit-digits")
    scenes = [zoo.scenes("test", SCENES, seed=seed) for seed in SEEDS]
    parts = [(zoo.preprocess(images), torch.from_numpy(labels)) for images, labels in scenes]
    strategies = turbo.list_strategies()
    rows = []
    with progress("scoring", steps=len(strategies) * len(DROPS)) as advance:
        for drop in DROPS:
            for strategy in strategies:
                with turbo.accelerated(model, strategy, drop=drop):
                    scores = [score(model, images, labels) for images, labels in parts]
                nll, accuracy = ([s[i] for s in scores] for i in (0, 1))
                rows.append({"drop": drop, "strategy": strategy, "nll": nll, "accuracy": accuracy})
                advance()
    untouched = [score(model, images, labels) for images, labels in parts]
    record = {
        "command": "python benchmarks/compare_strategies.py",
        "machine": machine(torch.device("cpu")),
        "scenes": f"test, {SCENES} for each of the seeds {SEEDS}",
        "untouched": {"nll": [s[0] for s in untouched], "accuracy": [s[1] for s in untouched]},
        "rows": rows,
    }
    target = Path(__file__).parent / "results" / "strategies.json"
    target.write_text(json.dumps(record, indent=1) + "\n")
    table = Table("drop per block", "strategy", "NLL", "± (over seeds)", "accuracy")
    for row in rows:
        cells = (
            f"{mean(row['nll']):.4f}",
            f"{stdev(row['nll']) / len(SEEDS) ** 0.5:.4f}",
            f"{mean(row['accuracy']):.1%}",
        )
        table.add_row(str(row["drop"]), row["strategy"], *cells)
    Console().print(table)
    print(f"untouched: {mean(s[0] for s in untouched):.4f}, {mean(s[1] for s in untouched):.1%}")


if __name__ == "__main__":
    main()
