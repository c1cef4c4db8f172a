"""Formulas become MathML while the site is built: browsers draw them by themselves, no script and no font travels."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\(?:\(|\[)(.*?)\\(?:\)|\])</\1>', re.DOTALL)
BAR = re.compile(r"<mo>(&#x02016;|&#x0007C;|\|)</mo>")  # \lVert and \lvert, which browsers would stretch and space out
FUNCTION_NAME = re.compile(r"(<m([io])>(?:log|ln|exp|sinh|cosh|tanh|sech|max|min|sup|arg ?max)</m\2>)(?=<m[in]>)")


def on_page_content(content: str, **_: Any) -> str:
    """Replace what arithmatex marked as a formula by its MathML."""
    return FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    latex = html.unescape(found[2]).strip().replace("{aligned}", "{split}")  # the converter knows only the latter
    mathml = BAR.sub(r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', convert(latex, display=display))
    return FUNCTION_NAME.sub(r'\1<mspace width="0.17em"/>', mathml)
