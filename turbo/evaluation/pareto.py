"""Quality against speed, drawn: a line for each strategy, and which settings no other beats at both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turbo.errors import TurboError
from turbo.evaluation.figures import LOWER_IS_BETTER, better
from turbo.evaluation.settings import UNTOUCHED


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other beats: none is at least as good in both and better in one.

    Args:
        points: pairs of which both are the better the larger.

    Returns:
        Their indices, by the first of the pair.

    Examples:
        >>> pareto_front([(1.0, 0.9), (2.0, 0.5), (1.5, 0.4), (1.5, 0.8)])
        [0, 3, 1]
    """

    def beaten(point: tuple[float, float]) -> bool:
        return any(o[0] >= point[0] and o[1] >= point[1] and o != point for o in points)

    return sorted((i for i, point in enumerate(points) if not beaten(point)), key=lambda i: points[i])


def require_matplotlib() -> Any:
    """Matplotlib's pyplot, drawing to files.

    Raises:
        TurboError: it is not installed.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise TurboError('the plot needs matplotlib: pip install "turbo-vlm[viz]", or leave it out') from error
    return plt


def save_plot(path: Path, results: Mapping[str, Any], metric: str, title: str = "") -> None:
    """Draw a metric against speed-up, one panel for each part, side by side on one scale.

    Speed-up is measured, of the vision encoder; where nothing was timed it is what FLOPs promise, and the axis says
    so. Bars are 95% intervals; of measured speed-ups, quartiles of the rounds. Rings mark the Pareto front.

    Args:
        path: where the PNG goes.
        results: by `summarise`, with the factors of `ideal_factors`.
        metric: which figure.
        title: above the panels.

    Raises:
        TurboError: matplotlib is missing, or the results do not have the metric or FLOPs.
    """
    plt = require_matplotlib()
    parts, settings = results["parts"], results["settings"]
    known = list(next(iter(parts.values()))["settings"][UNTOUCHED])
    if metric not in known:
        raise TurboError(f"no metric is called {metric!r} here; there are: {', '.join(known)}")
    measured = all(about["speed"] for about in settings.values())
    if any(about["ideal_speedup"] is None for about in settings.values()):
        raise TurboError("the results have no FLOPs to draw against: give summarise() what ideal_factors() found")
    series = list(dict.fromkeys(about["series"] for name, about in settings.items() if name != UNTOUCHED))
    width = 1.2 + 5.2 * len(parts)
    figure, panels = plt.subplots(
        1, len(parts), figsize=(width, 5.2), squeeze=False, sharey=True, sharex=True, layout="constrained"
    )
    for panel, (part, found) in zip(panels[0], parts.items(), strict=True):
        _draw(panel, plt, found["settings"], settings, metric, series, measured)
        panel.set_title(part, fontsize=10)
        panel.grid(alpha=0.3)
        panel.set_xlabel("speed-up of the vision encoder, " + ("measured" if measured else "by FLOPs (not measured)"))
    unit = "nats, lower is better" if metric in LOWER_IS_BETTER else "x 100"
    panels[0][0].set_ylabel(f"{metric.replace('_', ' ')} ({unit})")
    figure.suptitle(title, fontsize=10)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, min(6, int(width / 1.9))), fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(
    panel: Any,
    plt: Any,
    figures: Mapping[str, Any],
    settings: Mapping[str, Any],
    metric: str,
    series: Sequence[str],
    measured: bool,
) -> None:
    colours = plt.get_cmap("tab20" if len(series) > 10 else "tab10").colors
    at = {name: _point(about, figures[name][metric], metric, measured) for name, about in settings.items()}
    untouched = at[UNTOUCHED]
    if untouched["y"] is None:  # nothing in this part has the metric
        panel.text(0.5, 0.5, f"no {metric} here", ha="center", transform=panel.transAxes)
        return
    panel.axhline(untouched["y"], color="black", linewidth=0.8, linestyle=":")
    panel.plot(untouched["x"], untouched["y"], "*", color="black", markersize=10, label=UNTOUCHED)
    for index, one in enumerate(series):
        mine = sorted(
            (at[name] for name, about in settings.items() if about["series"] == one), key=lambda p: p["ideal"]
        )
        panel.errorbar(
            [point["x"] for point in mine],
            [point["y"] for point in mine],
            xerr=_bars(mine, "x"),
            yerr=_bars(mine, "y"),
            color=colours[index % len(colours)],
            marker="o^sDvPXd<>"[index % 10],
            markersize=5,
            linewidth=1.4,
            elinewidth=0.7,
            alpha=0.9,
            label=one,
        )
    points = list(at.values())
    front = [points[i] for i in pareto_front([(point["x"], better(metric) * point["y"]) for point in points])]
    panel.plot(
        [point["x"] for point in front],
        [point["y"] for point in front],
        "o",
        markersize=12,
        markerfacecolor="none",
        markeredgecolor="black",
        markeredgewidth=0.8,
        label="Pareto front",
    )


def _point(about: Mapping[str, Any], entry: Mapping[str, Any], metric: str, measured: bool) -> dict[str, Any]:
    speed = about["speed"]["encoder"] if measured else {}
    x = speed.get("speedup", about["ideal_speedup"])
    point = {"x": x, "x_low": speed.get("low", x), "x_high": speed.get("high", x), "ideal": about["ideal_speedup"]}
    scale = 1 if metric in LOWER_IS_BETTER else 100
    ends = {"y": entry["value"], "y_low": entry["low"], "y_high": entry["high"]}
    # What has no interval has no bar.
    known = {name: entry["value"] if value is None else value for name, value in ends.items()}
    return point | {name: None if value is None else scale * value for name, value in known.items()}


def _bars(points: Sequence[Mapping[str, Any]], axis: str) -> list[list[float]]:
    """How far the bars reach below and above."""
    below = [max(0.0, point[axis] - point[f"{axis}_low"]) for point in points]
    return [below, [max(0.0, point[f"{axis}_high"] - point[axis]) for point in points]]
