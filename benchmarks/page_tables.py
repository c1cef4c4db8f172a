"""The tables that `fill_pages.py` can put into a page, by name, made from records of benchmarks/results."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cross_modal_tables import cross_modal_quality, cross_modal_time
from defaults_tables import bars, measured, question
from guidance_tables import made_by, sink_sources, sinks, sources
from headline_table import headline
from markdown_tables import escaped, pipe_table
from rich.table import Table
from rich.text import Text
from speed_cases import CASES
from speed_tables import attention_cpu, growth, merging_share, modes, speed
from support_tables import support, support_columns, support_made_by

from turbo.cli.scores import CAPTION, score_table
from turbo.errors import TurboError
from turbo.evaluation.paper.report import markdown

MADE_BY = {
    "defaults-validation": "python benchmarks/defaults.py --split validation",
    "defaults-test": "python benchmarks/defaults.py --split test",
    "table1": "turbo reproduce table1",
    "table2": "turbo reproduce table2",
    "cross-modal": "python benchmarks/cross_modal.py",
    "semantic-sources": "python benchmarks/semantic_sources.py",
    "attention-sinks": "python benchmarks/attention_sinks.py",
    "attention-cpu": "python benchmarks/attention_cpu.py",
    "merging-share": "python benchmarks/merging_share.py",
    "support": "make support",
    **{f"speed-{case}": f"python benchmarks/speed.py {case}" for case in CASES},
}
WIDTH = 130  # letters of a study's table: how many metrics stand beside the main one


def load(results: Path, name: str) -> dict[str, Any]:
    """A record by its name, without ".json".

    Raises:
        TurboError: it is not there, or no JSON.
    """
    path = results / f"{name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        made = f"make it with `{MADE_BY[name]}`" if name in MADE_BY else "put it there, or name another"
        raise TurboError(f"there is no {results.name}/{path.name}: {made}") from None
    except json.JSONDecodeError as error:
        raise TurboError(f"{results.name}/{path.name} is no JSON: {error}") from error
    return found


def reproduced(load: Callable[[str], Mapping[str, Any]], *, record: str) -> str:
    """What `turbo reproduce` wrote: table, findings and how they were made."""
    return markdown(load(record))


def study(load: Callable[[str], Mapping[str, Any]], *, record: str, metric: str) -> str:
    """What `turbo eval` wrote: for each part of the data the table that it prints, then the legend."""
    results = load(record)
    known = {name for part in results["parts"].values() for each in part["settings"].values() for name in each}
    if metric not in known:
        raise TurboError(f"{record} has no metric {metric!r}; there are: {', '.join(sorted(known))}")
    parts = [markdown_of(score_table(results, part, metric, WIDTH)) for part in results["parts"]]
    return "\n\n".join([*parts, f"{escaped(CAPTION[0].upper() + CAPTION[1:])}."])


def markdown_of(table: Table) -> str:
    """A table of the terminal as one of a page: without its colours, numbers to the right."""
    columns = [[_plain(column.header), *(_plain(cell) for cell in column.cells)] for column in table.columns]
    header, *rows = zip(*columns, strict=True)
    right = [column.justify == "right" for column in table.columns]
    return f"**{_plain(table.title)}**\n\n{pipe_table(header, rows, right)}"


def _plain(cell: Any) -> str:
    text = cell if isinstance(cell, Text) else Text.from_markup(str(cell or ""))
    return escaped(text.plain.strip())


TABLES: dict[str, Callable[..., str]] = {
    "question": question,
    "bars": bars,
    "measured": measured,
    "reproduced": reproduced,
    "study": study,
    "speed": speed,
    "modes": modes,
    "growth": growth,
    "merging_share": merging_share,
    "attention_cpu": attention_cpu,
    "headline": headline,
    "cross_modal_quality": cross_modal_quality,
    "cross_modal_time": cross_modal_time,
    "sources": sources,
    "sink_sources": sink_sources,
    "sinks": sinks,
    "made_by": made_by,
    "support": support,
    "support_columns": support_columns,
    "support_made_by": support_made_by,
}


def make_table(results: Path, name: str, arguments: Mapping[str, str]) -> str:
    """A table by its name.

    Args:
        results: folder of the records.
        name: of `TABLES`.
        arguments: of its function.

    Raises:
        TurboError: no table is called so, it does not take the arguments, or a record does not have what is asked for.
    """
    if name not in TABLES:
        raise TurboError(f"no table is called {name!r}; there are: {', '.join(TABLES)}")
    function = TABLES[name]
    taken = list(inspect.signature(function).parameters.values())[1:]
    needed = [each.name for each in taken if each.default is each.empty]
    lacking = [each for each in needed if each not in arguments]
    unknown = [each for each in arguments if each not in {parameter.name for parameter in taken}]
    if lacking or unknown:
        listed = ", ".join(each.name if each.name in needed else f"[{each.name}]" for each in taken)
        what = f"does not know {unknown[0]!r}" if unknown else f"needs {lacking[0]!r}"
        raise TurboError(f"the table {name!r} {what}; it takes: {listed}")
    return function(lambda record: load(results, record), **arguments)
