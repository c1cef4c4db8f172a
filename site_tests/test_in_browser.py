"""The built site as a reader meets it: opened in headless Chromium, from a server on this machine."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsing import Visit, open_chromium
from playwright.sync_api import Browser, expect

MEASUREMENTS = (Path(__file__).parent / "in_browser.js").read_text()
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA
MOST_SHIFT = 0.05


class Handler(SimpleHTTPRequestHandler):
    """Serves files, keeps connections open, says nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """Where the site is served, with a slash at the end."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site.root)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def visit(chromium, address) -> Iterator[Visit]:
    """A window on a desk; what goes wrong in it fails the test."""
    with Visit(chromium, address, MEASUREMENTS, viewport=DESK) as visit:
        yield visit
        assert visit.problems == []


@pytest.fixture
def phone(chromium, address) -> Iterator[Visit]:
    """A window as narrow as a phone's, with touch."""
    with Visit(chromium, address, MEASUREMENTS, viewport=PHONE, has_touch=True, is_mobile=True) as visit:
        yield visit
        assert visit.problems == []


def test_every_page_fits_stays_put_and_can_be_read(phone, site):
    wrong = {}
    for name in site.pages:
        if name == "404.html":  # its addresses start with the path of SITE_URL
            continue
        phone.page.set_viewport_size(PHONE)
        phone.page.emulate_media(color_scheme="dark")
        phone.open(name)
        wrong[f"{name}, phone, dark"] = faults(phone)
        phone.page.set_viewport_size(DESK)  # without another load, which is what takes time
        phone.page.emulate_media(color_scheme="light")
        wrong[f"{name}, desk, light"] = [fault for fault in faults(phone) if not fault.startswith("moves")]
    assert {name: found for name, found in wrong.items() if found} == {}


def test_pages_with_pictures_stay_put_on_a_desk(visit, site):
    wrong = {}
    for name in (name for name, page in site.pages.items() if page.images):
        visit.open(name)
        wrong[name] = faults(visit)
    assert {name: found for name, found in wrong.items() if found} == {}


def faults(window: Visit) -> list[str]:
    """What sticks out of the window, what has moved since the page was opened, and text that is too faint."""
    window.page.evaluate("measure.loadPictures()")
    shift = window.page.evaluate("measure.shift")
    moves = [f"moves by {shift:.3f}"] if shift > MOST_SHIFT else []
    faint = window.page.evaluate(f"measure.faint({LEAST_CONTRAST})")
    return [*window.page.evaluate("measure.sticksOut()"), *moves, *faint]


FAULTS = {
    "article.innerHTML += '<p style=\"color: #888\">some text</p>'": r"p some text: 3\.5",
    "article.innerHTML += '<p style=\"opacity: 0.5\">some text</p>'": r"p some text: ",
    "article.innerHTML += '<div style=\"width: 5000px\">wide</div>'": "div wide",
    "setTimeout(() => article.style.marginTop = '400px', 600)": "moves by 0",
}


@pytest.mark.parametrize(("script", "fault"), FAULTS.items(), ids=FAULTS.values())
def test_a_fault_is_found(script, fault, visit):
    visit.open("index.html")
    assert faults(visit) == []
    visit.page.evaluate(f"article = document.querySelector('article'); {script}")
    visit.page.wait_for_timeout(1000)
    assert re.search(fault, "\n".join(faults(visit)))


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("fetch('http://localhost:9/away').catch(() => 0)", "asks for http://localhost:9/away"),
        ("setTimeout(() => { throw Error('thrown') })", "thrown"),
        ("console.error('told')", "told"),
    ],
)
def test_a_problem_is_noted(script, problem, chromium, address):
    with Visit(chromium, address, "") as visit:
        visit.open("index.html")
        visit.page.evaluate(script)
        visit.page.wait_for_timeout(200)
        assert any(problem in noted for noted in visit.problems)


def ground(visit: Visit) -> str:
    """The colour behind the text."""
    return visit.page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_palette_follows_the_system(visit):
    visit.page.emulate_media(color_scheme="light")
    visit.open("index.html")
    light = ground(visit)
    visit.page.emulate_media(color_scheme="dark")
    visit.page.wait_for_function("light => getComputedStyle(document.body).backgroundColor != light", arg=light)
    assert light == "rgb(255, 255, 255)"
    assert max(int(part) for part in ground(visit)[4:-1].split(",")) < 40


