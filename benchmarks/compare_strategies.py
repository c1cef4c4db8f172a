"""Compares all strategies on the digits model's test scenes, where merging is hard enough for the choice to matter.

    python benchmarks/compare_strategies.py     # some minutes on 2 cores; writes benchmarks/results/strategies.json

Negative log-likelihood of the right digit, and accuracy; at each drop all strategies leave the same tokens.
"""

from __future__ import annotations

from statistics import mean, stdev

from digits import load_parts, score_parts, write_record
from rich.console import Console
from rich.table import Table

import turbo
from turbo import zoo
from turbo.cli.progress import progress

DROPS = ((26,) * 8, (100, 60, 20, 0, 0, 0, 0, 0), (110, 60, 40, 20, 0, 0, 0, 0), (120, 60, 20, 0, 0, 0, 0, 0))
SEEDS = (21, 22, 23, 24, 25)
SCENES = 400


def main() -> None:
    """Score every strategy at every drop on every seed."""
    model = zoo.load("vit-digits")
    parts = load_parts("test", SCENES, SEEDS)
    strategies = turbo.list_strategies()
    rows = []
    with progress("scoring", steps=len(strategies) * len(DROPS)) as advance:
        for drop in DROPS:
            for strategy in strategies:
                with turbo.accelerated(model, strategy, drop=drop):
                    rows.append({"drop": drop, "strategy": strategy, **score_parts(model, parts)})
                advance()
    untouched = score_parts(model, parts)
    record = {
        "scenes": f"test, {SCENES} for each of the seeds {SEEDS}",
        "untouched": untouched,
        "rows": rows,
    }
    write_record("strategies", "compare_strategies", record)
    table = Table("drop per block", "strategy", "NLL", "± (over seeds)", "accuracy")
    for row in rows:
        cells = (
            f"{mean(row['nll']):.4f}",
            f"{stdev(row['nll']) / len(SEEDS) ** 0.5:.4f}",
            f"{mean(row['accuracy']):.1%}",
        )
        table.add_row(str(row["drop"]), row["strategy"], *cells)
    Console().print(table)
    print(f"untouched: {mean(untouched['nll']):.4f}, {mean(untouched['accuracy']):.1%}")


if __name__ == "__main__":
    main()
