"""The support matrix for the pages: families against what they can do, from the record of `support_matrix.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from markdown_tables import pipe_table
from support_families import CAPABILITIES, FAMILIES, MERGING, Capability, outcomes

from turbo.errors import TurboError

Load = Callable[[str], Mapping[str, Any]]
Row = Mapping[str, Any]
RECORD = "support"
KINDS = {"towers": False, "denoisers": True}
YES, SOME, NO, NOTHING = "✓", "some", "✗", "–"
REASONS = {
    "compiles=False": "`torch.compile` makes no single graph of the untouched model either",
    "the untouched model cannot be pickled once it has run": "an untouched model that has run cannot be pickled either",
}
"""Why a check does not apply, where a user asks -> how the page says it. Others are plain: no text, no denoiser."""
REFUSED = {"checkpointing": "[refused](#what-is-refused) with a UNet"}
"""What cannot be asked of a denoiser."""


def support(load: Load, *, part: str, of: str = "") -> str:
    """The matrix: a row for each family, a column for each capability of a part that any of them has, reasons below."""
    rows = _families(load(RECORD)["cases"])
    if of:
        if of not in KINDS:
            raise TurboError(f"of={of!r}: {' or '.join(KINDS)}")
        rows = {family: cases for family, cases in rows.items() if cases[0]["restores"] == KINDS[of]}
    if part not in (parts := dict.fromkeys(each.part for each in CAPABILITIES)):
        raise TurboError(f"part={part!r}: {' or '.join(parts)}")
    if not rows:
        raise TurboError(f"the record has no {of or 'cases'}")
    columns = [each for each in CAPABILITIES if each.part == part and any(_asked(each, rows.values()))]
    notes: list[str] = []
    lines = [[family, *(_cell(each, cases, notes) for each in columns)] for family, cases in rows.items()]
    header = ["family", *(each.title for each in columns)]
    if part == MERGING:  # told once, where there is room
        header.insert(1, "adapter")
        for line, cases in zip(lines, rows.values(), strict=True):
            line.insert(1, f"`{cases[0]['adapter']}`")
    table = pipe_table(header, lines, [False] * len(header))
    return "\n".join([table, *([""] if notes else []), *(f"{i}. {note}" for i, note in enumerate(notes, start=1))])


def support_columns(load: Load) -> str:
    """What each column of the matrix asks, and by which checks; those that the record has."""
    known = set(load(RECORD)["checks"])
    lines = [
        [f"**{each.title}**", each.asks, "<br>".join(f"`{check}`" for check in each.checks if check in known)]
        for each in CAPABILITIES
    ]
    return pipe_table(["column", "what it asks", "checks"], lines, [False] * 3)


def support_made_by(load: Load) -> str:
    """By which command the record was made, of what, and where, as a paragraph."""
    record = load(RECORD)
    counts = Counter(outcome for row in record["cases"] for outcome, _ in outcomes(row).values())
    at = record["machine"]
    versions = ", ".join(
        f"{name} {at[key]}"
        for name, key in (
            ("torch", "torch"),
            ("transformers", "transformers"),
            ("open_clip", "open_clip_torch"),
            ("timm", "timm"),
            ("diffusers", "diffusers"),
        )
    )
    bad = sum(counts[outcome] for outcome in ("failed", "unexpected pass", "not run"))
    tally = (
        f"{len(record['cases'])} models × {len(record['checks'])} checks: {counts['passed']:,} passed, "
        f"{counts['not applicable']:,} had nothing to ask, "
        f"{counts['expected failure']} failed as is known, {bad} otherwise."
    )
    return f"{tally} Made by `{record['command']}` on {at['accelerator'] or 'a CPU'}, with {versions}."


def _families(cases: Iterable[Row]) -> dict[str, list[Row]]:
    """Family -> its rows of the record."""
    left = {row["case"]: row for row in cases}
    found = {family: [left.pop(name) for name in names if name in left] for family, names in FAMILIES.items()}
    if left:
        raise TurboError(f"no family has the case {min(left)!r}: name it in support_families.FAMILIES")
    return {family: rows for family, rows in found.items() if rows}


def _asked(capability: Capability, families: Iterable[Iterable[Row]]) -> Iterable[bool]:
    """For each case whether anything of a capability could be asked of it."""
    for rows in families:
        for row in rows:
            yield any(outcome != "not applicable" for outcome, _ in _outcomes(capability, row))


def _outcomes(capability: Capability, row: Row) -> list[tuple[str, str]]:
    found = outcomes(row)
    return [found[check] for check in capability.checks if check in found]


def _cell(capability: Capability, cases: Iterable[Row], notes: list[str]) -> str:
    """What holds for a family's cases, with the numbers of its notes, which are added to those of the table."""
    held = [_state(capability, row) for row in cases]
    states = {state for state, _ in held}
    mark = NO if NO in states and (YES not in states) else SOME if len(states) > 1 else states.pop()
    mine = dict.fromkeys(note for _, each in held for note in each)
    notes += [note for note in mine if note not in notes]
    numbers = ", ".join(str(notes.index(note) + 1) for note in mine)
    return f"{mark}<sup>{numbers}</sup>" if numbers else mark


def _state(capability: Capability, row: Row) -> tuple[str, list[str]]:
    """Whether a capability holds for a case, and what there is to say about it."""
    found = _outcomes(capability, row)
    wrong = [" ".join(detail.split()) for outcome, detail in found if outcome not in ("passed", "not applicable")]
    if wrong:
        return NO, wrong
    if any(outcome == "passed" for outcome, _ in found):
        return YES, []
    if row["restores"] and capability.title in REFUSED:
        return NOTHING, [REFUSED[capability.title]]
    return NOTHING, [REASONS[detail] for _, detail in found if detail in REASONS]
