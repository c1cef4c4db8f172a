"""The page with a slider over the blocks, opened from disk in headless Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import Visit, open_chromium
from PIL import Image

import turbo
from turbo import zoo
from turbo.viz import MergedBlock, MergedImage, groups_image, merged_images, save_page

NAN, INF = torch.nan, torch.inf
FIRST = MergedBlock(
    depth=0,
    groups=torch.tensor([[0, 0, 1], [2, 3, 4]]),
    entered=7,
    left=6,
    value=torch.tensor([[0.0625, 16.0, 1.0], [1.0, 1.0, 3.0]]),
    redundancy=torch.tensor([[0.9, NAN, 0.1], [NAN, 0.5, NAN]]),
    degree=torch.tensor([[7.0, NAN, -INF], [NAN, INF, NAN]]),
    merged=torch.tensor([[True, False, False], [False, False, False]]),
)
SECOND = replace(
    FIRST,
    depth=3,
    groups=torch.tensor([[0, 0, 1], [1, 2, 1]]),
    entered=6,
    left=4,
    merged=torch.tensor([[False, False, False], [True, False, True]]),
)
HOSTILE = """</script><script>document.title = "broken"</script><img src=x onerror="document.title = 'broken'">
{{data}} \\u003c <!-- <script> '"&amp;"""
RED, YELLOW, DARKEST = [68, 1, 84], [253, 231, 37], [0, 0, 4]


