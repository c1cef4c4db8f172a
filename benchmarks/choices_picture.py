"""The picture of what strategies cost at each speed-up: ``python benchmarks/choices_picture.py``.

From benchmarks/results/defaults-test.json, by `defaults.py`. A panel for each model and ground: NLL against the factor
by which FLOPs fall, with 95% intervals of the means.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from defaults_rows import TITLES, UNTOUCHED, Column, Questions, title
from page_tables import load

from turbo import defaults
from turbo.evaluation.pareto import require_matplotlib

ROOT = Path(__file__).parents[1]
RIVALS = {"tome": "redundancy alone (tome)", "attention": "attention alone", "random": "random (leaves the panels)"}
# Okabe and Ito's colours, which people with any colour vision can tell apart; each has its own mark and line, too.
STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#777777", "D", ":"))


def draw(path: Path, found: Questions, strategy: str) -> None:
    """Draws the picture.

    Args:
        path: where the PNG goes, 1600 pixels wide.
        found: rows of the test part.
        strategy: compared with the rivals, as the rows call it.

    Raises:
        TurboError: the rows do not have it.
    """
    plt = require_matplotlib()
    names = {strategy: f"turbo's default ({title(strategy)})"} | {n: t for n, t in RIVALS.items() if n != strategy}
    asked = found.strategies("strategy", list(names))
    models = list(dict.fromkeys(model for model, _ in found.columns))
    grounds = list(dict.fromkeys(ground for _, ground in reversed(found.columns)))
    figure, panels = plt.subplots(
        len(grounds), len(models), figsize=(16, 4.1 * len(grounds)), sharex=True, squeeze=False, layout="constrained"
    )
    ticks = [1.0]
    for amount in sorted(asked):
        ticks += [amount] * (amount - ticks[-1] >= 0.2)  # labels need room
    for row, ground in enumerate(grounds):
        for place, model in enumerate(models):
            _draw_panel(panels[row][place], found, (model, ground), names)
            panels[row][place].set_xticks(ticks, [f"{each:g}" for each in ticks])
        panels[row][0].set_ylabel("NLL (nats, lower is better)", fontsize=13)
    for panel in panels[-1]:
        panel.set_xlabel("FLOPs fall by", fontsize=13)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=14, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_panel(panel: Any, found: Questions, column: Column, names: dict[str, str]) -> None:
    """Draws a model on a ground; names are of strategies, with what the legend calls them."""
    plt = require_matplotlib()
    bare, top = found.untouched[column]["nll"].mean, 0.0
    panel.axhline(bare, color="black", linewidth=1.2, linestyle=(0, (1, 2)), label=UNTOUCHED)
    for (name, label), (colour, mark, line) in zip(names.items(), STYLES, strict=False):
        points = _points(found, column, name)
        x, low, mean, high = zip(*points, strict=True)
        panel.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        top = max(top, *high) if name != "random" else top
        panel.plot(x, mean, color=colour, marker=mark, linestyle=line, linewidth=2, markersize=6, label=label)
    panel.set_yscale("log")
    panel.set_ylim(top=1.2 * top)
    panel.yaxis.set_major_locator(plt.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    panel.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(plt.NullFormatter())
    panel.grid(alpha=0.3)
    panel.tick_params(labelsize=11)
    model, ground = column
    panel.set_title(f"{TITLES.get(model, model)}, {ground}", fontsize=14)


def _points(found: Questions, column: Column, name: str) -> list[tuple[float, float, float, float]]:
    """Speed-up, and the mean between the ends of its interval; lines start at the untouched model."""
    bare = found.untouched[column]["nll"].mean
    points = [(1.0, bare, bare, bare)]
    for amount, answers in sorted(found.one("strategy").items()):
        if column not in answers[name]:  # measured further for one model than for others
            continue
        it = answers[name][column]["nll"]
        points.append((amount, max(it.mean - it.half_width, it.mean / 10), it.mean, it.mean + it.half_width))
    return points


def main() -> None:
    """Draws from the records of a repository."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    root = parser.parse_args().root
    path = root / "docs" / "images" / "choices.png"
    draw(path, Questions(load(root / "benchmarks" / "results", "defaults-test")), defaults.STRATEGY)
    print(f"written to {path.relative_to(root)}")


if __name__ == "__main__":
    main()
