"""One of the paper's tables measured on a model, beside what the paper has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turbo.bench.folder import write_json, write_whole
from turbo.evaluation.data import Data
from turbo.evaluation.figures import Side
from turbo.evaluation.paper.claims import Claim, Finding, check_printed, check_quality, check_speed
from turbo.evaluation.paper.report import markdown
from turbo.evaluation.paper.tables import PaperTable
from turbo.evaluation.results import part_of
from turbo.evaluation.run import evaluate
from turbo.evaluation.study import Progress, run_study
from turbo.evaluation.tasks.job import Decoding
from turbo.models import LoadedModel

METRICS = ("cider", "bleu4", "nll", "exact")
QUALITY = ("cider", "nll")


def reproduce_table(
    loaded: LoadedModel,
    data: Sequence[Data],
    table: PaperTable,
    out: Path,
    *,
    batch: int = 32,
    decoding: Decoding | None = None,
    rounds: int | None = 7,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the rows of a table, hold its claims against the figures, and write down both.

    Args:
        loaded: a captioner; it is left untouched.
        data: `Captions`, as `load_data` gives them.
        table: by `fusion_table` or `threshold_table`.
        out: folder; the study is kept in its sub-folder ``table1`` or ``table2``, where it goes on if it was stopped.
        batch: images at a time, and in what is timed.
        decoding: how captions are written; the model's published protocol without it.
        rounds: how many times each row is timed; None times nothing.
        about: more to write down, such as the command.
        progress: shows how far it is.

    Returns:
        What ``table1.json`` holds: "run", "machine", "mapping", "data", "rows" and "claims". ``table1.md`` has the
        same for people.

    Raises:
        TurboError: as for `run_study`.
    """
    folder = out / table.name
    protocol: dict[str, Any] = {"task": "captioning", "batch": batch, "decoding": decoding}
    shown: dict[str, Any] = {} if progress is None else {"progress": progress}
    study = run_study(loaded, data, table.settings, folder, rounds=rounds, plot=False, about=about, **shown, **protocol)
    # All of it is there by now; the differences between rows need it example by example.
    outcomes = evaluate(loaded, data, table.settings, out=folder, **protocol)
    parts: dict[str, list[Data]] = {}
    for each in data:
        parts.setdefault(part_of(each.name), []).append(each)
    sides = {
        part: {name: Side(members, [outcomes[each.name][name] for each in members]) for name in study["settings"]}
        for part, members in parts.items()
    }
    seconds = None if rounds is None else json.loads((folder / "times.json").read_text())["seconds"]["call"]
    count = min(batch, len(data[0].images))
    record = {
        **(about or {}),
        "table": table.name,
        "run": study["run"],
        "machine": study["machine"],
        "mapping": dict(table.mapping),
        "data": {part: found["data"] for part, found in study["parts"].items()},
        "rows": {name: _row(name, study, table.printed) for name in study["settings"]},
        "claims": [_claim(claim, sides, seconds, count, table.printed) for claim in table.claims],
    }
    write_json(out / f"{table.name}.json", record)
    write_whole(out / f"{table.name}.md", markdown(record))
    return record


def _row(name: str, study: Mapping[str, Any], printed: Mapping[str, Any]) -> dict[str, Any]:
    about = study["settings"][name]
    figures = {
        part: {metric: found["settings"][name][metric] for metric in METRICS if metric in found["settings"][name]}
        for part, found in study["parts"].items()
    }
    kept = {key: about[key] for key in ("options", "tokens", "ideal_speedup", "speed", "notes")}
    return {"paper": printed.get(name), **kept, "parts": figures}


def _claim(
    claim: Claim,
    sides: Mapping[str, Mapping[str, Side]],
    seconds: Mapping[str, Sequence[float]] | None,
    count: int,
    printed: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    found: dict[str, list[Finding]] = {}
    if claim.metric == "throughput":
        found = {} if seconds is None else {"speed": [check_speed(claim, seconds, count)]}
    else:
        found = {part: [check_quality(claim, each, metric) for metric in QUALITY] for part, each in sides.items()}
    paper = check_printed(claim, printed)
    return {
        "text": claim.text,
        "metric": claim.metric,
        "trend": claim.trend,
        "several": len(claim.first.names) + len(claim.second.names) > 2,
        "paper": None if paper is None else {"rows": paper[:2], "values": paper[2:]},
        "found": {
            part: [{**each.to_json(), "answer": each.answer(claim.trend)} for each in findings]
            for part, findings in found.items()
        },
    }