def test_the_palette_can_be_chosen_and_stays(visit):
    visit.page.emulate_media(color_scheme="dark")
    visit.open("index.html")
    dark = ground(visit)
    visit.page.get_by_title("Switch to light mode").click()
    visit.page.wait_for_function("dark => getComputedStyle(document.body).backgroundColor != dark", arg=dark)
    light = ground(visit)
    visit.open("quickstart.html")
    assert ground(visit) == light
    visit.page.get_by_title("Switch to dark mode").click()
    visit.page.wait_for_function("light => getComputedStyle(document.body).backgroundColor != light", arg=light)
    assert ground(visit) == dark


def test_one_walks_from_a_tab_to_a_page_to_the_next(visit):
    visit.open("index.html")
    page = visit.page
    page.locator(".md-tabs").get_by_role("link", name="Guides").click()
    expect(page).to_have_url(f"{visit.address}guides/choose.html")
    page.locator(".md-sidebar--primary").get_by_role("link", name="BLIP", exact=True).click()
    expect(page).to_have_url(f"{visit.address}guides/blip.html")
    page.get_by_role("link", name="Next:").click()
    expect(page).to_have_url(f"{visit.address}guides/vit.html")
    page.get_by_role("link", name="Previous:").click()
    expect(page).to_have_url(f"{visit.address}guides/blip.html")
    page.get_by_role("link", name="turbo", exact=True).first.click()
    expect(page).to_have_url(f"{visit.address}index.html")


@pytest.mark.parametrize("word", ["redundancy", "tomesd", "accelerate", "min_tokens"])
def test_the_search_finds_a_word_and_opens_the_page(word, visit):
    visit.open("index.html")
    visit.page.get_by_role("textbox", name="Search").click()
    visit.page.keyboard.type(word)
    hits = visit.page.locator(".md-search-result__link")
    hits.first.wait_for()
    hit = hits.and_(visit.page.locator(f"[href*='h={word}']")).first  # a section; above it stands its page
    place = str(hit.get_attribute("href"))
    hit.click()
    expect(visit.page).to_have_url(re.compile(re.escape(place.partition("?")[0])))
    expect(visit.page.locator("article mark").first).to_have_text(re.compile(word, re.IGNORECASE))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_formula_is_drawn(scheme, visit):
    visit.page.emulate_media(color_scheme=scheme)
    visit.open("theory/information-degree.html")
    fraction = visit.page.locator("math[display=block] mfrac").first
    letter = visit.page.locator("math:not([display=block]) mi").first
    tall, short = fraction.bounding_box(), letter.bounding_box()
    assert tall
    assert short
    assert tall["height"] > 1.6 * short["height"] > 0
    assert tall["width"] > 0
    colours = "e => [e, e.closest('article')].map((x) => getComputedStyle(x).color)"
    assert len(set(fraction.evaluate(colours))) == 1


def test_the_menu_of_a_phone_leads_on(phone):
    phone.open("quickstart.html")
    menu = phone.page.locator(".md-sidebar--primary")
    expect(menu).not_to_be_in_viewport()
    phone.page.locator(".md-header label[for=__drawer]").tap()
    expect(menu).to_be_in_viewport(ratio=0.99)
    menu.get_by_role("link", name="Supported models").tap()
    expect(phone.page).to_have_url(f"{phone.address}support.html")
    expect(phone.page.locator(".md-sidebar--primary")).not_to_be_in_viewport()


def test_a_wide_table_scrolls_in_its_own_box(phone):
    phone.open("benchmarks/index.html")
    boxes = phone.page.locator(".md-typeset__scrollwrap")
    assert any(boxes.evaluate_all("boxes => boxes.map((box) => box.scrollWidth > box.clientWidth)"))


def test_code_is_copied(visit):
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open("index.html")
    block = visit.page.locator(".highlight", has_text="import turbo").first
    block.hover()
    block.get_by_role("button").first.click()
    visit.page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('import turbo'))")


def test_pages_are_read_without_scripts(chromium, address):
    with Visit(chromium, address, "", viewport=DESK, java_script_enabled=False) as visit:
        visit.open("benchmarks/index.html")
        expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        expect(visit.page.locator("article img").first).to_be_visible()
        visit.page.locator(".md-tabs").get_by_role("link", name="Theory").click()
        expect(visit.page).to_have_url(f"{address}theory/index.html")
        assert visit.problems == []
