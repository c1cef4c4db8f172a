"""The hooks of docs_hooks/, each on a page of its own."""

from __future__ import annotations

import importlib.util
import logging
from types import ModuleType, SimpleNamespace

import pytest
from built_site import ROOT
from PIL import Image

SVG = '<svg xmlns="http://www.w3.org/2000/svg" {}></svg>'


def hook(name: str) -> ModuleType:
    """A hook's module, loaded from its file as mkdocs does."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs_hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def draw(tmp_path, caplog):
    """What pictures.py makes of the tags on guides/page.html, and what it warns of."""
    Image.new("RGB", (30, 20)).save(tmp_path / "a b.png")
    (tmp_path / "box.svg").write_text(SVG.format('viewBox="0 0 24.4 12"'))
    (tmp_path / "sized.svg").write_text(SVG.format('viewBox="0 0 1 1" width="48px" height="24"'))
    (tmp_path / "no.svg").write_text(SVG.format(""))
    addresses = {"images/a%20b.png": "a b.png"} | {
        f"images/{name}.svg": f"{name}.svg" for name in ("box", "sized", "no")
    }
    files = [SimpleNamespace(url=url, abs_src_path=str(tmp_path / name)) for url, name in addresses.items()]
    page = SimpleNamespace(url="guides/page.html", file=SimpleNamespace(src_uri="guides/page.md"))

    def run(content: str) -> tuple[str, list[str]]:
        with caplog.at_level(logging.WARNING):
            drawn = hook("pictures").on_page_content(content, page=page, files=files)
        assert all(record.name.startswith("mkdocs.") for record in caplog.records)  # strict mode counts these
        return drawn, [record.getMessage() for record in caplog.records]

    return run


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("../images/a%20b.png", 'width="30" height="20"'),
        ("../images/a%20b.png#only-dark", 'width="30" height="20"'),
        ("../images/box.svg", 'width="24" height="12"'),
        ("../images/sized.svg", 'width="48" height="24"'),
    ],
)
def test_a_picture_gets_its_size(source, size, draw):
    drawn, warnings = draw(f'<p><img alt="a > b" src="{source}"></p>')
    assert drawn == f'<p><img alt="a &gt; b" src="{source}" decoding="async" {size}></p>'
    assert warnings == []


def test_pictures_below_the_first_wait(draw):
    drawn, _ = draw('<img alt="a" src="../images/box.svg"><img alt="b" src="../images/box.svg">')
    first, second = drawn.split("><")
    assert "loading" not in first
    assert 'loading="lazy"' in second


def test_a_size_that_is_given_stays(draw):
    drawn, warnings = draw('<img alt="a" src="../images/box.svg" width="7" height="8">')
    assert drawn.count("width") == 1
    assert 'width="7" height="8"' in drawn
    assert warnings == []


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        ('<img src="../images/box.svg">', "has no alternative text"),
        ('<img src="../images/box.svg" alt=" ">', "has no alternative text"),
        ('<img src="../images/gone.png" alt="a">', "leads to no file"),
        ('<img src="https://example.org/a.png" alt="a">', "is not a file of this site"),
        ('<img src="../images/box.svg" alt="a" width="7">', "has one of width and height"),
        ('<img src="../images/no.svg" alt="a">', "has neither a viewBox nor"),
    ],
)
def test_a_picture_that_is_not_complete_is_a_warning(tag, problem, draw):
    _, warnings = draw(tag)
    assert len(warnings) == 1
    assert problem in warnings[0]


@pytest.mark.parametrize(
    ("content", "description"),
    [
        ("<h1>T</h1><p></p><p>One <b>two</b>\nthree.</p><p>More.</p>", "One two three."),
        ("<p>It is:</p>", "It is"),
        ('<p>a "b" &amp; c</p>', "a &quot;b&quot; &amp; c"),
        (f"<p>{'word ' * 20}end. {'more ' * 40}</p>", f"{'word ' * 20}end."),
        (f"<p>{'word ' * 90}</p>", f"{'word ' * 31}word …"),
        ("<h1>T</h1>", None),
    ],
)
def test_a_page_is_described_by_its_first_paragraph(content, description):
    page = SimpleNamespace(meta={})
    hook("descriptions").on_page_content(content, page=page)
    assert page.meta.get("description") == description


def test_a_description_that_is_given_stays():
    page = SimpleNamespace(meta={"description": "mine"})
    hook("descriptions").on_page_content("<p>text</p>", page=page)
    assert page.meta == {"description": "mine"}


def test_formulas_become_mathml():
    formulas = hook("formulas")
    inline = formulas.on_page_content(r'<span class="arithmatex">\(\frac{a}{b} &lt; 1\)</span>')
    assert inline.startswith("<math")
    assert "<mfrac>" in inline
    block = formulas.on_page_content('<div class="arithmatex">\\[\n\\log s\n\\]</div>')
    assert block.startswith('<div class="formula"><math')
    assert 'display="block"' in block


@pytest.mark.parametrize(
    ("latex", "drawn"),
    [
        (r"\log s", '<mi>log</mi><mspace width="0.17em"/><mi>s</mi>'),
        (r"\log (s)", '<mi>log</mi><mo stretchy="false">'),
        (r"\max_j m", '<munder><mo lspace="0.17em" rspace="0.17em">max</mo><mi>j</mi></munder><mi>m</mi>'),
        (r"\operatorname{diam} K", '<mo lspace="0.17em" rspace="0">diam</mo><mspace width="0.17em"/><mi>K</mi>'),
        (r"\lVert q \rVert", '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo><mi>q</mi>'),
    ],
)
def test_names_and_bars_are_spaced(latex, drawn):
    block = hook("formulas").on_page_content(f'<div class="arithmatex">\\[\n{latex}\n\\]</div>')
    assert drawn in block


def test_a_page_without_a_section_has_no_column_of_neighbours():
    layout = hook("layout")
    alone, among, said = (SimpleNamespace(meta={}, parent=parent) for parent in (None, "Guides", None))
    said.meta["hide"] = ["toc"]
    for page in (alone, among, said):
        layout.on_page_markdown("", page=page)
    assert (alone.meta, among.meta, said.meta) == ({"hide": ["navigation"]}, {}, {"hide": ["toc"]})
