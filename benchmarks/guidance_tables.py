"""Tables of what `semantic_sources.py` and `attention_sinks.py` found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markdown_tables import number, pipe_table

from turbo.errors import TurboError

Load = Callable[[str], Mapping[str, Any]]
Row = Mapping[str, Any]
COLUMNS = {
    ("blip-scenes", "nll"): ("captions", 1),
    ("clip-scenes", "nll"): ("retrieval", 1),
    ("clip-scenes", "distance"): ("retrieval,<br>10³ · change", 1000),
    ("clip-scenes, planted", "nll"): ("retrieval,<br>planted", 1),
    ("clip-scenes, planted", "distance"): ("retrieval,<br>planted,<br>10³ · change", 1000),
    ("vit-digits", "nll"): ("digits", 1),
    ("pool-scenes", "nll"): ("attention pool", 1),
    ("pool-scenes", "distance"): ("attention pool,<br>10³ · change", 1000),
}
"""Model and metric -> head of a column, and what its figures are multiplied by."""
_ALONE = "none"  # what the record calls the source of A of R alone
_SPACE = "\u00a0"  # where no line may break


def sources(load: Load, *, strategy: str, split: str, amounts: str) -> str:
    """Sources of A for models without a class token, by one strategy, against R alone.

    Args:
        load: reads a record.
        strategy: "ward" or "s1".
        split: "validation" or "test".
        amounts: speed-ups, with commas.

    Raises:
        TurboError: the record does not have it.
    """
    rows = load("semantic-sources")[split]
    wanted = [row for row in rows if row["strategy"] == strategy or row["source"] == _ALONE]
    return _table(wanted, amounts, lambda row: row["source"] == _ALONE)


def sink_sources(load: Load, *, strategy: str, amounts: str) -> str:
    """A that distrusts sinks against A as it is, by one strategy.

    Args:
        load: reads a record.
        strategy: "ward" or "s1".
        amounts: as for `sources`.

    Raises:
        TurboError: the record does not have it.
    """
    rows = [row for row in load("attention-sinks")["test"] if row["strategy"] == strategy]
    return _table(rows, amounts, lambda row: row["source"] == "class token")


def sinks(load: Load) -> str:
    """Sinks of each model and block: how many, how many of them on objects, and how many never merge."""
    header = ["model", "block"]
    for kind in ("loud", "silent"):
        header += [f"{kind}<br>in an image", "on an object", "never merged"]
    lines, before = [], ""
    for row in load("attention-sinks")["blocks"]:
        line = [row["model"] if row["model"] != before else "", str(row["block"])]
        for kind in ("loud", "silent"):
            line += [number(row[f"{kind} in an image"], 2), _shares(row, kind, "on objects"), _kept(row, kind)]
        lines.append([*line, _shares(row, "neither", "on objects"), _kept(row, "neither")])
        before = row["model"]
    header += ["other patches<br>on an object", "never merged"]
    return pipe_table(header, lines, [i > 0 for i in range(len(header))])


def made_by(load: Load, *, record: str) -> str:
    """By which command a record was made, and where, as a paragraph."""
    found = load(record)
    at = found["machine"]
    versions = ", ".join(f"{name} {at[name]}" for name in ("torch", "transformers", "timm", "turbo"))
    threads = f"{at['threads']} thread{'s' * (at['threads'] > 1)}"
    return f"`{found['command']}`, on {at['gpu'] or at['processor']}, {threads}, {versions}."


def _kept(row: Row, kind: str) -> str:
    return _shares(row, kind, *(f"kept by {each}" for each in ("tome", "s1", "ward")))


def _shares(row: Row, kind: str, *names: str) -> str:
    values = [row[f"{kind} {name}"] for name in names]
    if None in values:
        return "–"
    return f"{', '.join(f'{100 * value:.0f}' for value in values)}{_SPACE}%"


def _table(rows: Sequence[Row], amounts: str, is_reference: Callable[[Row], bool]) -> str:
    wanted = [float(each) for each in amounts.split(",")]
    columns = [column for column in COLUMNS if any((row["model"], row["metric"]) == column for row in rows)]
    if strange := [each for each in wanted if not any(row["speedup"] == each for row in rows)]:
        raise TurboError(f"nothing was measured at {strange[0]:g}×")
    lines = []
    for amount in wanted:
        cells: dict[str, dict[tuple[str, str], Row]] = {}
        for row in rows:
            if row["speedup"] == amount:
                cells.setdefault(row["source"], {})[row["model"], row["metric"]] = row
        for place, (source, found) in enumerate(cells.items()):
            shown = [_cell(found.get(column), COLUMNS[column][1], is_reference) for column in columns]
            lines.append([f"{amount:g}×" if place == 0 else "", "R alone" if source == _ALONE else source, *shown])
    header = ["speed-up", "A", *(COLUMNS[column][0] for column in columns)]
    return pipe_table(header, lines, [False, False, *[True] * len(columns)])


def _cell(row: Row | None, scale: float, is_reference: Callable[[Row], bool]) -> str:
    if row is None:
        return ""
    mean, difference, half = (scale * row[name] for name in ("mean", "difference", "half_width"))
    decimals = 3 if half < 0.1 else 2 if half < 10 else 1
    text = number(mean, decimals)
    if is_reference(row):
        return text
    if abs(difference) > half:
        text = f"**{text}**" if difference < 0 else f"{text}{_SPACE}▲"
    return f"{text}<br>{number(difference, decimals, sign=True)}{_SPACE}±{_SPACE}{number(half, decimals)}"
