"""What the files of a built site say, read without a browser."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

ROOT = Path(__file__).parents[1]
HERE = "http://site.invalid"
LOADED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "manifest"}
"""What a browser acts upon by itself, of all the values of <link rel>."""
LOADED = {"src", "srcset", "poster", "data", "background"}
IN_CSS = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")
COMPRESSED = {".html", ".css", ".js", ".json", ".svg", ".xml"}
"""What a web server sends compressed, GitHub Pages among them."""


@dataclass(frozen=True)
class Link:
    """An address in a page, and whether a browser loads it by itself."""

    url: str
    loaded: bool


@dataclass
class Page(HTMLParser):
    """One HTML file: its addresses, pictures, names and headings."""

    path: Path
    links: list[Link] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    ids: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    components: set[str] = field(default_factory=set)
    title: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Read the file."""
        super().__init__()
        self._open = ""
        self.feed(self.path.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what matters of one tag."""
        attributes = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self._open = tag
        names = {attributes[name] for name in ("id", "name") if name in attributes and (name == "id" or tag == "a")}
        self.ids.update(names)
        if tag == "img":
            self.images.append(attributes)
        if tag == "meta" and attributes.get("name") == "description":
            self.description = attributes["content"]
        if "data-md-component" in attributes:
            self.components.add(attributes["data-md-component"])
        self._note_links(tag, attributes)

    def handle_data(self, data: str) -> None:
        """Note the title, and what style sheets inside the page load."""
        if self._open == "title":
            self.title += data.strip()
        if self._open == "style":
            self._note_css(data)

    def handle_endtag(self, tag: str) -> None:
        """Leave the tag."""
        self._open = ""

    def _note_links(self, tag: str, attributes: dict[str, str]) -> None:
        for name in LOADED & attributes.keys():
            urls = [part.split()[0] for part in attributes[name].split(",")] if name == "srcset" else [attributes[name]]
            self.links += [Link(url, loaded=True) for url in urls]
        if "href" in attributes:
            loaded = tag in {"use", "image"} or (
                tag == "link" and bool(LOADED_LINKS & set(attributes.get("rel", "").split()))
            )
            self.links.append(Link(attributes["href"], loaded))
        self._note_css(attributes.get("style", ""))

    def _note_css(self, text: str) -> None:
        self.links += [Link(url, loaded=True) for url in urls_in_css(text)]


class Site:
    """A built site: a folder, and the path that it is published under."""

    def __init__(self, root: Path, base: str = "/") -> None:
        """Nothing is read yet; `base` is the path of SITE_URL, on which 404.html alone depends."""
        self.root, self.base = root, base

    @cached_property
    def pages(self) -> dict[str, Page]:
        """Every page by its path below the root."""
        return {self.name_of(path): Page(path) for path in sorted(self.root.rglob("*.html"))}

    def name_of(self, path: Path) -> str:
        """The path below the root."""
        return path.relative_to(self.root).as_posix()

    def file_of(self, url: str, page: str) -> str | None:
        """The file below the root that an address in a page leads to; None where it leads to another site."""
        parts = urlsplit(urljoin(f"{HERE}{self.base}{page}", url))
        if f"{parts.scheme}://{parts.netloc}" != HERE:
            return None
        path = unquote(parts.path)
        name = path.removeprefix(self.base) if path.startswith(self.base) else f"outside{path}"
        return f"{name.rstrip('/')}/index.html".lstrip("/") if (self.root / name).is_dir() else name

    def problem_of(self, link: Link, page: str) -> str | None:
        """What is wrong with an address; None if nothing is."""
        if link.url.startswith(("data:", "mailto:", "javascript:")):
            return None
        file = self.file_of(link.url, page)
        if file is None:
            return f"{link.url} is loaded from elsewhere" if link.loaded else None
        if not (self.root / file).is_file():
            return f"{link.url}: no such file"
        anchor = unquote(urlsplit(link.url).fragment)
        if anchor and file in self.pages and anchor not in self.pages[file].ids:
            return f"{link.url}: no such place on {file}"
        return None

    def weight_of(self, page: str) -> int:
        """Bytes that a first visit to a page loads: the page and what it loads, as sent; the search's index too."""
        files = {page, "search/search_index.json"}  # fetched by the worker as soon as the page is there
        files |= {self.name_of(path) for path in (self.root / "assets/javascripts/workers").glob("*.js")}
        for link in self.pages[page].links:
            if link.loaded and not link.url.startswith("data:") and (file := self.file_of(link.url, page)):
                files.add(file)
        return sum(self._sent(self.root / file) for file in files)

    def _sent(self, path: Path) -> int:
        content = path.read_bytes()
        return len(gzip.compress(content, 6)) if path.suffix in COMPRESSED else len(content)


def urls_in_css(text: str) -> list[str]:
    """Every url() and @import."""
    return [first or second for first, second in IN_CSS.findall(text)]
