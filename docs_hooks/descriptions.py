"""A page's first paragraph becomes its description, which search engines show below its title."""

from __future__ import annotations

import html
import re
from typing import Any

PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
END = re.compile(r"(?<!Eq)[.:;] ")
LENGTH = 160


def on_page_content(content: str, *, page: Any, **_: Any) -> None:
    """Describe the page, unless its front matter does. Runs after the formulas are drawn."""
    texts = (html.unescape(re.sub(r"<[^>]+>", "", found)) for found in PARAGRAPH.findall(content))
    text = next((" ".join(text.split()) for text in texts if text.strip()), "")
    if text and "description" not in page.meta:
        page.meta["description"] = html.escape(_shortened(text))  # the theme writes it as it stands


def _shortened(text: str) -> str:
    """Whole sentences of at most LENGTH letters together; else as many words, and an ellipsis."""
    if len(text) <= LENGTH:
        return text.rstrip(":")
    end = max((found.start() for found in END.finditer(text[:LENGTH])), default=0)
    return text[: end + 1].rstrip(":;") if end > LENGTH // 3 else text[: text.rfind(" ", 0, LENGTH)] + " …"
