"""Tables and numbers as the pages show them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """A table in Markdown.

    Args:
        header: of its columns.
        rows: its cells.
        right: whether a column is set to the right.
    """
    lines = [header, ["---:" if each else "---" for each in right], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Text of a cell, letter by letter."""
    return text.replace("*", r"\*").replace("|", r"\|")


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number as the pages write them: without a leading zero, unless it has one decimal only.

    Examples:
        >>> number(-0.436, 2), number(0.436, 2, sign=True), number(12.3, 2), number(-0.001, 2), number(0.5, 1)
        ('−.44', '+.44', '12.30', '.00', '0.5')
    """
    if math.isnan(value):
        return "n/a"
    text = f"{abs(value):.{decimals}f}"
    zero = not float(text)
    mark = "" if zero else "−" if value < 0 else "+" if sign else ""
    return mark + (text[1:] if text.startswith("0.") and decimals > 1 else text)
