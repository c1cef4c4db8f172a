"""``turbo show``, run as a user runs it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import family
from PIL import Image
from typer.testing import CliRunner

import turbo
from turbo import zoo
from turbo.cli.app import app
from turbo.cli.show import look
from turbo.evaluation.tasks.inputs import Inputs, load_inputs
from turbo.models import LoadedModel, load_model

DIGITS = ("zoo:vit-digits", "--drop", "60,40,20,0,0,0,0,0")


def run(*arguments: object):
    return CliRunner().invoke(app, ["show", *map(str, arguments)], env={"COLUMNS": "160"})


def error_of(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, turbo.TurboError), result.exception
    return str(result.exception)


def table(output: str) -> list[list[int]]:
    """Of each block: its index, tokens in, merged, left."""
    rows = [line.split("│")[1:-1] for line in output.splitlines() if line.startswith("│")]
    return [[int(cell) for cell in row[:4]] for row in rows]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    gradient = np.linspace(0, 255, 120 * 90 * 3).reshape(90, 120, 3).astype(np.uint8)
    Image.fromarray(gradient).save(path)
    return path


def test_scenes_of_a_zoo_model(tmp_path: Path):
    result = run(*DIGITS, "--scenes", 2, "--out", tmp_path / "new" / "a")
    assert result.exit_code == 0, result.output
    rows = table(result.output)
    assert rows[:4] == [[0, 257, 60, 197], [1, 197, 40, 157], [2, 157, 20, 137], [3, 137, 0, 137]]
    assert "merged.png" in result.output
    with Image.open(tmp_path / "new" / "a" / "merged.png") as picture:
        assert picture.width < 900  # the image and the three blocks that merge
        assert picture.height > 2 * 500
    page = (tmp_path / "new" / "a" / "merged.html").read_text()
    for text in (
        "scene 0",
        "scene 1",
        "zoo:vit-digits",
        "vit",
        "ward",
        "257, of which 137 are left",
        turbo.__version__,
    ):
        assert text in page
    assert "scene 2" not in page


def test_the_picture_shows_as_many_blocks_as_asked(tmp_path: Path):
    wide = []
    for blocks in (1, 3):
        assert run(*DIGITS, "--scenes", 1, "--blocks", blocks, "--out", tmp_path).exit_code == 0
        with Image.open(tmp_path / "merged.png") as picture:
            wide.append(picture.width)
    assert wide[1] == pytest.approx(2 * wide[0], rel=0.05)


@pytest.mark.parametrize("model", ["zoo:clip-scenes", "random:timm/vit_tiny_patch16_224"])
def test_images_of_yours(tmp_path: Path, photo: Path, model: str):
    result = run(model, photo, "--strategy", "s1", "--ratio", 0.2, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "strategy s1" in result.output
    assert "photo.jpg" in (tmp_path / "merged.html").read_text()
    assert (tmp_path / "merged.png").stat().st_size > 10_000


def test_the_image_is_what_the_model_saw():
    loaded = load_model("zoo:clip-scenes")
    inputs = load_inputs(loaded)
    scene = Image.fromarray(zoo.draw_scenes("test", 1, seed=3).images[0])
    turbo.accelerate(loaded.model, "s1", drop=9)
    (found,) = look(loaded, inputs, scene, "a")
    report = turbo.report(loaded.model)
    assert (found.title, found.strategy) == ("a", "s1")
    assert abs(found.pixels.numpy() * 255 - np.asarray(scene)).max() < 1
    assert [(b.depth, b.left) for b in found.blocks] == [(b.depth, b.tokens_out) for b in report.blocks]


def test_random_weights_see_the_middle_of_a_photo_not_a_squashed_one():
    size = 48
    loaded = LoadedModel("random:x", family("vit").model(), (size, size), lambda x: None)
    loaded = replace(loaded, images=loaded.model)
    inputs = load_inputs(loaded)
    picture = Image.new("RGB", (3 * size, size), "red")
    picture.paste("blue", (size, 0, 2 * size, size))
    turbo.accelerate(loaded.model, drop=3)
    (found,) = look(loaded, inputs, picture, "a")
    torch.testing.assert_close(found.pixels, torch.tensor([0.0, 0, 1]).expand(size, size, 3))


def test_images_that_are_not_square():
    import timm

    size = {"input_size": (3, 64, 96), "crop_pct": 1.0}
    model = timm.create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=3, pretrained_cfg_overlay=size).eval()
    loaded = LoadedModel("random:timm/vit_tiny_patch16_224", model, (64, 96), model)
    turbo.accelerate(model, drop=4)
    (found,) = look(loaded, load_inputs(loaded), Image.new("RGB", (300, 200), "green"), "a")
    assert found.pixels.shape == (64, 96, 3)
    assert found.blocks[0].groups.shape == (4, 6)


def test_tiles_of_an_image_are_shown_each_by_itself():
    model = turbo.accelerate(family("llava-next").model(), drop=4)
    loaded = LoadedModel("tiles", model, (48, 48), model)

    def tiles(pictures):
        levels = [torch.tensor(np.asarray(picture)[0, 0, 0] / 127.5 - 1.0) for picture in pictures]
        return torch.stack([each.float().expand(3, 3, 48, 48) for each in levels])

    found = look(loaded, Inputs(tiles), Image.new("RGB", (64, 64), (51, 0, 0)), "a.jpg")
    assert [image.title for image in found] == ["a.jpg, tile 0", "a.jpg, tile 1", "a.jpg, tile 2"]
    torch.testing.assert_close(found[1].pixels, torch.full((48, 48, 3), 0.2))


def test_inputs_that_are_no_pixel_values():
    model = turbo.accelerate(family("vit").model(), drop=4)
    loaded = LoadedModel("x", model, (48, 48), model)
    with pytest.raises(turbo.TurboError, match="not pixel values b 3 h w: record in Python"):
        look(loaded, Inputs(lambda pictures: torch.zeros(1, 36, 192)), Image.new("RGB", (48, 48)), "a")


def test_a_pipeline_draws_untouched_turbo_and_their_difference(tmp_path: Path):
    result = run(
        "zoo:t2i-scenes", "--prompt", "a big red ring on plain ground", "--steps", 2, "--ratio", 0.5, "--out", tmp_path
    )
    assert result.exit_code == 0, result.output
    assert "strategy s1, one step on latents of 32 x 32" in result.output
    with Image.open(tmp_path / "merged.png") as picture:
        assert picture.width == 3 * 128 + 2 * 4 + 2 * 14
        difference = np.asarray(picture.convert("RGB"))[60:140, 290:390]
    assert np.median(difference) < 128 < np.median(np.asarray(Image.open(tmp_path / "merged.png").convert("RGB"))[:8])
    page = (tmp_path / "merged.html").read_text()
    assert "a big red ring on plain ground" in page
    assert json.dumps("step") in page


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["random:vit-b16-224"], "has no images of its own: name some, turbo show random:vit-b16-224 photo.jpg"),
        (["zoo:vit-digits", "nix.jpg"], "there is no image nix.jpg"),
        (["zoo:vit-digits", __file__], "cannot be read"),
        (["zoo:nix"], "unknown model 'nix'"),
        (["zoo:vit-digits", __file__, "--scenes", 2], "--scenes cannot apply to zoo:vit-digits with images"),
        (["random:vit-b16-224", "--scenes", 2], "--scenes cannot apply to random:vit-b16-224"),
        (["zoo:vit-digits", "--prompt", "a"], "--prompt cannot apply to zoo:vit-digits"),
        (["zoo:vit-digits", "--parts", "feed_forward"], "--parts cannot apply to zoo:vit-digits"),
        (["zoo:vit-digits", "--drop", 0, "--scenes", 1], "nothing merges in zoo:vit-digits"),
        (["zoo:t2i-scenes"], "give --prompt"),
        (["zoo:t2i-scenes", "a.png"], "looks at no images, it draws them"),
        (["zoo:t2i-scenes", "--prompt", "a", "--scenes", 2], "--scenes cannot apply to zoo:t2i-scenes"),
        (["zoo:t2i-scenes", "--prompt", "a", "--drop", 2], "--drop cannot apply to zoo:t2i-scenes"),
        (["random:sd15-unet", "--prompt", "a"], "is a UNet alone"),
    ],
)
def test_what_cannot_be_shown(tmp_path: Path, arguments: list[object], problem: str):
    assert problem in error_of(*arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
