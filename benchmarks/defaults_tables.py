"""Tables of what `defaults.py` found: answers to questions, the default strategy against rivals, what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from defaults_rows import TITLES, UNTOUCHED, Answers, Column, Figure, Questions, reference, title
from markdown_tables import number, pipe_table

from turbo import defaults
from turbo.errors import TurboError
from turbo.evaluation.figures import LOWER_IS_BETTER, better

Load = Callable[[str], Mapping[str, Any]]
Family = Mapping[str, Mapping[float, Answers]]
"""Strategy that a question is asked for -> speed-up -> answers."""
_SPACE = "\u00a0"  # where no line may break
MANY = 8  # settings: with more there is a table for each speed-up


def question(load: Load, *, question: str, split: str, metric: str = "nll", amounts: str = "") -> str:
    """The settings that answer a question, on each model and ground.

    A cell has the mean, below it the difference to the reference and half of its 95% interval. Bold is better, a
    triangle is worse, by an interval that leaves out 0. The row without differences is the reference.

    Args:
        load: reads a record.
        question: as `Questions.family` takes it.
        split: "validation" or "test".
        metric: one, or several with commas: each model's column shows the first that it has.
        amounts: speed-ups, with commas; all that were measured without it.

    Raises:
        TurboError: the record does not have it.
    """
    found = Questions(load(f"defaults-{split}"))
    family = found.family(question)
    wanted = _amounts(family, amounts)
    few = any(family) or all(len(family[""][amount]) <= MANY for amount in wanted)
    if few and len(wanted) > 1:
        return _answers(found, family, wanted, metric, _word(question))
    parts = [(amount, _answers(found, family, [amount], metric, _word(question))) for amount in wanted]
    return "\n\n".join(f"**At {amount:g}×**\n\n{table}" for amount, table in parts)


def _answers(found: Questions, family: Family, amounts: Sequence[float], metric: str, word: str) -> str:
    """A table of several speed-ups, or of one, which stands above it."""
    shown = [(at, strategy, asked[at]) for at in amounts for strategy, asked in family.items() if at in asked]
    grid = _Grid(found, [answers for _, _, answers in shown], metric)
    lines = [["", "", UNTOUCHED, *grid.untouched()]]
    for at, strategy, answers in shown:
        lines += [[f"{at:g}×", title(strategy), title(name), *grid.answers(answers, name)] for name in answers]
    header = ["speed-up", "strategy", word, *grid.header]
    kept = [i for i in range(len(header)) if (i > 0 or len(amounts) > 1) and (i != 1 or any(family))]
    lines, header = [[line[i] for i in kept] for line in lines], [header[i] for i in kept]
    names = len(kept) - len(grid.header)
    return _table(header, _once(lines, names - 1), names)


def bars(
    load: Load,
    *,
    split: str,
    metric: str = "nll",
    strategy: str = "",
    rivals: str = "tome,attention,random",
    amounts: str = "",
) -> str:
    """A strategy against others at each speed-up: the paired difference, and in a word what its interval says.

    Args:
        load: reads a record.
        split: "validation" or "test".
        metric: as for `question`.
        strategy: as the record calls it; the library's default without it.
        rivals: what it is compared with, with commas. For each but the question's own reference the record must have
            a question "strategy against RIVAL".
        amounts: as for `question`.

    Raises:
        TurboError: the record does not have it.
    """
    found = Questions(load(f"defaults-{split}"))
    mine = strategy or defaults.STRATEGY
    wanted = _amounts({"": found.one("strategy")}, amounts)
    own = reference(found.one("strategy")[wanted[0]])
    against = {
        rival: found.strategies("strategy" if rival == own else f"strategy against {rival}", [mine], wanted)
        for rival in rivals.split(",")
    }
    table = _Grid(found, [asked[amount] for asked in against.values() for amount in wanted], metric)
    lines = []
    for amount in wanted:
        for rival, asked in against.items():
            lines.append([f"{amount:g}×", title(rival), *table.verdicts(asked[amount], mine)])
    return _table(["speed-up", f"{title(mine)} against", *table.header], _once(lines, 1), 2)


def measured(load: Load, *, split: str) -> str:
    """On how much it was measured, by which command and where, as one paragraph."""
    record = load(f"defaults-{split}")
    found = Questions(record)
    sizes: dict[str, list[str]] = {}
    for (model, ground), figures in found.untouched.items():
        sizes.setdefault(TITLES.get(model, model), []).append(f"{figures['nll'].examples:,} {ground}")
    listed = "; ".join(f"{model}: {', '.join(each)}" for model, each in sizes.items())
    machine, seeds = record["machine"], ", ".join(map(str, record["seeds"]))
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "transformers", "turbo"))
    made = f"`{record['command']}`, on {where}, {versions}"
    return f"Examples of the {split} part, seeds {seeds} together: {listed}. {made}."


class _Grid:
    """The columns of a table: each model and ground that has answers, with its metric and its decimals."""

    def __init__(self, found: Questions, shown: Sequence[Answers], metric: str) -> None:
        self._untouched = found.untouched
        metrics = metric.split(",")
        everything = [each for answers in shown for each in answers.values()]
        self.metric: dict[Column, str] = {}
        self._decimals: dict[Column, int] = {}
        for column in found.columns:
            for name in metrics:
                figures = [each[column][name] for each in everything if name in each.get(column, {})]
                if figures and column not in self.metric:
                    self.metric[column] = name
                    self._decimals[column] = _decimals(figures)
        if not self.metric:
            raise TurboError(f"the record has no metric {metric!r} for this question")
        heads = [[TITLES.get(model, model), ground] for model, ground in self.metric]
        if len(metrics) > 1:
            heads = [[*each, name] for each, name in zip(heads, self.metric.values(), strict=True)]
        self.header = ["<br>".join(each) for each in heads]

    def untouched(self) -> list[str]:
        """The cells of the models without turbo."""
        return [self._number(column, self._untouched[column][name].mean) for column, name in self.metric.items()]

    def answers(self, answers: Answers, name: str) -> list[str]:
        """The cells of a setting: its mean, and below it the difference."""
        first = name == reference(answers)
        return [self._answer(column, figure, first) for column, figure in self._figures(answers, name)]

    def verdicts(self, answers: Answers, name: str) -> list[str]:
        """The cells of a setting: better, even or worse, and below it the difference."""
        cells = []
        for column, figure in self._figures(answers, name):
            cells.append(f"{_marked(figure.verdict, figure)}<br>{self._change(column, figure)}" if figure else "")
        return cells

    def _figures(self, answers: Answers, name: str) -> list[tuple[Column, Figure | None]]:
        return [(column, answers[name].get(column, {}).get(metric)) for column, metric in self.metric.items()]

    def _answer(self, column: Column, figure: Figure | None, first: bool) -> str:
        if figure is None:
            return ""
        mean = _marked(self._number(column, figure.mean), figure)
        return mean if first else f"{mean}<br>{self._change(column, figure)}"

    def _change(self, column: Column, figure: Figure) -> str:
        half = self._number(column, figure.difference_half_width)
        return f"{self._number(column, figure.difference, sign=True)}{_SPACE}±{_SPACE}{half}"

    def _number(self, column: Column, value: float, *, sign: bool = False) -> str:
        scale = 1 if self.metric[column] in LOWER_IS_BETTER else 100
        return number(scale * value, self._decimals[column], sign=sign)


def _marked(text: str, figure: Figure) -> str:
    if figure.verdict == "better":
        return f"**{text}**"
    return f"{text}{_SPACE}{'▲' if better(figure.metric) < 0 else '▼'}" if figure.verdict == "worse" else text


def _decimals(figures: Sequence[Figure]) -> int:
    """One for shares times 100; of nats as many as leave half of the intervals two digits, 2 or 3."""
    if figures[0].metric not in LOWER_IS_BETTER:
        return 1
    widths = sorted(each.difference_half_width for each in figures if each.difference_half_width > 0)
    return 3 if widths and widths[len(widths) // 2] < 0.1 else 2


def _amounts(family: Family, asked: str) -> list[float]:
    known = sorted({amount for answers in family.values() for amount in answers})
    if not asked:
        return known
    try:
        wanted = [float(each) for each in asked.split(",")]
    except ValueError:
        raise TurboError(f"amounts={asked}: speed-ups with commas between them, as in 2.0,2.5") from None
    if strange := [each for each in wanted if each not in known]:
        raise TurboError(f"nothing was measured at {strange[0]:g}×; there are: {', '.join(f'{a:g}' for a in known)}")
    return wanted


def _word(question: str) -> str:
    return "strategy" if question.startswith("strategy") else question.partition(",")[0]


def _once(lines: Sequence[Sequence[str]], count: int) -> list[list[str]]:
    """Leaves out what the first cells repeat from the line above."""
    kept = []
    above: Sequence[str] = [""] * count
    for line in lines:
        same = next((i for i in range(count) if line[i] != above[i]), count)
        kept.append([*[""] * same, *line[same:]])
        above = line
    return kept


def _table(header: Sequence[str], lines: Sequence[Sequence[str]], names: int) -> str:
    return pipe_table(header, lines, [i >= names for i in range(len(header))])
