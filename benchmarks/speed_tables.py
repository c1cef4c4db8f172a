"""Tables of speed for the pages, from the records of `speed.py`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markdown_tables import pipe_table
from speed_cases import CASES

from turbo.errors import TurboError

Load = Callable[[str], Mapping[str, Any]]
Record = Mapping[str, Any]
UNTOUCHED, OURS, PEER = "untouched", "s1", "ToMe"
DASH = "–"


def speed(load: Load) -> str:
    """Every side of every case of the bars: speed-up, what FLOPs allow, seconds, memory; then where it was measured."""
    records = records_of(load, "bars")
    header = ("model", "images", "drop", "side", "speed-up", "ideal", "efficiency", "seconds (quartiles)", "peak MB")
    rows = []
    for run in runs_of(records):
        about = (run["title"], str(run["batch"]), str(run["drop"]))
        for side in run["sides"]:
            first = side["name"] == UNTOUCHED
            rows.append((*(about if first else ("", "", "")), side["name"], *_figures(side)))
    table = pipe_table(header, rows, [False, *[True] * 2, False, *[True] * 5])
    return "\n\n".join([table, *left_out(runs_of(records)), measured(records)])


def _figures(side: Record) -> tuple[str, ...]:
    low, high = side["spread"]
    seconds = f"{side_median(side):.3g} ({low:.3g} to {high:.3g})"
    return times(side["speedup"]), times(side["ideal"]), share(side["efficiency"]), seconds, f"{side['peak_mb']:.0f}"


def modes(load: Load) -> str:
    """Eager and compiled, float32 and bfloat16: each side against the untouched model in the same mode."""
    records = records_of(load, "modes")
    runs = runs_of(records)
    header = ("model, images", "mode", "untouched, seconds", "ideal", OURS, PEER, "compiling, seconds")
    rows, before = [], ""
    for run in runs:
        sides = sides_of(run)
        title = f"{run['title']}, {run['batch']}"
        mode = f"{run['dtype']}, {'compiled' if run['compiled'] else 'eager'}"
        seconds = [sides[name]["compile_seconds"] for name in (UNTOUCHED, OURS)]
        rows.append(
            (
                title if title != before else "",
                mode,
                f"{side_median(sides[UNTOUCHED]):.3g}",
                times(sides[OURS]["ideal"]),
                *(reached(sides.get(name)) for name in (OURS, PEER)),
                f"{seconds[0]:.0f} → {seconds[1]:.0f}" if run["compiled"] else "",
            )
        )
        before = title
    table = pipe_table(header, rows, [False, False, *[True] * 5])
    return "\n\n".join([table, *_in_parts(runs), *left_out(runs), measured(records)])


def _in_parts(runs: Sequence[Record]) -> list[str]:
    """What torch.compile could not take as one graph, as a paragraph; none where it could take all."""
    parts = [(side["name"], run["title"]) for run in runs for side in run["sides"] if side["whole_graph"] is False]
    found = dict.fromkeys(f"{name} of {title}" for name, title in parts)
    return [f"Compiled in several graphs: {', '.join(found)}."] if found else []


def growth(load: Load) -> str:
    """A table for each of N, batch and blocks."""
    records = records_of(load, "growth")
    parts = []
    for record in records:
        header = (record["axis"], "drop", "ideal", OURS, PEER, "untouched, seconds", "peak MB: untouched, s1, ToMe")
        rows = []
        for run in record["runs"]:
            sides = sides_of(run)
            peaks = [sides[name]["peak_mb"] if name in sides else None for name in (UNTOUCHED, OURS, PEER)]
            rows.append(
                (
                    f"{run['at']:,}",
                    str(run["drop"]),
                    times(sides[OURS]["ideal"]),
                    *(reached(sides.get(name)) for name in (OURS, PEER)),
                    f"{side_median(sides[UNTOUCHED]):.3g}",
                    ", ".join(DASH if peak is None else f"{peak:,.0f}" for peak in peaks),
                )
            )
        parts.append(pipe_table(header, rows, [True] * len(header)))
    return "\n\n".join([*parts, *left_out(runs_of(records)), measured(records)])


def records_of(load: Load, group: str) -> list[Record]:
    """The records of a group of cases, in the order of the cases."""
    return [load(f"speed-{case.name}") for case in CASES.values() if case.group == group]


def runs_of(records: Iterable[Record]) -> list[Record]:
    """All their runs."""
    return [run for record in records for run in record["runs"]]


def sides_of(run: Record) -> dict[str, Record]:
    """The sides of a run by name."""
    return {side["name"]: side for side in run["sides"]}


def side_median(side: Record) -> float:
    """Median seconds of a call."""
    return statistics.median(side["seconds"])


def left_out(runs: Sequence[Record]) -> list[str]:
    """What was not timed and why, as a paragraph; none where all was."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for name, reason in run["left_out"].items():
            titles = found.setdefault((name, reason), [])
            titles += [run["title"]] * (run["title"] not in titles)
    whole = [f"{name} {reason} (not timed: {', '.join(titles)})" for (name, reason), titles in found.items()]
    return [f"{'; '.join(whole)}."] if whole else []


