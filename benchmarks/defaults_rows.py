"""The rows that `defaults.py` writes, found by question, and whether a difference is told from chance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turbo.errors import TurboError
from turbo.evaluation.figures import better

UNTOUCHED = "untouched"
TITLES = {"blip-scenes": "captions", "blip-vqa-scenes": "answers", "clip-scenes": "retrieval"}
"""What models are called at the head of a column: by what they do."""


@dataclass(frozen=True)
class Figure:
    """One metric of a setting on one ground, and its paired difference to the setting it is compared with.

    Attributes:
        name: of the setting, within its question.
        against: name of the one that it is compared with, the reference of the question.
        mean: over examples.
        half_width: of the mean's 95% interval.
        difference: of the mean to that of the reference.
        difference_half_width: of its 95% interval.
        examples: that have the metric.
    """

    name: str
    against: str
    metric: str
    mean: float
    half_width: float
    difference: float
    difference_half_width: float
    examples: int

    @property
    def verdict(self) -> str:
        """Whether it is "better" or "worse" than the reference, or "even": the interval does not leave out 0."""
        if not abs(self.difference) > self.difference_half_width:  # nor where one of them is NaN
            return "even"
        return "better" if self.difference * better(self.metric) > 0 else "worse"


Column = tuple[str, str]
"""Model and ground."""
Answers = dict[str, dict[Column, dict[str, Figure]]]
"""Name of a setting -> column -> metric -> its figure."""


class Questions:
    """All rows of a record.

    Args:
        record: by `defaults.py`.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.columns: list[Column] = []
        self.asked: dict[str, dict[float, Answers]] = {}
        for row in record["rows"]:
            found = re.fullmatch(r"(.+), ([\d.]+)x", row["question"])
            question, amount = (found[1], float(found[2])) if found else (row["question"], 1.0)
            column = (row["model"], row["ground"])
            if column not in self.columns:
                self.columns.append(column)
            names = self.asked.setdefault(question, {}).setdefault(amount, {})
            names.setdefault(row["name"], {}).setdefault(column, {})[row["metric"]] = Figure(
                **{key: row[key] for key in Figure.__dataclass_fields__}
            )

    @property
    def untouched(self) -> dict[Column, dict[str, Figure]]:
        """The figures of the models without turbo."""
        return self.asked[UNTOUCHED][1.0][UNTOUCHED]

    def family(self, question: str) -> dict[str, dict[float, Answers]]:
        """A question, or all that are asked for several strategies.

        Args:
            question: "schedule" stands for "schedule, tome" and "schedule, s1 alpha=0.1".

        Returns:
            What comes after the name of the family -> speed-up -> answers.

        Raises:
            TurboError: nothing is called so.
        """
        start = f"{question}, "
        found = {name.removeprefix(start): each for name, each in self.asked.items() if name.startswith(start)}
        if found and question not in self.asked:
            return found
        return {"": self.one(question)}

    def one(self, question: str) -> dict[float, Answers]:
        """Speed-up -> answers to a question, by its whole name.

        Raises:
            TurboError: nothing is called so.
        """
        if question not in self.asked:
            listed = ", ".join(repr(name) for name in self.asked if name != UNTOUCHED)
            raise TurboError(f"the record has no question {question!r}; there are: {listed}")
        return self.asked[question]

    def strategies(self, question: str, names: Sequence[str], amounts: Sequence[float] = ()) -> dict[float, Answers]:
        """The same, with the strategies that are needed in all of it.

        Raises:
            TurboError: nothing is called so, or there is a speed-up at which a strategy was not measured.
        """
        asked = self.one(question)
        for amount in amounts or asked:
            known = asked.get(amount, {})
            if lacking := [name for name in names if name not in known]:
                listed = ", ".join(known) or "none"
                raise TurboError(f"the record has no strategy {lacking[0]!r} at {amount:g}×; there are: {listed}")
        return asked


def reference(answers: Answers) -> str:
    """The setting that the others of a question are compared with."""
    return next(figure.against for columns in answers.values() for it in columns.values() for figure in it.values())


def title(name: str) -> str:
    """How a setting is called in a table.

    Examples:
        >>> title("s4 alpha=0.1 beta=0.9")
        's4 α=0.1 β=0.9'
    """
    for word, letter in (("alpha=", "α="), ("beta=", "β="), ("gamma=", "γ=")):
        name = name.replace(word, letter)
    return name
