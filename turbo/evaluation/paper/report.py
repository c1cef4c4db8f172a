"""A reproduced table for people: the paper's figures beside ours, and in a sentence for each claim whether it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turbo.evaluation.figures import LOWER_IS_BETTER
from turbo.evaluation.paper.settings import DEFAULT
from turbo.evaluation.settings import UNTOUCHED

_TITLES = {"cider": "CIDEr", "bleu4": "B@4", "nll": "NLL", "throughput": "images/s"}
_SEEN = {"rises": "it rises", "falls": "it falls", "even": "it stays even"}
LEGEND = (
    "± half of the 95% interval. CIDEr and B@4 times 100. NLL: minus the log-probability of the right caption, nats, "
    "lower is better. images/s: of the whole call, beams included. encoder: speed-up of the vision encoder, measured."
)
CLAIMS_LEGEND = (
    "In brackets: the 95% interval of the paired difference. Even: the interval lies within 1% of CIDEr, 0.01 nats or "
    "2% of images/s. Unclear: it neither lies there nor leaves out 0, or fewer than 5 rounds were timed. Changes of "
    "images/s are medians over rounds of the change within a round, so they need not be those of the two medians; and "
    "only what was timed in one run can be compared."
)


def grid(
    record: Mapping[str, Any], metrics: Sequence[str], *, brief: bool = False
) -> tuple[list[str], list[list[str]]]:
    """The table of a record.

    Args:
        record: by `reproduce_table`.
        metrics: which figures of each part: "bleu4", "cider", "nll".
        brief: leave out what fits no narrow terminal: throughput, and how much merges.

    Returns:
        Its header and its rows: the paper's figures, then ours part by part, then speed where it was measured.
    """
    rows = record["rows"]
    timed = bool(rows[UNTOUCHED]["speed"])
    printed = [name for name in ("bleu4", "cider") if name in metrics] + ([] if brief else ["throughput"])
    here = record["table"] == "table2" and not brief  # where rows differ in how much merges
    header = ["", *(f"paper {_TITLES[name]}" for name in printed), *(["here Υ/threshold"] if here else [])]
    header += [] if brief else ["tokens left"]
    header += [f"{part_title(part)} {_TITLES[metric]}" for part in record["data"] for metric in metrics]
    header += [*([] if brief else ["images/s"]), "encoder"] if timed else []
    lines = []
    for name, row in rows.items():
        line = [row_title(name), *(f"{row['paper'][each]:.1f}" if row["paper"] else "" for each in printed)]
        line += [_amount(row["options"])] if here else []
        line += [] if brief else [str(row["tokens"] or record["mapping"]["tokens"])]
        line += [_figure(row["parts"][part], metric) for part in record["data"] for metric in metrics]
        if timed:
            line += [] if brief else [f"{row['speed']['call']['per_second']:.1f}"]
            line += [f"{row['speed']['encoder']['speedup']:.2f}x"]
        lines.append(line)
    return header, lines


def sentences(record: Mapping[str, Any]) -> list[str]:
    """What the paper's rows say, and whether ours say it too: one text for each claim."""
    return [_sentence(claim) for claim in record["claims"]]


def protocol(record: Mapping[str, Any]) -> str:
    """What was measured, on how much, and how coefficients were carried over, as one paragraph."""
    run, mapping, untouched = record["run"], record["mapping"], record["rows"][UNTOUCHED]
    counts = {part_title(part): next(iter(untouched["parts"][part].values()))["count"] for part in record["data"]}
    sizes = ", ".join(f"{count:,} of {part}" for part, count in counts.items())
    seeds = max(len(names) for names in record["data"].values())
    beams, drop = run["decoding_beams"], ""
    if "drop" in mapping:
        drop = f" Υ = {mapping['drop']} (FLOPs of the blocks fall by {mapping['flops_fall_by']:.2f}x)."
    share = "" if mapping["semantic_units"] == "probability" else " / 577"
    return (
        f"{run['model']}: {mapping['tokens']} tokens, {mapping['blocks']} blocks; images: {sizes}, in {seeds} "
        f"set{'s' * (seeds > 1)} each; {beams} beam{'s' * (beams > 1)}.{drop} "
        f"A in {mapping['semantic_units']} units; the printed α times {mapping['factor']:g}{share}."
    )


