"""Pictures of the text-to-image benchmark: curves over the ratio, and pairs of images."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import turbo
from turbo.zoo.captioned import COLOURS as NAMES
from turbo.zoo.captioned import NONE, captioned_scenes

SCALE = 4
SIDE = 32 * SCALE
GAP, MARGIN, LINE = 4, 14, 15
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
    _, captions, _ = captioned_scenes("test", DRAWN, 77, pairs=0.0)
    scenes, _, labels = captioned_scenes("test", CHANGED, 78, pairs=0.0)
    starts = [Image.fromarray(scene) for scene in scenes]
    # The same scene in another colour.
    other = replace(labels, colour=np.where(labels.colour == NONE, NONE, (labels.colour + 1) % len(NAMES)))
    changes = other.captions()

    def draw() -> list[Image.Image]:
        seeds = [[torch.Generator().manual_seed(index) for index in range(count)] for count in (DRAWN, CHANGED)]
        first = pipe(captions, generator=seeds[0]).images
        return [*first, *pipe(changes, image=starts, strength=0.6, generator=seeds[1]).images]

    untouched = draw()
    with turbo.accelerated(pipe, strategy, ratio=dict.fromkeys(parts, ratio)):
        merged = draw()
    pairs = [list(pair) for pair in zip(untouched, merged, strict=True)]
    triples = [[start, *pair] for start, pair in zip(starts, pairs[DRAWN:], strict=True)]
    setting = f"{strategy}, {ratio:.0%} of the tokens of {', '.join(parts)} merged"
    sheet = _sheet(
        [
            (f"Text to image. Left: untouched. Right: turbo ({setting}).", pairs[:DRAWN]),
            ("Image to image. Left: the start. Middle: untouched. Right: turbo.", triples),
        ],
        [*captions, *changes],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(path, optimize=True)


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


def _sheet(rows: list[tuple[str, list[list[Image.Image]]]], captions: Sequence[str]) -> Image.Image:
    font = ImageFont.load_default(12)
    widths = [len(groups) * (len(groups[0]) * (SIDE + GAP) - GAP + MARGIN) + MARGIN for _, groups in rows]
    height = SIDE + 4 * LINE + MARGIN
    sheet = Image.new("RGB", (max(widths), height * len(rows) + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    asked = iter(captions)
    for line, (title, groups) in enumerate(rows):
        top, left = line * height + MARGIN, MARGIN
        pen.text((left, top), title, "black", font)
        for group in groups:
            wide = len(group) * (SIDE + GAP) - GAP
            for place, image in enumerate(group):
                shown = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
                sheet.paste(shown, (left + place * (SIDE + GAP), top + LINE + 4))
            text = "\n".join(textwrap.wrap(next(asked), wide // 6))
            pen.multiline_text((left, top + LINE + SIDE + 8), text, "black", font, spacing=2)
            left += wide + MARGIN
    return sheet
