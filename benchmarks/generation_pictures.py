"""Pictures of the text-to-image benchmark: curves over the ratio, and pairs of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from PIL import Image

from turbo import viz
from turbo.evaluation.paper.pictures import scene_changes, scene_prompts

DRAWN, CHANGED = 4, 3  # pairs of text to image, of image to image
COLOURS = {
    "s1": "#1f77b4",
    "s2": "#17becf",
    "s3": "#2ca02c",
    "s4": "#98df8a",
    "distortion": "#e377c2",
    "ward": "#9467bd",
    "bound": "#8c564b",
    "tome": "#ff7f0e",
    "tomesd": "#d62728",
    "attention": "#bcbd22",
    "random": "#7f7f7f",
}
DASHED = ("tome", "tomesd", "attention", "random")
"""What is there to be compared with."""
FIGURES = {
    "frechet": "Frechet distance to drawn scenes\nminus the untouched side's, lower is better",
    "exact": "caption right in all attributes,\nminus the untouched side's, higher is better",
    "psnr": "PSNR to the untouched image, dB,\nhigher is better",
    "feature_distance": "feature distance to the untouched\nimage (the judge's), lower is better",
}


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Means over seeds with standard errors: one line of plots for each set of parts, one column for each figure."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    sets = list(dict.fromkeys(row["parts"] for row in rows if row["parts"]))
    untouched = {row["seed"]: row for row in rows if not row["parts"]}
    figure, axes = pyplot.subplots(len(sets), len(FIGURES), figsize=(15, 3.9 * len(sets)), squeeze=False)
    for line, parts in zip(axes, sets, strict=True):
        for axis, (name, label) in zip(line, FIGURES.items(), strict=True):
            mine = [row for row in rows if row["parts"] == parts]
            for method in dict.fromkeys(row["method"] for row in mine):
                x, y, error = _line([row for row in mine if row["method"] == method], untouched, name)
                style = "--" if method in DASHED else ":" if " every " in method else "-"
                colour = COLOURS.get(method.partition(" every ")[0])
                marker = method[-1:] if " every " in method else ""
                axis.errorbar(
                    x,
                    y,
                    error,
                    label=method,
                    color=colour,
                    linestyle=style,
                    marker=f"${marker}$" if marker else None,
                    capsize=2,
                    lw=1.2,
                )
            axis.set_xlabel("share of tokens merged")
            axis.set_title(label, fontsize=9)
            axis.grid(alpha=0.3)
        line[0].set_ylabel(parts.replace(",", ",\n"), fontsize=9)
    axes[0, 0].legend(fontsize=7, ncols=2)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    with Image.open(path) as drawn:
        few = drawn.convert("RGB").quantize(64)  # a third of the bytes
    few.save(path, optimize=True)


def draw_pairs(pipe: Any, path: Path, strategy: str, ratio: float, parts: Sequence[str]) -> None:
    """Text to image and image to image, left untouched and right turbo, with what was asked for underneath."""
    starts, changes = scene_changes(CHANGED, 78)
    options = {"ratio": dict.fromkeys(parts, ratio)}
    drawn = viz.draw_pairs(pipe, scene_prompts(DRAWN, 77), strategy=strategy, options=options)
    changed = viz.draw_pairs(
        pipe,
        changes,
        starts=starts,
        strategy=strategy,
        options=options,
        arguments={"strength": 0.6},
    )
    setting = f"{strategy}, {ratio:.0%} of the tokens of {', '.join(parts)} merged"
    sheet = viz.draw_sheet(
        [
            (f"Text to image. Left: untouched. Right: turbo ({setting}).", drawn),
            ("Image to image. Left: the start. Middle: untouched. Right: turbo.", changed),
        ]
    )
    viz.save_sheet(path, sheet, colours=256)


def difference(row: dict[str, Any], untouched: dict[int, dict[str, Any]], name: str) -> float | None:
    """A figure of a row; those that the untouched side has too are minus that of the same seed."""
    if name == "exact":
        return float(row["agreement"]["exact"] - untouched[row["seed"]]["agreement"]["exact"])
    if name == "frechet":
        return float(row[name] - untouched[row["seed"]][name])
    return None if row[name] is None else float(row[name])


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    return mean(values), stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def _line(rows: list[dict[str, Any]], untouched: dict[int, dict[str, Any]], name: str) -> tuple[list[float], ...]:
    """Ratios, means and standard errors over seeds; all figures but PSNR are 0 where nothing merges."""
    points = [] if name == "psnr" else [(0.0, 0.0, 0.0)]
    for ratio in sorted({row["ratio"] for row in rows}):
        found = [difference(row, untouched, name) for row in rows if row["ratio"] == ratio]
        if values := [value for value in found if value is not None]:
            points.append((ratio, *spread(values)))
    return tuple(list(column) for column in zip(*points, strict=True))
