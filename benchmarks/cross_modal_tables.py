"""Tables of merging across modalities for the pages, from the record of `cross_modal.py`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from markdown_tables import number, pipe_table

from turbo.zoo.paint import GROUNDS

Load = Callable[[str], Mapping[str, Any]]
RECORD = "cross-modal"
WHERE = {"tower": "vision tower", "both": "half each", "text": "text layers"}
TIMED = WHERE | {"both": "both"}


def cross_modal_quality(load: Load, *, strategy: str) -> str:
    """Where tokens merge, at equal numbers before the last text layer: each row against the tower alone."""
    rows = [row for row in load(RECORD)["quality"]["rows"] if row["strategy"] in ("", strategy)]
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = [(model, ground) for model in models for ground in GROUNDS]
    header = ["image tokens", "merged in", *(f"`{model}`<br>{ground}" for model, ground in columns)]
    lines = []
    keys = dict.fromkeys((row["left"], row["where"]) for row in rows)
    for left, where in sorted(keys, key=lambda key: -key[0]):
        found = {(row["model"], row["ground"]): row for row in rows if (row["left"], row["where"]) == (left, where)}
        first = "untouched" if where == "untouched" else str(left) if where == "tower" else ""
        lines.append([first, WHERE.get(where, ""), *(_cell(found.get(column)) for column in columns)])
    return pipe_table(header, lines, [False, False, *[True] * len(columns)])


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    mean = number(row["nll"], 4)
    if row["where"] in ("untouched", "tower"):
        return mean
    difference = f"{number(row['difference'], 4, sign=True)} ± {number(row['difference_half_width'], 4)}"
    if abs(row["difference"]) <= row["difference_half_width"]:
        return f"{mean}<br>{difference}"
    return f"**{mean}**<br>{difference}" if row["difference"] < 0 else f"{mean} ▲<br>{difference}"


def cross_modal_time(load: Load) -> str:
    """What each side takes: text encoder alone, and together with the tower."""
    time = load(RECORD)["time"]
    header = ("merged in", "`cross_modal`", "tokens per text layer", "text encoder", "ideal", "with tower", "ideal")
    lines = []
    for side in time["sides"]:
        where, _, share = side["side"].partition(" ")
        read = list(dict.fromkeys(side["read"]))
        tokens = f"{read[0]} to {read[-1]}" if len(read) > 1 else str(read[0]) if read else ""
        cells = [figure for what in ("text", "whole") for figure in _figures(side[what], first=not side["read"])]
        lines.append((TIMED.get(where, where), share, tokens, *cells))
    return pipe_table(header, lines, [False, *[True] * 6])


def _figures(timed: Mapping[str, Any], *, first: bool) -> tuple[str, str]:
    if first:
        return f"{statistics.mean(timed['seconds']):.2f} s", ""
    return f"{timed['speedup']:.2f}×", f"{timed['ideal']:.2f}×"
