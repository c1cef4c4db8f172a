"""Formulas become MathML while the site is built: browsers draw them by themselves, no script and no font travels."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\(?:\(|\[)(.*?)\\(?:\)|\])</\1>', re.DOTALL)
BAR = re.compile(r"<mo>(&#x02016;|&#x0007C;|\|)</mo>")  # \lVert and \lvert, which browsers would stretch and space out
FUNCTION_NAME = re.compile(  # log, max, arg max, diam; what opens before; what follows
    r"(<m(?:sub|sup|subsup|under|over|underover|frac)>)?<m([io])>([a-z]{2,}(?: ?max)?)</m\2>"
    r"(?=(<m(?:i|n|frac|sub|sup|subsup|sqrt)>)?)"
)
LIMITS = re.compile(r"\\(max|min|sup)_")


def on_page_content(content: str, **_: Any) -> str:
    """Replace what arithmatex marked as a formula by its MathML."""
    return FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    latex = html.unescape(found[2]).strip().replace("{aligned}", "{split}")  # the converter knows only the latter
    if display == "block":
        latex = LIMITS.sub(r"\\\1\\limits_", latex)
    mathml = BAR.sub(r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', convert(latex, display=display))
    mathml = FUNCTION_NAME.sub(_function_name, mathml)
    return f'<div class="formula">{mathml}</div>' if display == "block" else mathml  # the box scrolls on a phone


def _function_name(found: re.Match[str]) -> str:
    """A thin space before what it is applied to, none before a bracket."""
    opening, kind, name, follower = found.groups()
    if kind == "o":
        word = f'<mo lspace="0.17em" rspace="{"0.17em" if opening else "0"}">{name}</mo>'
    else:
        word = f"<mi>{name}</mi>"
    if opening:  # what follows is its index
        return opening + word
    return f'{word}<mspace width="0.17em"/>' if follower else word
