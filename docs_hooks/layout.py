"""A page that belongs to no section gets no column of neighbours: it would list the page alone."""

from __future__ import annotations

from typing import Any


def on_page_markdown(_markdown: str, *, page: Any, **_: Any) -> None:
    """Hide that column, unless the page's front matter says what to hide. A phone's menu stays."""
    if page.parent is None:
        page.meta.setdefault("hide", ["navigation"])
