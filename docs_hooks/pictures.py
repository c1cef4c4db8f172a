"""Every picture gets its size while the site is built, so that nothing moves when it arrives; none goes without words.

A warning here fails the strict build: a picture without alternative text, one from elsewhere, one that is not there.
"""

from __future__ import annotations

import html
import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

from PIL import Image

LOG = logging.getLogger("mkdocs.hooks.pictures")  # below "mkdocs": strict mode counts its warnings
TAG = re.compile(r"""<img\b(?:[^>"']|"[^"]*"|'[^']*')*>""")


def on_page_content(content: str, *, page: Any, files: Any, **_: Any) -> str:
    """Complete the page's <img> tags: width and height, lazy loading below the first, decoding beside the text."""
    paths = {unquote(file.url): Path(file.abs_src_path) for file in files if file.abs_src_path}
    seen = 0

    def complete(found: re.Match[str]) -> str:
        nonlocal seen
        seen += 1
        attributes = _attributes_of(found[0])
        for problem in _complete(attributes, page.url, paths, is_first=seen == 1):
            LOG.warning("%s: <img src=%r> %s", page.file.src_uri, attributes.get("src"), problem)
        written = (f'{name}="{html.escape(value or "")}"' for name, value in attributes.items())
        return f"<img {' '.join(written)}>"

    return TAG.sub(complete, content)


def _complete(attributes: dict[str, str | None], page_url: str, paths: dict[str, Path], *, is_first: bool) -> list[str]:
    """Add what is missing to the attributes of one picture; return what is wrong with it."""
    problems = [] if (attributes.get("alt") or "").strip() else ["has no alternative text"]
    attributes.setdefault("decoding", "async")
    if not is_first:
        attributes.setdefault("loading", "lazy")
    source = attributes.get("src") or ""
    address = urlsplit(urljoin(page_url, source))
    if address.scheme == "data" and {"width", "height"} <= attributes.keys():
        return problems
    if address.scheme or address.netloc:
        return [*problems, "is not a file of this site"]
    path = paths.get(unquote(address.path))
    if path is None:
        return [*problems, "leads to no file of docs/"]
    if not {"width", "height"} & attributes.keys():
        width, height = _size_of(path)
        attributes |= {"width": f"{width:.0f}", "height": f"{height:.0f}"}
    elif not {"width", "height"} <= attributes.keys():
        problems.append("has one of width and height: give both, or none to have the file's")
    return problems


def _size_of(path: Path) -> tuple[float, float]:
    """Width and height in CSS pixels."""
    if path.suffix != ".svg":
        with Image.open(path) as image:
            return image.size
    root = ElementTree.parse(path).getroot()
    box = [float(number) for number in re.split(r"[\s,]+", root.get("viewBox", "0 0 0 0").strip())]
    sides = [re.fullmatch(r"([\d.]+)(?:px)?", root.get(side, "")) for side in ("width", "height")]
    width, height = (float(side[1]) if side else length for side, length in zip(sides, box[2:], strict=True))
    if not width or not height:
        LOG.warning("%s: the <svg> has neither a viewBox nor a width and height in pixels", path)
    return width, height


def _attributes_of(tag: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    parser = HTMLParser()
    parser.handle_startendtag = parser.handle_starttag = lambda _, attributes: found.update(attributes)  # type: ignore
    parser.feed(tag)
    return found
