"""Results as tables."""

from __future__ import annotations

from rich.table import Table

from turbo.bench import Comparison


def comparison_table(result: Comparison) -> Table:
    """Time, speed-up against the untouched model, what FLOPs allow, and memory."""
    height, width = result.image_size
    table = Table("", "seconds", "img/s", "speed-up", "ideal", "eff.", "GFLOPs", "MB", title_justify="left")
    table.title = f"{result.model}, {height}x{width}, batch {result.batch}, {result.dtype}"
    table.columns[0].overflow = "fold"  # a strategy's module:Name is read in full
    for column in table.columns[1:]:
        column.justify = "right"
    for side in result.sides:
        table.add_row(
            side.name,
            f"{side.median:.3f}",
            f"{result.batch / side.median:.1f}",
            f"{side.speedup:.2f}x",
            f"{side.ideal:.2f}x",
            f"{side.efficiency:.0%}",
            _short(side.gflops),
            _short(side.peak_mb) if side.peak_mb else "",
        )
    table.caption = "medians of interleaved rounds; ideal = ratio of FLOPs; eff. = speed-up / ideal; MB = peak memory"
    table.caption_justify = "left"
    return table


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