def image(**differs: Any) -> MergedImage:
    pixels = torch.rand(16, 24, 3, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    return replace(MergedImage(pixels, "noise", 1, (FIRST, SECOND), "s1"), **differs)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_chromium() as browser:
        yield browser


Open = Callable[..., Any]


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Saves a page and opens it; afterwards nothing has gone wrong in it, and nothing else was asked for."""
    visits: list[Visit] = []

    def open_page(*images: MergedImage, about: dict[str, str] | None = None, **settings: Any) -> Any:
        path = tmp_path / "new" / f"page{len(visits)}.html"
        save_page(path, images or [image()], about or {"model": "toy", "strategy": "s1"})
        visit = Visit(chromium, path.as_uri(), "", **settings)
        visits.append(visit)
        visit.open("")
        if settings.get("java_script_enabled", True):
            visit.page.locator("#controls").wait_for()
        return visit.page

    yield open_page
    problems = [problem for visit in visits for problem in visit.problems]
    for visit in visits:
        visit.page.context.close()
    assert problems == []


def groups_canvas(page: Any, place: int = 0) -> Any:
    return page.locator(".image").nth(place).locator("canvas").nth(1)


def pixel(canvas: Any, x: float, y: float) -> list[int]:
    script = """(canvas, [x, y]) => {
      const pen = canvas.getContext("2d");
      return [...pen.getImageData(x * canvas.width, y * canvas.height, 1, 1).data];
    }"""
    return canvas.evaluate(script, [x, y])


def colour(canvas: Any, row: int, column: int, rows: int = 2, columns: int = 3) -> list[int]:
    """Of a patch, off its middle, where there may be a dot."""
    return pixel(canvas, (column + 0.3) / columns, (row + 0.3) / rows)


def assert_drawn(canvas: Any, merged: MergedImage, groups: torch.Tensor) -> None:
    """The colours are those of `groups_image`."""
    rows, columns = groups.shape
    filled = groups_image(merged.pixels, groups, outline=False)
    height, width = merged.pixels.shape[:2]
    for row in range(rows):
        for column in range(columns):
            wanted = filled[int((row + 0.5) * height / rows), int((column + 0.5) * width / columns)] * 255
            found = torch.tensor(colour(canvas, row, column, rows, columns)[:3])
            assert (found - wanted).abs().max() <= 1


def test_the_slider_moves_by_keyboard_and_by_mouse_and_the_groups_follow(opened):
    page = opened()
    canvas, slider, counts = groups_canvas(page), page.locator("#slider"), page.locator("#counts")
    assert page.title() == "What merged in toy"
    assert counts.inner_text() == "after block 3\n4 of 7 tokens left"
    assert_drawn(canvas, image(), SECOND.groups)
    slider.press("ArrowLeft")
    assert counts.inner_text() == "after block 0\n6 of 7 tokens left"
    assert slider.get_attribute("aria-valuetext") == "after block 0"
    assert_drawn(canvas, image(), FIRST.groups)
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + box["height"] / 2)
    assert counts.inner_text() == "before any merge\n7 of 7 tokens left"
    assert_drawn(canvas, image(), torch.arange(6).view(2, 3))
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    assert_drawn(canvas, image(), SECOND.groups)
    page.locator("#slider").blur()
    page.keyboard.press("ArrowLeft")  # wherever the focus is
    assert_drawn(canvas, image(), FIRST.groups)


def test_outlines_run_where_merged_groups_meet_and_nowhere_else(opened):
    page = opened()
    page.locator("#slider").press("ArrowLeft")
    script = """(canvas, [x, y]) => {
      const near = canvas.getContext("2d").getImageData(x * canvas.width - 3, y * canvas.height - 3, 6, 6).data;
      return [...near].some((_, at) => at % 4 === 0 && near[at] > 235 && near[at + 1] > 235 && near[at + 2] > 235);
    }"""

    def outlined(x: float, y: float) -> bool:
        return groups_canvas(page).evaluate(script, [x, y])

    assert outlined(2 / 3, 0.25)  # the pair and the patch beside it
    assert outlined(1 / 6, 0.5)  # the pair and the patch below
    assert not outlined(1 / 3, 0.25)  # inside the pair
    assert not outlined(1 / 3, 0.75)  # two patches that are tokens of their own


def test_layers_show_scores_with_their_legend(opened):
    page = opened()
    canvas, legend = groups_canvas(page), page.locator(".legend")
    assert not legend.is_visible()
    page.get_by_label("value A").check()
    assert colour(canvas, 0, 0)[:3] == DARKEST  # 1/16 of the average
    assert colour(canvas, 0, 1)[:3] == [252, 253, 191]  # 16 times
    middle = colour(canvas, 0, 2)
    assert middle == colour(canvas, 1, 0)
    assert 180 < middle[0] < 186  # magma's middle
    assert "average" in legend.inner_text()
    assert "from 0.0625 to 16 over all blocks" in legend.inner_text()
    assert "receive" not in legend.inner_text()
    page.get_by_label("redundancy R").check()
    assert colour(canvas, 0, 0)[:3] == YELLOW
    assert colour(canvas, 0, 2)[:3] == RED
    assert legend.inner_text().split("\n")[:2] == ["0.1", "0.9"]
    page.get_by_label("degree E").check()
    assert colour(canvas, 1, 1)[:3] == YELLOW  # infinite, so it merges first
    assert colour(canvas, 0, 2)[:3] == RED
    assert colour(canvas, 0, 0)[:3] not in (YELLOW, RED)
    red, _, blue, _ = colour(canvas, 1, 2)
    assert abs(red - blue) < 20  # grey: it may only receive
    assert "may only receive" in legend.inner_text()
    assert "from −∞ to ∞ in block 3" in legend.inner_text()
    assert "strategy's priority" in page.locator("#meaning").inner_text()
    page.get_by_label("groups").check()
    assert_drawn(canvas, image(), SECOND.groups)


def test_patches_that_merged_in_the_block_have_a_dot(opened):
    page = opened()
    page.get_by_label("redundancy R").check()
    assert pixel(groups_canvas(page), 1 / 6, 3 / 4)[:3] == [255, 255, 255]
    assert pixel(groups_canvas(page), 1 / 6, 1 / 4)[:3] == YELLOW


def hover(page: Any, canvas: Any, row: int, column: int) -> str:
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + (column + 0.5) / 3 * box["width"], box["y"] + (row + 0.5) / 2 * box["height"])
    return page.locator(".patch").inner_text()


def test_pointing_at_a_patch_shows_its_group_on_both_pictures(opened):
    page = opened()
    over, canvas = page.locator(".image canvas").nth(0), groups_canvas(page)
    assert "Point at a patch" in page.locator(".patch").inner_text()
    text = hover(page, canvas, 1, 0)  # merged in block 3 with two others, one of them far off
    assert text.startswith("3 patches, one token")
    assert "A, 1 is average\n1" in text
    assert "R, to its partner\n–" in text
    assert text.endswith("Merged into another token in block 3.")
    assert [colour(over, *patch)[3] for patch in [(1, 0), (0, 2), (1, 2)]] == [0, 0, 0]
    assert all(colour(over, *patch)[3] > 100 for patch in [(0, 0), (0, 1), (1, 1)])  # veiled
    assert "Received 2 more in block 3." in hover(page, over, 0, 2)
    text = hover(page, over, 0, 0)
    assert text.startswith("2 patches, one token")
    assert "E, the priority\n7" in text
    assert text.endswith("Merged earlier, unchanged in block 3.")
    text = hover(page, canvas, 1, 1)
    assert text.startswith("1 patch, a token of its own")
    assert "E, the priority\n∞" in text
    assert text.endswith("Not merged so far.")
    page.mouse.move(2, 2)
    assert "Point at a patch" in page.locator(".patch").inner_text()
    assert colour(over, 0, 0)[3] == 0


def test_patches_by_touch_and_by_keyboard(opened):
    page = opened(has_touch=True)
    box = groups_canvas(page).bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 6, box["y"] + box["height"] / 4)
    assert page.locator(".patch b").inner_text() == "2 patches, one token"  # and stays after the finger has left
    page.locator("h1").tap()
    assert "Point at a patch" in page.locator(".patch").inner_text()
    canvas = groups_canvas(page)
    for key in ("ArrowUp", "ArrowUp", "ArrowRight", "ArrowRight", "ArrowRight"):  # in at the middle, then to a corner
        canvas.press(key)
    assert page.locator(".patch b").inner_text() == "3 patches, one token"
    assert page.locator("#counts b").inner_text() == "after block 3"  # the slider kept still
    canvas.press("Escape")
    assert "Point at a patch" in page.locator(".patch").inner_text()


def test_play_goes_through_the_blocks_once_and_stops(opened):
    blocks = tuple(replace(FIRST, depth=depth) for depth in range(4))
    page = opened(image(blocks=blocks), reduced_motion="no-preference")
    page.clock.install()
    play, counts = page.locator("#play"), page.locator("#counts b")
    play.click()
    assert (counts.inner_text(), play.get_attribute("aria-label")) == ("before any merge", "Pause")
    page.clock.run_for(1700)
    assert counts.inner_text() == "after block 1"
    play.click()
    page.clock.run_for(5000)
    assert counts.inner_text() == "after block 1"
    play.click()
    page.clock.run_for(9000)
    assert (counts.inner_text(), play.get_attribute("aria-label")) == ("after block 3", "Play")


def test_images_with_other_blocks_share_the_slider(opened):
    """The same image under two strategies, say: each shows what its last block so far left."""
    page = opened(image(title="one"), image(title="two", blocks=(replace(FIRST, depth=1),)))
    assert page.locator("#slider").get_attribute("max") == "3"
    assert page.locator("#counts").inner_text() == "after block 3\n4–6 of 7 tokens left"
    assert_drawn(groups_canvas(page, 1), image(), FIRST.groups)
    page.locator("#slider").press("Home")
    page.locator("#slider").press("ArrowRight")
    assert page.locator("#counts").inner_text() == "after block 0\n6–7 of 7 tokens left"
    assert_drawn(groups_canvas(page, 0), image(), FIRST.groups)
    assert_drawn(groups_canvas(page, 1), image(), torch.arange(6).view(2, 3))


def test_a_denoisers_steps_have_groups_only(opened):
    steps = tuple(
        replace(FIRST, depth=number, value=None, redundancy=None, degree=None, merged=None, entered=6, left=5)
        for number in (1, 2)
    )
    page = opened(image(blocks=steps, unit="step", protected=0))
    assert not page.locator("#layers").is_visible()
    assert page.locator("#counts").inner_text() == "step 2\nran on 5 of 6 tokens"
    assert page.locator("figcaption").first.inner_text() == "the image that was drawn"
    assert hover(page, groups_canvas(page), 0, 0).strip() == "2 patches, one token"


@pytest.mark.parametrize("width", [390, 320, 1400])
def test_nothing_is_wider_than_the_window(opened, width):
    title = "a_file_name_without_any_space_" * 8 + ".png"
    page = opened(
        image(title=title), about={"model": title, "command": title}, viewport={"width": width, "height": 844}
    )
    page.get_by_label("degree E").check()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert groups_canvas(page).bounding_box()["width"] > 100


def test_a_canvas_has_the_devices_own_pixels(opened):
    page = opened(device_scale_factor=2.5)
    wide, shown = groups_canvas(page).evaluate("canvas => [canvas.width, canvas.clientWidth]")
    assert wide == round(shown * 2.5)
    page.set_viewport_size({"width": 500, "height": 800})
    page.wait_for_function("""() => {
      const canvas = document.querySelectorAll("canvas")[1];
      return canvas.clientWidth < 300 && canvas.width === Math.round(canvas.clientWidth * 2.5);
    }""")


def test_both_palettes_are_readable(opened):
    script = """() => ["html", "body", ".meaning", "figcaption", "footer p"].map((name) => {
      const style = getComputedStyle(document.querySelector(name));
      return [style.color, style.backgroundColor];
    })"""
    grounds = []
    for scheme in ("light", "dark"):
        found = opened(color_scheme=scheme).evaluate(script)
        ground = luminance(found[0][1])
        grounds.append(ground)
        for text, _ in found:
            low, high = sorted([luminance(text), ground])
            assert (high + 0.05) / (low + 0.05) > 4.5
    assert grounds[0] > 0.9
    assert grounds[1] < 0.05


def luminance(rgb: str) -> float:
    """Relative, as the web's contrast rules have it."""
    parts = [int(part) / 255 for part in rgb.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_reduced_motion(opened):
    script = "getComputedStyle(document.querySelector('#bars i')).transitionDuration"
    assert opened(reduced_motion="reduce").evaluate(script) == "0s"
    assert opened(reduced_motion="no-preference").evaluate(script) != "0s"


def test_hostile_titles_are_text(opened):
    page = opened(image(title=HOSTILE, strategy=HOSTILE), about={"model": HOSTILE, HOSTILE: HOSTILE})
    flat = " ".join(HOSTILE.split())
    assert page.title() == f"What merged in {flat}"
    assert page.locator("h1").inner_text() == f"What merged in {flat}"
    assert page.locator("h2").inner_text() == flat
    assert [text.strip() for text in page.locator("header dd").all_inner_texts()] == [flat, flat]
    assert " ".join(page.locator("img").get_attribute("alt").split()) == f"{flat}: what the model saw"
    assert page.locator("img").count() == 1
    assert_drawn(groups_canvas(page), image(), SECOND.groups)


def test_no_script_but_its_own_runs(chromium, tmp_path):
    save_page(tmp_path / "page.html", [image()], {"model": "toy"})
    with Visit(chromium, (tmp_path / "page.html").as_uri(), "") as visit:
        visit.open("")
        visit.page.evaluate("""() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'broken'";
          document.body.append(script);
        }""")
        assert visit.page.title() == "What merged in toy"
        assert "Content Security Policy" in visit.problems[0]


def test_without_javascript_the_images_are_there(opened):
    page = opened(java_script_enabled=False)
    assert "needs JavaScript" in page.locator(".notice").inner_text()
    assert page.locator("img").bounding_box()["width"] > 100
    assert not page.locator("#controls").is_visible()


def test_canvases_and_controls_have_names(opened):
    page = opened()
    assert "noise" in groups_canvas(page).get_attribute("aria-label")
    assert page.get_by_role("slider", name="Block").count() == 1
    assert page.get_by_role("radio").count() == 4
    assert page.get_by_role("group", name="What is drawn").count() == 1
    assert page.get_by_role("button", name="Play").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "play"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_what_a_real_model_merged(opened):
    model = turbo.accelerate(zoo.load("vit-digits"), "s1", drop=[100, 60, 20, 0, 0, 0, 0, 0])
    pixels = zoo.preprocess(zoo.digit_scenes("test", 2, seed=2)[0])
    with torch.no_grad(), turbo.recording(model) as trace:
        model(pixels)
    merged = merged_images(trace, pixels, mean=[0.5] * 3, std=[0.5] * 3)
    page = opened(*merged)
    assert page.locator("#counts").inner_text() == "after block 2\n77 of 257 tokens left"
    for place, each in enumerate(merged):
        assert_drawn(groups_canvas(page, place), each, each.blocks[-1].groups)


def test_a_report_of_photographs_is_below_a_megabyte(tmp_path):
    from sklearn.datasets import load_sample_images

    squares = [Image.fromarray(photo).resize((384, 384)) for photo in load_sample_images().images]
    noise = torch.rand(24, 24)
    groups = torch.randint(0, 300, (24, 24))
    blocks = tuple(MergedBlock(depth, groups, 577, 301, noise, noise, noise, noise > 0.5) for depth in range(12))
    images = [
        MergedImage(
            torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(384, 384, 3) / 255,
            "",
            1,
            blocks,
            "s1",
        )
        for square in squares * 2
    ]
    save_page(tmp_path / "photos.html", images, {})
    text = (tmp_path / "photos.html").read_text()
    assert len(text) < 1_000_000
    assert "kept as JPEG" in text
    assert "<h1>What merged</h1>" in text


def test_nothing_to_show_and_what_does_not_fit(tmp_path):
    with pytest.raises(turbo.TurboError, match="no images"):
        save_page(tmp_path / "a.html", [], {})
    with pytest.raises(turbo.TurboError, match="'noise' has no block that merged"):
        save_page(tmp_path / "a.html", [image(blocks=())], {})
    with pytest.raises(turbo.TurboError, match="block 3 of image 'noise' is not of 2 x 3 patches"):
        save_page(tmp_path / "a.html", [image(blocks=(FIRST, replace(SECOND, value=torch.ones(3, 2))))], {})
    with pytest.raises(turbo.TurboError, match="save two pages"):
        save_page(tmp_path / "a.html", [image(), image(unit="step")], {})
    assert not (tmp_path / "a.html").exists()


def test_the_wheel_carries_what_the_page_is_made_of():
    from hatchling.builders.wheel import WheelBuilder

    root = Path(turbo.__file__).parents[1]
    packed = {each.distribution_path for each in WheelBuilder(str(root)).recurse_included_files()}
    assert {f"turbo/viz/assets/{name}" for name in ("page.html", "page.css", "page.js", "picture.js")} <= packed
