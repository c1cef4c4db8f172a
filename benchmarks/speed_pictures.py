"""The pictures of speed and memory against the size of the problem: ``python benchmarks/speed_pictures.py``.

From benchmarks/results/speed-growth-*.json, by `speed.py`: docs/images/speed-growth.png and speed-memory.png.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from page_tables import load
from speed_tables import OURS, PEER, UNTOUCHED, Load, Record, records_of, sides_of

from turbo.bench import quartiles
from turbo.errors import TurboError
from turbo.evaluation.pareto import require_matplotlib

ROOT = Path(__file__).parents[1]
# Okabe and Ito's colours, which people with any colour vision can tell apart; each has its own mark, too.
STYLES = {
    UNTOUCHED: ("#000000", "D", "untouched"),
    OURS: ("#0072B2", "o", "turbo, s1"),
    PEER: ("#D55E00", "s", "ToMe"),
}
FONT = 17  # of a picture 1400 pixels wide that is shown at 700


def draw_growth(path: Path, records: list[Record]) -> None:
    """Draws speed-up and what FLOPs allow against N, batch and blocks, a panel each; bands are quartiles of the rounds.

    Args:
        path: where the PNG goes, 1400 pixels wide.
        records: of the cases that grow.
    """
    plt = require_matplotlib()
    figure, panels = plt.subplots(1, len(records), figsize=(14, 6), sharey=True, squeeze=False, layout="constrained")
    for panel, record in zip(panels[0], records, strict=True):
        at = [run["at"] for run in record["runs"]]
        for name in (OURS, PEER):
            x, sides = points(record, name)
            if not sides:
                continue
            colour, mark, label = STYLES[name]
            low, high = zip(*spreads(record, name), strict=True)
            panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            speedups = [side["speedup"] for side in sides]
            panel.plot(x, speedups, color=colour, marker=mark, linewidth=2.5, markersize=9, label=label)
        ideal = [side["ideal"] for side in points(record, OURS)[1]]
        panel.plot(at, ideal, color="#555555", linestyle="--", linewidth=2, label="if only FLOPs counted (turbo)")
        _scale(panel, at)
        panel.set_title(record["axis"].replace(" (", "\n("), fontsize=FONT)
    panels[0][0].set_ylabel("speed-up", fontsize=FONT)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=FONT, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_memory(path: Path, record: Record) -> None:
    """Draws peak memory against N.

    Args:
        path: where the PNG goes, 1400 pixels wide.
        record: of the case in which N grows.
    """
    plt = require_matplotlib()
    figure, panel = plt.subplots(figsize=(14, 6.5), layout="constrained")
    for name in (UNTOUCHED, OURS, PEER):
        x, sides = points(record, name)
        colour, mark, label = STYLES[name]
        if sides:
            look = {"markersize": 16, "markerfacecolor": "none"} if name == UNTOUCHED else {"markersize": 9}
            peaks = [side["peak_mb"] for side in sides]
            panel.plot(x, peaks, color=colour, marker=mark, linewidth=2.5, label=label, **look)
    panel.set_yscale("log")
    _scale(panel, [run["at"] for run in record["runs"]])
    panel.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(plt.NullFormatter())
    panel.set_xlabel(record["axis"], fontsize=FONT + 2)
    panel.set_ylabel("peak memory of a call, MB", fontsize=FONT + 2)
    panel.tick_params(labelsize=FONT)
    panel.legend(fontsize=FONT + 2, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def points(record: Record, name: str) -> tuple[list[int], list[Record]]:
    """Where a side was timed, and the side there."""
    found = [(run["at"], sides_of(run)[name]) for run in record["runs"] if name in sides_of(run)]
    return [at for at, _ in found], [side for _, side in found]


def spreads(record: Record, name: str) -> list[tuple[float, float]]:
    """Quartiles of the speed-ups of single rounds, wherever a side was timed."""
    found = []
    for sides in map(sides_of, record["runs"]):
        if name in sides:
            rounds = zip(sides[UNTOUCHED]["seconds"], sides[name]["seconds"], strict=True)
            found.append(quartiles([before / after for before, after in rounds]))
    return found


def _scale(panel: Any, at: list[int]) -> None:
    plt = require_matplotlib()
    panel.set_xscale("log")
    panel.set_xticks(at, [f"{each:g}" for each in at])
    panel.xaxis.set_minor_locator(plt.NullLocator())
    panel.grid(alpha=0.3)
    panel.tick_params(labelsize=FONT - 2)


def main(arguments: list[str] | None = None) -> int:
    """Draws from the records of a repository."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    root = parser.parse_args(arguments).root
    read: Load = partial(load, root / "benchmarks" / "results")
    images = root / "docs" / "images"
    try:
        draw_growth(images / "speed-growth.png", records_of(read, "growth"))
        draw_memory(images / "speed-memory.png", read("speed-growth-tokens"))
    except TurboError as error:
        print(error, file=sys.stderr)
        return 2
    print("written to docs/images/speed-growth.png and speed-memory.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
