"""The documentation runs: every Python block, every output shown, every link, every public name."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import textwrap
import traceback
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest
import torch

import turbo

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if path.is_file())
MARK = "<!-- output -->"
"""Before a ```text block: the block is what the Python block above it printed."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line its text starts on, and whether MARK stands before it."""

    language: str
    text: str
    line: int
    is_output: bool


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a Markdown page, in order."""
    blocks: list[Block] = []
    fence, language, start, body, marked, outer = "", "", 0, [], False, False
    for number, line in enumerate(page.splitlines(), start=1):
        stripped = line.strip()
        if fence:
            if re.fullmatch(rf"{fence[0]}{{{len(fence)},}}", stripped):
                text = textwrap.dedent("\n".join(body))
                blocks.append(Block(language, text, start, outer))
                fence = ""
            else:
                body.append(line)
        elif opening := re.match(r"(`{3,}|~{3,})\s*([\w+-]*)", stripped):
            fence, language = opening.groups()
            start, body, outer, marked = number + 1, [], marked, False
        elif stripped:
            marked = stripped == MARK
    assert not fence, f"the block that starts on line {start} is never closed"
    return blocks


def run_page(page: str, name: str) -> None:
    """Run a page's Python blocks in order in one namespace; compare what they print with the output blocks.

    Raises:
        AssertionError: a block fails or prints something else; the message names the page and the line.
    """
    module = ModuleType(re.sub(r"\W", "_", name))  # a real module, so that classes defined in a page have a home
    sys.modules[module.__name__] = module
    printed, last = "", 0
    try:
        for block in blocks_of(page):
            if block.language == "python":
                printed, last = _run(block, module, name), block.line
            elif block.is_output:
                assert last, f"{name}:{block.line}: an output block without a Python block before it"
                wanted, found = _trimmed(block.text), _trimmed(printed)
                assert found == wanted, f"{name}:{last} does not print what {name}:{block.line} shows:\n{found}"
    finally:
        del sys.modules[module.__name__]


def _run(block: Block, module: ModuleType, name: str) -> str:
    output = io.StringIO()
    code = "\n" * (block.line - 1) + block.text  # so that a traceback's line is the page's line
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(code, name, "exec"), module.__dict__)
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        line = lines[-1] if lines else getattr(error, "lineno", None) or block.line
        raise AssertionError(f"{name}:{line}: {type(error).__name__}: {error}") from error
    return output.getvalue()


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _without_code(page: str) -> str:
    lines = page.splitlines()
    for block in blocks_of(page):
        for number in range(block.line - 1, block.line - 1 + block.text.count("\n") + 1):
            lines[number] = ""
    return re.sub(r"`[^`\n]+`", "", "\n".join(lines))


@pytest.mark.parametrize(
    "path", [path for path in PAGES if any(b.language == "python" for b in blocks_of(path.read_text()))], ids=_name
)
def test_python_blocks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        run_page(path.read_text(), _name(path))


def broken_links(path: Path) -> list[str]:
    """The relative links of a page that lead to no file."""
    page = _without_code(path.read_text())
    links = re.findall(r"\]\(([^)\s]+)[^)]*\)", page) + re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    local = [link for link in links if not re.match(r"[a-z]+:|#", link)]
    return [link for link in local if not (path.parent / link.partition("#")[0]).exists()]


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=_name)
def test_relative_links_lead_somewhere(path):
    assert broken_links(path) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "[here](page.md#top) [web](https://x.org/y) [top](#top) `[code](no.md)`\n"
        "[gone](gone.md#part)\n\n```text\n[code](no.md)\n```\n"
    )
    assert broken_links(page) == ["gone.md#part"]


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_included_files_exist(path):
    for included in re.findall(r"^\s*--8<--\s+\"([^\"]+)\"", path.read_text(), flags=re.MULTILINE):
        assert (ROOT / included).is_file(), f"{_name(path)} includes {included}, which does not exist"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    for path in (ROOT / "docs").rglob("*.md"):
        assert f": {path.relative_to(ROOT / 'docs').as_posix()}\n" in navigation


@pytest.mark.parametrize("name", turbo.__all__)
def test_every_public_name_is_in_the_reference(name):
    reference = "\n".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    assert re.search(rf"\bturbo\.{name}(?!\w)", reference), f"no page of docs/api mentions turbo.{name}"


@pytest.mark.parametrize(("group", "page"), [("adapters", "support.md"), ("strategies", "how-it-works.md")])
def test_every_built_in_plugin_is_documented(group, page):
    text = (ROOT / "docs" / page).read_text()
    names = [e.name for e in entry_points(group=f"turbo.{group}") if e.dist and e.dist.name == "turbo-vlm"]
    assert names
    for name in names:
        assert f"`{name}`" in text, f"docs/{page} does not mention `{name}`"


def test_the_pages_are_found():
    names = [_name(path) for path in PAGES]
    assert {"README.md", "docs/index.md", "docs/extending/adapter.md"} <= set(names)


BROKEN = {
    "an exception": ("text\n\n```python\nx = 1\nx.nothing\n```\n", "page.md:5: AttributeError"),
    "a syntax error": ("```python\nx = = 1\n```\n", "page.md:2: SyntaxError"),
    "an error in a later block": (
        "```python\ny = 1\n```\n\n```python\nassert y == 2\n```\n",
        "page.md:6: AssertionError",
    ),
    "other output": (f'```python\nprint("a")\n```\n\n{MARK}\n```text\nb\n```\n', "page.md:2 does not print"),
    "output of nothing": (f"{MARK}\n```text\nb\n```\n", "page.md:3: an output block without"),
    "an open block": ("```python\nx = 1\n", "line 2 is never closed"),
}


@pytest.mark.parametrize(("page", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_page_fails(page, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        run_page(page, "page.md")


def test_a_sound_page_passes():
    run_page(
        f"```python\nx = 1\n```\n\n```bash\nexit 1\n```\n\n  ```python\n  print(x)\n  ```\n\n{MARK}\n```text\n1\n```\n"
        "\n```text\nanything\n```\n",
        "page.md",
    )


def test_pages_share_nothing():
    run_page("```python\nonly_here = 1\n```\n", "page.md")
    with pytest.raises(AssertionError, match="NameError"):
        run_page("```python\nonly_here\n```\n", "page.md")