def markdown(record: Mapping[str, Any]) -> str:
    """The whole record as a part of a page: protocol, table, legend and claims."""
    header, lines = grid(record, ("bleu4", "cider", "nll"))
    table = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    machine = record["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "transformers", "turbo"))
    command = f"`{record['command']}`, " if "command" in record else ""
    return "\n".join(
        [
            protocol(record),
            "",
            *(f"| {' | '.join(line)} |" for line in table),
            "",
            LEGEND,
            "",
            *(f"- {text}" for text in sentences(record)),
            "",
            CLAIMS_LEGEND,
            "",
            *(f"Note: {note}.\n" for note in notes(record)),
            f"Made by {command}on {where}, {versions}.",
            "",
        ]
    )


def notes(record: Mapping[str, Any]) -> list[str]:
    """What settings cannot do as asked, each once, with the rows that it is of."""
    found: dict[str, list[str]] = {}
    for name, row in record["rows"].items():
        for note in row["notes"]:
            found.setdefault(note, []).append(name)
    most = len(record["rows"]) - 1
    return [f"{note} ({'all rows' if len(names) == most else ', '.join(names)})" for note, names in found.items()]


def row_title(name: str) -> str:
    """How a row is called in a table.

    Examples:
        >>> row_title("S4 alpha=6 beta=0.9 gamma=1"), row_title("drop=65 threshold=70")
        ('S4 α=6 β=0.9 γ=1', 'Υ=65 threshold=70')
    """
    if name == DEFAULT:
        return f"{name} (turbo's default)"
    for word, letter in (("alpha=", "α="), ("beta=", "β="), ("gamma=", "γ="), ("drop=", "Υ=")):
        name = name.replace(word, letter)
    return name


def part_title(part: str) -> str:
    """How a part of the data is called in a table.

    Examples:
        >>> part_title("scenes:plain test"), part_title("coco test")
        ('plain', 'coco')
    """
    source, _, ground = part.partition(" ")[0].partition(":")
    return ground or source


def _sentence(claim: Mapping[str, Any]) -> str:
    text = f"**{claim['text']}** {_paper(claim)}"
    if not claim["found"]:
        return f"{text} Not timed here."
    for part, findings in claim["found"].items():
        main, *others = findings
        where = "Ours" if part == "speed" else f"On {part_title(part)}"
        named = f" ({_named(main['rows'])})" if claim["several"] else ""
        text += f" {where}{named}: **{_answer(main)}**, {_change(main)}"
        text += "".join(f"; {_answer(other)} by {_change(other)}" for other in others) + "."
    return text


def _paper(claim: Mapping[str, Any]) -> str:
    if claim["paper"] is None:
        return "Not in the supplement."
    first, second = claim["paper"]["values"]
    named = f" ({_named(claim['paper']['rows'])})" if claim["several"] else ""
    return f"Paper{named}: {_TITLES[claim['metric']]} {first:.1f} → {second:.1f} ({second / first - 1:+.1%})."


def _named(rows: Sequence[str]) -> str:
    return " → ".join(row_title(name) for name in rows)


def _answer(found: Mapping[str, Any]) -> str:
    return f"no, {_SEEN[found['seen']]}" if found["answer"] == "no" else str(found["answer"])


def _change(found: Mapping[str, Any]) -> str:
    metric = found["metric"]
    scale, form = (100, ".1f") if metric == "cider" else (1, ".3f" if metric in LOWER_IS_BETTER else ".1f")
    first, second = (format(scale * value, form) for value in found["values"])
    ends = [found[name] for name in ("low", "high")]
    if metric == "throughput":
        scale, form = 1, ".1%"
    span = "" if None in ends else f" [{', '.join(format(scale * end, '+' + form) for end in ends)}]"
    share = f", {found['relative']:+.1%}" if metric == "cider" else ""
    return f"{_TITLES[metric]} {first} → {second} ({scale * found['change']:+{form}}{span}{share})"


def _amount(options: Mapping[str, Any]) -> str:
    return f"{options['drop']}/{options.get('threshold', 0)}" if options else ""


def _figure(entries: Mapping[str, Any], metric: str) -> str:
    entry = entries[metric]
    if entry["value"] is None:
        return ""
    scale, form = (1, ".3f") if metric in LOWER_IS_BETTER else (100, ".1f")
    text = format(scale * entry["value"], form)
    if entry["low"] is None:
        return text
    return f"{text} ±{format(scale * (entry['high'] - entry['low']) / 2, form)}"
