"""What a denoiser draws with turbo beside the untouched image: the difference, and what merged at each step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import turbo
from turbo import viz, zoo
from turbo.engine.trace import PartTrace, Trace
from turbo.errors import TurboError
from turbo.viz import difference_image, draw_both, draw_pairs, merged_steps, save_page

PROMPTS = ("a big red ring on plain ground", "a small green circle on striped ground", "a big blue square")
FEW = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipe():
    return zoo.load("t2i-scenes")


@pytest.fixture(scope="module")
def drawn(pipe) -> viz.Drawn:
    return draw_both(pipe, PROMPTS, options={"ratio": 0.6}, arguments=FEW, batch=2, record=True)


def flat(red: int, green: int = 0, blue: int = 0, size: tuple[int, int] = (2, 3)) -> Image.Image:
    return Image.new("RGB", size, (red, green, blue))


def test_the_difference_is_absolute_amplified_and_cut_off_at_white():
    assert difference_image(flat(10, 0, 100), flat(7, 6, 0), gain=3).getpixel((0, 0)) == (9, 18, 255)
    assert difference_image(flat(7), flat(10), gain=0.5).getpixel((1, 2)) == (2, 0, 0)
    assert difference_image(flat(7), flat(7)).getextrema() == ((0, 0),) * 3
    with pytest.raises(TurboError, match=r"images of \(2, 3\) and \(4, 4\) pixels"):
        difference_image(flat(0), flat(0, size=(4, 4)))
    for gain in (0, -1, float("nan")):
        with pytest.raises(TurboError, match="gain"):
            difference_image(flat(0), flat(0), gain)


def test_panels_with_and_without_the_difference(drawn):
    panel = drawn.panels(difference=True, gain=2)[1]
    assert panel.titles == ("untouched", "turbo", "difference x2")
    assert panel.text == PROMPTS[1]
    left, right, apart = (np.asarray(image).astype(int) for image in panel.images)
    assert (left != right).any()
    assert np.array_equal(apart, np.minimum(255, 2 * abs(left - right)))
    plain = drawn.panels()[1]
    assert (len(plain.images), plain.titles) == (2, ())


def test_image_to_image_begins_with_the_start(pipe):
    start = flat(200, 30, 40, (32, 32))
    panels = draw_pairs(
        viz.as_image_to_image(pipe), PROMPTS[:1], starts=[start], arguments=FEW | {"strength": 0.6}, difference=True
    )
    assert panels[0].titles == ("start", "untouched", "turbo", "difference x4")
    assert panels[0].images[0] is start


def test_recording_changes_nothing_that_is_drawn(pipe, drawn):
    again = draw_both(pipe, PROMPTS, options={"ratio": 0.6}, arguments=FEW, batch=2)
    assert [image.tobytes() for image in again.merged] == [image.tobytes() for image in drawn.merged]
    assert [image.tobytes() for image in again.untouched] == [image.tobytes() for image in drawn.untouched]
    with pytest.raises(TurboError, match="record=True"):
        again.steps()


def test_the_steps_are_those_of_the_denoiser_on_the_image_that_was_drawn(drawn):
    assert len(drawn.traces) == 2  # of two images and of one
    steps = drawn.steps()
    assert [each.title for each in steps] == list(PROMPTS)
    for each, image in zip(steps, drawn.merged, strict=True):
        assert each.unit == "step"
        assert [step.depth for step in each.blocks] == [1, 2]
        assert np.array_equal((each.pixels * 255).round().numpy(), np.asarray(image))
        assert {step.left for step in each.blocks} == {1024 - round(0.6 * 1024)}
        assert all(step.value is step.redundancy is step.degree is step.merged is None for step in each.blocks)
    first = [part for part in drawn.traces[1].parts if part.block == drawn.traces[1].parts[0].block]
    for step, part in zip(steps[2].blocks, first, strict=True):
        assert torch.equal(step.groups.flatten(), part.assignment[-1])
    assert not torch.equal(steps[0].blocks[0].groups, steps[0].blocks[1].groups)


def test_other_blocks_and_parts(pipe):
    both = {"ratio": {"self_attention": 0.5, "feed_forward": 0.25}}
    drawn = draw_both(pipe, PROMPTS[:1], options=both, arguments=FEW, record=True)
    last = max(part.block for part in drawn.traces[0].parts)
    assert [step.left for step in drawn.steps(block=last, part="feed_forward")[0].blocks] == [768, 768]
    assert [step.left for step in drawn.steps(block=last)[0].blocks] == [512, 512]
    with pytest.raises(TurboError, match="part cross_attention; there are block 0: feed_forward, block 0: self_att"):
        drawn.steps(part="cross_attention")
    with pytest.raises(TurboError, match="nothing merged in block 99"):
        drawn.steps(block=99)


def test_under_guidance_the_rows_are_the_prompts():
    empty, prompts = torch.arange(4).expand(2, -1), torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    trace = Trace([], [PartTrace(0, "self_attention", 2, 2, torch.cat([empty, prompts]))])
    steps = merged_steps(trace, [flat(0, size=(4, 4))] * 2, titles=["a", "b"], strategy="s1")
    assert [step.blocks[0].groups.tolist() for step in steps] == [[[0, 0], [1, 1]], [[0, 1], [1, 1]]]
    assert [(step.title, step.strategy, step.protected) for step in steps] == [("a", "s1", 0), ("b", "s1", 0)]
    alone = merged_steps(trace, [flat(0, size=(4, 4))] * 4)
    assert alone[0].blocks[0].left == 4
    assert alone[3].title == "image 3"


def test_traces_that_do_not_belong_to_the_images():
    part = PartTrace(0, "self_attention", 2, 2, torch.arange(4).expand(2, -1))
    image = flat(0, size=(4, 4))
    for count in (0, 3):
        with pytest.raises(TurboError, match=f"ran on 2 rows, {count} images are given"):
            merged_steps(Trace([], [part]), [image] * count)
    with pytest.raises(TurboError, match="no part of a denoiser that merged"):
        merged_steps(Trace([], []), [image])
    with pytest.raises(TurboError, match="1 titles for 2 images"):
        merged_steps(Trace([], [part]), [image] * 2, titles=["a"])
    other = PartTrace(0, "self_attention", 2, 2, torch.arange(4)[None])
    with pytest.raises(TurboError, match="calls of different sizes"):
        merged_steps(Trace([], [part, other]), [image] * 2)


def test_a_page_of_steps(drawn, tmp_path: Path):
    save_page(tmp_path / "steps.html", drawn.steps(), {"model": "zoo:t2i-scenes"})
    text = (tmp_path / "steps.html").read_text()
    assert '"unit":"step"' in text
    assert "the image that was drawn" in text
    assert text.count('alt="') == len(PROMPTS)


def test_the_pipeline_is_left_untouched(pipe, drawn):
    with pytest.raises(TurboError):
        turbo.report(pipe)