def measured(records: Sequence[Record]) -> str:
    """Where and with what it was measured, as a paragraph.

    Raises:
        TurboError: not all with the same.
    """
    first = records[0]
    for record in records[1:]:
        for part in ("machine", "peers"):
            if record[part] != first[part]:
                raise TurboError(
                    f"{first['case']} and {record['case']} were measured with another {part.rstrip('s')}: run "
                    "`python benchmarks/speed.py` for all of them"
                )
    machine = first["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores"
    versions = [f"{name} {machine[name]}" for name in ("torch", "timm", "transformers", "turbo")]
    peers = [f"{name} at {_short(peer['commit'])}" for name, peer in first["peers"].items()]
    return (
        f"`make bench` on {where}; {', '.join([*versions, *peers])}. Rounds, seconds and commands are in the records."
    )


def _short(commit: str | None) -> str:
    """Seven letters of a commit, and whether files were changed since."""
    if commit is None:
        return "an unknown commit"
    head, changed, _ = commit.partition("+")
    return head[:7] + (" with changes" if changed else "")


def times(factor: float) -> str:
    """A factor, as "1.72×"."""
    return f"{factor:.2f}×"


def share(value: float) -> str:
    """A share in per cent."""
    return f"{value:.0%}".replace("%", " %")


def reached(side: Record | None) -> str:
    """Speed-up and efficiency of a side; a dash for one that was not timed."""
    return DASH if side is None else f"{times(side['speedup'])} ({share(side['efficiency'])})"


def merging_share(load: Load) -> str:
    """What each part of scoring and merging takes of a forward pass with s1, and how near the limit that is."""
    record = load("merging-share")
    names = list(record["runs"][0]["share"])
    rows = []
    for run in record["runs"]:
        efficiency = [share(run["efficiency"][name]) for name in (OURS, "cut")]
        figures = [f"{100 * run['share'][name]:.2f}" for name in names]
        rows.append((f"{run['title']}, {run['batch']}", str(run["drop"]), *efficiency, *figures))
    header = ("model, images", "drop", f"efficiency: {OURS}", "if cut", *(f"{name}, %" for name in names))
    table = pipe_table(header, rows, [False, *[True] * (3 + len(names))])
    return f"{table}\n\n`{record['command']}`, medians of {record['rounds']} rounds."


def attention_cpu(load: Load) -> str:
    """By what factor fused attention takes longer with log s, by each way to add it."""
    record = load("attention-cpu")
    names = list(record["runs"][0]["times"])
    rows = [
        (run["dtype"], str(run["batch"]), f"{run['n']:,}", *(f"{run['times'][name]:.2f}" for name in names))
        for run in record["runs"]
    ]
    table = pipe_table(("type", "images", "tokens", *names), rows, [False, *[True] * (2 + len(names))])
    made = f"`{record['command']}`, medians of {record['rounds']} rounds."
    return f"{table}\n\nTime, in that of attention without log s (*plain*). {made}"
