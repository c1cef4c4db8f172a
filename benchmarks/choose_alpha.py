"""Chooses S1's default α on the digits model's validation scenes (never on its test scenes).

    python benchmarks/choose_alpha.py      # about two minutes on 2 cores; writes benchmarks/results/alpha.json

Negative log-likelihood, the less noisy figure, decides; accuracy is shown beside it. Lower α is closer to R alone.
"""

from __future__ import annotations

from statistics import mean

from digits import load_parts, score_parts, write_record
from rich.console import Console
from rich.table import Table

import turbo
from turbo import zoo
from turbo.cli.progress import progress

ALPHAS = (0.0, 0.03, 0.1, 0.25, 0.5, 1.0)
DROPS = ((40, 40, 40, 40, 0, 0, 0, 0), (100, 60, 20, 0, 0, 0, 0, 0), (120, 60, 20, 0, 0, 0, 0, 0))
SEEDS = (11, 12, 13)
SCENES = 400


def main() -> None:
    """Score every α at every drop on every seed."""
    model = zoo.load("vit-digits")
    parts = load_parts("validation", SCENES, SEEDS)
    rows = []
    with progress("scoring", steps=len(ALPHAS) * len(DROPS)) as advance:
        for drop in DROPS:
            for alpha in ALPHAS:
                with turbo.accelerated(model, turbo.fusion.S1(alpha), drop=drop):
                    rows.append({"drop": drop, "alpha": alpha, **score_parts(model, parts)})
                advance()
    record = {
        "scenes": f"validation, {SCENES} for each of the seeds {SEEDS}",
        "untouched": score_parts(model, parts),
        "rows": rows,
    }
    write_record("alpha", "choose_alpha", record)
    table = Table("drop per block", "α", "NLL", "accuracy")
    for row in rows:
        table.add_row(str(row["drop"]), str(row["alpha"]), f"{mean(row['nll']):.4f}", f"{mean(row['accuracy']):.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
