"""Every page of the built site: its links lead somewhere, it loads nothing from elsewhere, it is light and complete."""

from __future__ import annotations

from collections import Counter

import pytest
from built_site import Link, Page, Site, urls_in_css

MOST_BYTES = 1_000_000
HEAVY: set[str] = set()  # pages that may weigh more


def test_the_site_is_there(site):
    assert len(site.pages) > 60
    assert {"index.html", "quickstart.html", "theory/index.html", "api/accelerate.html", "404.html"} <= set(site.pages)


def test_every_address_leads_somewhere(site):
    assert links_with_problems(site) == []


def links_with_problems(site: Site) -> list[str]:
    """Every problem of a link, with the page that it is on."""
    problems = ((name, site.problem_of(link, name)) for name, page in site.pages.items() for link in page.links)
    return sorted({f"{name}: {problem}" for name, problem in problems if problem})


def test_style_sheets_load_nothing_from_elsewhere(site):
    sheets = list(site.root.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        for url in urls_in_css(sheet.read_text()):
            assert site.problem_of(Link(url, loaded=True), site.name_of(sheet)) is None


def test_every_picture_has_words_and_a_size(site):
    images = [(name, image) for name, page in site.pages.items() for image in page.images]
    assert images
    for name, image in images:
        assert image.get("alt", "").strip(), f"{name}: {image['src']} has no alternative text"
        assert image.get("width", "").isdigit(), f"{name}: {image['src']} has no width"
        assert image.get("height", "").isdigit(), f"{name}: {image['src']} has no height"


def test_every_picture_below_the_first_waits_until_it_is_near(site):
    for name, page in site.pages.items():
        assert all(image.get("loading") == "lazy" for image in page.images[1:]), name


def test_every_page_is_light(site):
    weights = {name: site.weight_of(name) for name in site.pages if name not in HEAVY}
    assert {name: weight for name, weight in weights.items() if weight > MOST_BYTES} == {}


def test_every_page_has_one_title_of_its_own(site):
    assert {name: page.tags["h1"] for name, page in site.pages.items() if page.tags["h1"] != 1} == {}
    titles = Counter(page.title for page in site.pages.values())
    assert all(titles)
    assert [title for title, count in titles.items() if count > 1] == []


def test_every_page_is_described(site):
    for name, page in site.pages.items():
        assert 10 < len(page.description) <= 165, f"{name}: {page.description}"


def test_no_name_is_given_twice(site):
    twice = {name: [i for i, count in page.ids.items() if count > 1] for name, page in site.pages.items()}
    assert {name: ids for name, ids in twice.items() if ids} == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<a href="other.html#here">', None),
        ('<a href="https://example.org/">', None),
        ('<a href="other.html#gone">', "other.html#gone: no such place on other.html"),
        ('<a href="#gone">', "#gone: no such place on page.html"),
        ('<a href="gone.html">', "gone.html: no such file"),
        ('<img srcset="other.html 1x, gone.png 2x">', "gone.png: no such file"),
        ('<img src="https://example.org/a.png">', "https://example.org/a.png is loaded from elsewhere"),
        ('<script src="//example.org/a.js">', "//example.org/a.js is loaded from elsewhere"),
        ('<link rel="preconnect" href="https://a.org">', "https://a.org is loaded from elsewhere"),
        ('<p style="background: url(https://a.org/b)">', "https://a.org/b is loaded from elsewhere"),
        ('<style>@import "https://a.org/b.css";</style>', "https://a.org/b.css is loaded from elsewhere"),
        ('<a href="/other.html">', "/other.html: no such file"),
        ('<a href="/turbo/other.html#here">', None),
        ('<a href="../other.html">', "../other.html: no such file"),
    ],
)
def test_what_is_wrong_is_found(text, problem, tmp_path):
    (tmp_path / "page.html").write_text(text)
    (tmp_path / "other.html").write_text('<p id="here">')
    found = links_with_problems(Site(tmp_path, "/turbo/"))
    assert found == ([f"page.html: {problem}"] if problem else [])


def test_a_page_is_read(tmp_path):
    (tmp_path / "page.html").write_text(
        '<title>A title</title><meta name="description" content="Words."><h1 id="a">x</h1><p id="a"><img src="b.png">'
    )
    page = Page(tmp_path / "page.html")
    assert (page.title, page.description, page.ids["a"], page.tags["h1"]) == ("A title", "Words.", 2, 1)
    assert page.images == [{"src": "b.png"}]
