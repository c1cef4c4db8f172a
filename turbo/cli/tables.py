"""Results as tables."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from turbo.bench import Comparison
from turbo.bench.break_even import BreakEven


def comparison_table(result: Comparison) -> Table:
    """Time, speed-up against the untouched model, what FLOPs allow, and memory."""
    height, width = result.image_size
    table = Table("", "seconds", "img/s", "speed-up", "ideal", "eff.", "GFLOPs", "MB", title_justify="left")
    table.title = f"{escape(result.model)}, {height}x{width}, batch {result.batch}, {result.dtype}"
    if result.compiled:
        table.title += ", compiled"
        table.add_column("compile s")
    table.columns[0].overflow = "fold"  # a strategy's module:Name is read in full
    for column in table.columns[1:]:
        column.justify = "right"
    for side in result.sides:
        table.add_row(
            escape(side.name),
            f"{side.median:.3f}",
            f"{result.batch / side.median:.1f}",
            f"{side.speedup:.2f}x",
            f"{side.ideal:.2f}x",
            f"{side.efficiency:.0%}",
            _short(side.gflops),
            _short(side.peak_mb) if side.peak_mb else "",
            *([] if side.compile_seconds is None else [_short(side.compile_seconds)]),
        )
    table.caption = (
        "medians over rounds: seconds, and speed-up by the two times of a round; ideal = ratio of FLOPs; "
        "eff. = speed-up / ideal; MB = peak memory"
    )
    if parts := [side.name for side in result.sides if side.whole_graph is False]:
        table.caption += f"; compiled in several graphs: {escape(', '.join(parts))}"
    table.caption_justify = "left"
    return table


def break_even_table(result: BreakEven) -> Table:
    """Speed-ups with the default amount: a row for each sequence length, a column for each batch."""
    table = Table("N", *(f"batch {batch.batch}" for batch in result.batches), title_justify="left")
    table.title = f"{escape(result.model)}, strategy {escape(result.strategy)}, {result.dtype}"
    found = [{length.n: length.speedup for length in batch.lengths} for batch in result.batches]
    for n in sorted(set().union(*found)):
        style = "bold" if n == result.n else None
        table.add_row(str(n), *(_factor(speedups.get(n), result.margin) for speedups in found), style=style)
    drops = ("–" if batch.drop is None else str(batch.drop) for batch in result.batches)
    table.add_section()
    table.add_row(f"drop at N = {result.n}", *drops)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    table.caption = (
        "speed-up of all blocks, default amount: from single blocks, scaled to the whole stack as measured at the "
        f"model's own N = {result.n}; – = not timed, too slow; drop = the smallest constant one that pays, – = none"
    )
    table.caption_justify = "left"
    return table


def _factor(speedup: float | None, margin: float) -> str:
    if speedup is None:
        return "–"
    return f"{speedup:.2f}x" if speedup > 1 + margin else f"[dim]{speedup:.2f}x[/dim]"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
