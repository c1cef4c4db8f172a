"""The theory pages and the property tests are one: every proposition has its test, every test its proposition."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
THEORY = ROOT / "docs" / "theory"
PAGES = (
    "information-degree",
    "fusion-strategies",
    "bipartite-matching",
    "merging",
    "proportional-attention",
    "threshold",
    "inverse-sampling",
    "proposition",
    "error-bounds",
)
"""In the order of their numbers."""

HEADING = re.compile(r"^### Proposition (\d+\.\d+): \S", re.MULTILINE)
CITED = re.compile(r"`((?:property_tests|tests)/\w+\.py)::(\w+)`")
numbered = pytest.mark.parametrize(("number", "page"), list(enumerate(PAGES, start=1)), ids=PAGES)


def propositions(page: str) -> dict[str, str]:
    """The text under each proposition's heading, up to the next heading."""
    text = (THEORY / f"{page}.md").read_text(encoding="utf-8")
    parts = re.split(r"^#{1,6} .*$", text, flags=re.MULTILINE)[1:]
    headings = re.findall(r"^#{1,6} .*$", text, flags=re.MULTILINE)
    return {found[1]: part for heading, part in zip(headings, parts, strict=True) if (found := HEADING.match(heading))}


def docstrings_of(path: Path) -> dict[str, str]:
    """Name and docstring of every test function in a file."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {function.name: ast.get_docstring(function) or "" for function in functions}


def file_of(page: str) -> Path:
    return ROOT / "property_tests" / f"test_{page.replace('-', '_')}.py"


@numbered
def test_propositions_are_numbered_proved_and_tested(number: int, page: str):
    found = propositions(page)
    assert list(found) == [f"{number}.{i + 1}" for i in range(len(found))]
    assert found
    for label, text in found.items():
        assert text.count("*Proof.*") == 1, label
        assert text.count("∎") == 1, label
        assert CITED.search(text[text.index("∎") :]), f"Proposition {label} cites no test"


@numbered
def test_every_test_states_the_proposition_that_cites_it(number: int, page: str):
    del number
    docstrings, stated = docstrings_of(file_of(page)), {}
    for name, docstring in docstrings.items():
        label = re.match(r"Proposition (\d+\.\d+): \S", docstring)
        assert label, f"{name} does not begin with its proposition"
        stated[name] = label[1]
    cited = {
        (test, label)
        for label, text in propositions(page).items()
        for file, test in CITED.findall(text)
        if ROOT / file == file_of(page)
    }
    assert cited == set(stated.items())


def test_every_cited_test_exists():
    for page in THEORY.glob("*.md"):
        for file, test in CITED.findall(page.read_text(encoding="utf-8")):
            assert test in docstrings_of(ROOT / file), f"{page.name} cites {file}::{test}"


def test_every_property_test_belongs_to_a_page():
    files = {path for path in (ROOT / "property_tests").glob("test_*.py") if path.name != "test_generators.py"}
    assert files == {file_of(page) for page in PAGES}


def test_the_supplement_is_traced_completely():
    """The table names each equation, section, definition and table of the supplement, and real propositions."""
    text = (THEORY / "index.md").read_text(encoding="utf-8")
    places = [f"Eq. ({i})" for i in range(1, 9)]
    places += ["Section 1.1", "Section 1.2", "Section 2.1", "Section 2.2", "Section 4", "Section 5"]
    places += ["Table 1", "Table 2", "Definition 1", "Definition 2", "Proposition 8", "Assumption", "Figures 1, 2"]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for place in places:
        assert any(row.startswith(f"| {place}") for row in rows), f"{place} is not traced"
    known = {label for page in PAGES for label in propositions(page)}
    for row in rows:
        for label, page in re.findall(r"\[(\d\.\d+)\]\(([\w-]+)\.md#p\1\)", row):
            assert label in known
            assert PAGES[int(label[0]) - 1] == page
            assert f"`{file_of(page).stem}`" in row
