"""Chooses S1's default α on the digits model's validation scenes (never on its test scenes).

    python benchmarks/choose_alpha.py      # about two minutes on 2 cores; writes benchmarks/results/alpha.json

Negative log-likelihood, the less noisy figure, decides; accuracy is shown beside it. Lower α is closer to R alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

import turbo
from turbo import zoo
from turbo.bench.compare import machine
from turbo.cli.progress import progress

ALPHAS = (0.0, 0.03, 0.1, 0.25, 0.5, 1.0)
DROPS = ((40, 40, 40, 40, 0, 0, 0, 0), (100, 60, 20, 0, 0, 0, 0, 0), (120, 60, 20, 0, 0, 0, 0, 0))
SEEDS = (11, 12, 13)
SCENES = 400


def main() -> None:
    """Score every α at every drop on every seed."""
    model = zoo.load("vit-digits")
    scenes = [zoo.scenes("validation", SCENES, seed=seed) for seed in SEEDS]
    parts = [(zoo.preprocess(images), torch.from_numpy(labels)) for images, labels in scenes]
    rows = []
    with progress("scoring", steps=len(ALPHAS) * len(DROPS)) as advance:
        for drop in DROPS:
            for alpha in ALPHAS:
                with turbo.accelerated(model, turbo.fusion.S1(alpha), drop=drop):
                    scores = [score(model, images, labels) for images, labels in parts]
                rows.append(
                    {"drop": drop, "alpha": alpha, "nll": [s[0] for s in scores], "accuracy": [s[1] for s in scores]}
                )
                advance()
    untouched = [score(model, images, labels) for images, labels in parts]
    record = {
        "command": "python benchmarks/choose_alpha.py",
        "machine": machine(torch.device("cpu")),
        "scenes": f"validation, {SCENES} for each of the seeds {SEEDS}",
        "untouched": {"nll": [s[0] for s in untouched], "accuracy": [s[1] for s in untouched]},
        "rows": rows,
    }
    target = Path(__file__).parent / "results" / "alpha.json"
    target.write_text(json.dumps(record, indent=1) + "\n")
    table = Table("drop per block", "α", "NLL", "accuracy")
    for row in rows:
        table.add_row(str(row["drop"]), str(row["alpha"]), f"{mean(row['nll']):.4f}", f"{mean(row['accuracy']):.1%}")
    Console().print(table)


@torch.inference_mode()
def score(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean negative log-likelihood of the right digit, and accuracy."""
    logits = torch.cat([model(part).logits for part in torch.split(images, 100)])
    return F.cross_entropy(logits, labels).item(), (logits.argmax(dim=1) == labels).float().mean().item()


if __name__ == "__main__":
    main()
