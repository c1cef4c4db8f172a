"""Tables of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from turbo.evaluation.figures import LOWER_IS_BETTER
from turbo.evaluation.run import Preview
from turbo.evaluation.settings import UNTOUCHED

COLUMNS = {
    "captioning": ("nll", "cider", "bleu4", "exact", "digit", "small"),
    "vqa": ("nll", "accuracy"),
    "matching": ("nll", "accuracy"),
    "retrieval": ("nll", "mean_r1", "image_to_text_r1", "text_to_image_r1"),
    "classification": ("nll", "top1"),
}
_TITLES = {
    "image_to_text_r1": "R@1 texts",
    "text_to_image_r1": "R@1 images",
    "mean_r1": "R@1",
    "bleu4": "B@4",
    "cider": "CIDEr",
    "top1": "top-1",
}
_STYLES = {"better": "green", "worse": "red", "even": "dim"}
CAPTION = (
    "± half of the 95% interval; * a difference that is told from chance (0 is outside its 95% interval); nll in nats, "
    "lower is better; all else times 100; encoder, call: measured speed-up; ideal: by FLOPs"
)


def settings_table(previews: Mapping[str, Preview]) -> Table:
    """What will be compared: tokens after the last block, and the factor by which the blocks' FLOPs fall."""
    table = Table("setting", "tokens left", "FLOPs fall by", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for name, known in previews.items():
        table.add_row(escape(name), str(known.tokens), f"{known.factor:.2f}x")
    return table


def score_table(results: Mapping[str, Any], part: str, metric: str, width: int = 120) -> Table:
    """The figures of one part, with what is told from chance.

    Args:
        results: of `run_study`.
        part: name of the part.
        metric: the one whose interval and differences are shown.
        width: of the terminal; the other metrics are shown as far as there is room.
    """
    settings, figures = results["settings"], results["parts"][part]["settings"]
    known = [name for name in COLUMNS[results["run"]["task"]] if name in figures[UNTOUCHED] and name != metric]
    works = [work for work in ("encoder", "call") if all(work in about["speed"] for about in settings.values())]
    rivals = any(entry[metric]["against_tome"] for entry in figures.values())
    taken = max(map(len, figures)) + 38 + 10 * rivals + 10 * len(works)  # columns that are always there
    others = known[: max(0, (width - taken) // 9)]
    table = Table("", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.title = f"{results['run']['model']}, {part}, {figures[UNTOUCHED][metric]['count']} examples"
    table.columns[0].overflow = "fold"
    against = ["- untouched", *(["- tome"] if rivals else [])]
    for name in (metric, *against, *others, *works, "ideal"):
        table.add_column(_TITLES.get(name, name), justify="right", no_wrap=True)
    for name, entry in figures.items():
        cells: list[str | Text] = [_figure(entry[metric], metric), _change(entry[metric]["against_untouched"], metric)]
        cells += [_change(entry[metric]["against_tome"], metric)] if rivals else []
        cells += [_figure(entry[each], each, bare=True) for each in others]
        cells += [f"{settings[name]['speed'][work]['speedup']:.2f}x" for work in works]
        table.add_row(escape(name), *cells, f"{settings[name]['ideal_speedup']:.2f}x")
    return table


def notes(previews: Mapping[str, Preview]) -> list[str]:
    """What settings cannot do as asked."""
    return [f"{name}: {note}" for name, known in previews.items() for note in known.notes]


def _figure(entry: Mapping[str, Any], metric: str, *, bare: bool = False) -> str:
    if entry["value"] is None:
        return ""
    form, scale = _form(metric)
    text = format(scale * entry["value"], form)
    if bare or entry["low"] is None:
        return text
    return f"{text} ±{format(scale * (entry['high'] - entry['low']) / 2, form)}"


def _change(entry: Mapping[str, Any] | None, metric: str) -> Text:
    if entry is None or entry["value"] is None:
        return Text("")
    form, scale = _form(metric)
    mark = " " if entry["verdict"] == "even" else "*"
    return Text(f"{format(scale * entry['value'], '+' + form)}{mark}", style=_STYLES[entry["verdict"]])


def _form(metric: str) -> tuple[str, float]:
    return (".3f", 1.0) if metric in LOWER_IS_BETTER else (".1f", 100.0)
