"""All figures of a run as plain data, and as a table of one row for each part, setting and metric."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turbo.evaluation.data import Data
from turbo.evaluation.figures import Side, by_data, difference, figure, relative, verdict
from turbo.evaluation.metrics.intervals import Interval
from turbo.evaluation.run import Outcomes, Preview
from turbo.evaluation.settings import UNTOUCHED, UNTOUCHED_SETTING, Setting, find_rival
from turbo.evaluation.tasks.outcome import plain
from turbo.evaluation.timing import Speed

RIVAL = "tome"  # redundancy alone: what every strategy has to beat
_OPTIONS = (
    "drop",
    "ratio",
    "speedup",
    "threshold",
    "min_tokens",
    "schedule",
    "destinations",
    "metric",
    "semantic_units",
    "momentum",
    "cross_modal",
)


def part_of(name: str) -> str:
    """The part that a set of data belongs to: its name without the seed.

    Examples:
        >>> part_of("scenes:plain test seed 3")
        'scenes:plain test'
    """
    return re.sub(r" seed \d+", "", name)


def summarise(
    data: Sequence[Data],
    outcomes: Outcomes,
    settings: Sequence[Setting],
    *,
    previews: Mapping[str, Preview] | None = None,
    ideal: Mapping[str, float] | None = None,
    speed: Mapping[str, Mapping[str, Speed]] | None = None,
) -> dict[str, Any]:
    """Figures with intervals and paired differences, as plain data.

    The sets of data of one part (one for each seed) are pooled: figures are over all of their examples.

    Args:
        data: what was measured on.
        outcomes: by `evaluate`.
        settings: what was compared with the untouched model.
        previews: by `preview`.
        ideal: by `ideal_factors`.
        speed: by `speeds`.

    Returns:
        "settings": name -> what it is and how fast; "parts": part -> names of its data, and for each setting
        metric -> figure, "against_untouched" and "against_tome" (null where the run has no ToMe of the same amount).
    """
    everything = (UNTOUCHED_SETTING, *settings)
    parts: dict[str, list[Data]] = {}
    for each in data:
        parts.setdefault(part_of(each.name), []).append(each)
    found: dict[str, Any] = {"settings": {}, "parts": {}}
    for setting in everything:
        known = (previews or {}).get(setting.name)
        found["settings"][setting.name] = {
            "options": {} if setting.name == UNTOUCHED else setting.record,
            "amount": None if setting.name == UNTOUCHED else setting.amount,
            "series": setting.series,
            "tokens": known.tokens if known else None,
            "notes": list(known.notes) if known else [],
            "ideal_speedup": plain(ideal[setting.name]) if ideal else None,
            "speed": {
                part: {key: plain(value) for key, value in vars(each).items()}
                for part, each in (speed or {}).get(setting.name, {}).items()
            },
        }
    for part, members in parts.items():
        sides = {
            setting.name: Side(members, [outcomes[each.name][setting.name] for each in members])
            for setting in everything
        }
        rivals = {setting.name: find_rival(setting, settings, RIVAL) for setting in settings}
        found["parts"][part] = {
            "data": [each.name for each in members],
            "settings": {name: _figures(sides, name, rivals.get(name)) for name in sides},
        }
    return found


def _figures(sides: Mapping[str, Side], name: str, rival: Setting | None) -> dict[str, Any]:
    side, untouched = sides[name], sides[UNTOUCHED]
    found = {}
    for metric in side.metrics:
        value = figure(side, metric)
        entry: dict[str, Any] = {**_interval(value), "by_data": [plain(each) for each in by_data(side, metric)]}
        for against, other in (("untouched", untouched), (RIVAL, sides[rival.name] if rival else None)):
            entry[f"against_{against}"] = None
            if name != UNTOUCHED and other is not None:
                change = difference(side, other, metric)
                entry[f"against_{against}"] = {
                    **_interval(change),
                    "relative": plain(relative(change, value)),
                    "verdict": verdict(change, metric),
                }
        found[metric] = entry
    return found


def _interval(found: Interval) -> dict[str, Any]:
    ends = {"value": plain(found.value), "low": plain(found.low), "high": plain(found.high)}
    return {**ends, "count": found.count}


def write_csv(path: Path, results: Mapping[str, Any]) -> None:
    """Write results as a table: one row for each part, setting and metric ("long", as pandas and R like it).

    ``pandas.read_csv(path).pivot(index="setting", columns=["part", "metric"], values="value")`` makes it wide.
    """
    rows = []
    for part, found in results["parts"].items():
        for name, figures in found["settings"].items():
            about = results["settings"][name]
            options = {f"option_{option}": _cell(about["options"].get(option)) for option in _OPTIONS}
            speed = {f"{work}_{key}": value for work, each in about["speed"].items() for key, value in each.items()}
            for metric, entry in figures.items():
                row = {"part": part, "setting": name, "strategy": about["options"].get("strategy", UNTOUCHED)}
                row |= {"metric": metric, **{key: entry[key] for key in ("value", "low", "high", "count")}}
                for against in (f"against_{UNTOUCHED}", f"against_{RIVAL}"):
                    keys = ("value", "low", "high", "relative", "verdict")
                    row |= {f"{against}_{key}": (entry[against] or {}).get(key) for key in keys}
                rows.append(
                    {**row, "tokens": about["tokens"], "ideal_speedup": about["ideal_speedup"], **speed, **options}
                )
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: Any) -> Any:
    return ":".join(map(str, value)) if isinstance(value, list) else value
