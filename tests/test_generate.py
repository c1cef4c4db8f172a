"""The paper's protocol, run on small models: resumable, paired, and on the very pipeline that was given."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saved_pipelines import saved_clip, saved_stable_diffusion, stable_diffusion
from typer.testing import CliRunner

import turbo
from turbo.bench.evaluate import find_reference
from turbo.bench.generate import (
    SIDES,
    Protocol,
    image_path,
    read_images,
    read_times,
    run_protocol,
    summarise_times,
)
from turbo.bench.prompts import Prompts, find_prompts
from turbo.cli.app import app
from turbo.cli.options import parse_parts
from turbo.denoisers import load_pipeline
from turbo.engine.install import find_acceleration
from turbo.errors import TurboError

PROMPTS = Prompts("animals", ("a photo of a cat", "a photo of a dog", "a photo of a hen"))
PROTOCOL = Protocol("tiny", batch=2, steps=2, guidance=3.0, options={"ratio": 0.5})


@pytest.fixture(scope="module")
def pipe():
    found = stable_diffusion()
    found.set_progress_bar_config(disable=True)
    return found


def run(*arguments: object):
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "160"})


def pixels(out: Path, side: str, index: int) -> np.ndarray:
    return np.asarray(Image.open(image_path(out, side, index))).astype(int)


def test_images_are_the_pipelines_own_untouched_and_accelerated(pipe, tmp_path: Path):
    assert run_protocol(pipe, PROTOCOL, PROMPTS, 3, tmp_path) == 6
    assert find_acceleration(pipe) is None
    for index, prompt in enumerate(PROMPTS.texts):

        def own(prompt: str = prompt, index: int = index) -> np.ndarray:
            seed = torch.Generator().manual_seed(index)
            return np.asarray(pipe(prompt, generator=seed, num_inference_steps=2, guidance_scale=3.0).images[0])

        untouched = own()
        with turbo.accelerated(pipe, ratio=0.5):
            merged = own()
        assert abs(pixels(tmp_path, "untouched", index) - untouched).max() <= 1  # rounding goes by the batch
        assert abs(pixels(tmp_path, "turbo", index) - merged).max() <= 1
        assert not np.array_equal(untouched, merged)


def test_what_is_there_is_not_made_again(pipe, tmp_path: Path):
    run_protocol(pipe, PROTOCOL, PROMPTS, 4, tmp_path)
    paths = {(side, index): image_path(tmp_path, side, index) for side in SIDES for index in range(4)}
    before = {key: (path.read_bytes(), path.stat().st_mtime_ns) for key, path in paths.items()}
    assert run_protocol(pipe, PROTOCOL, PROMPTS, 4, tmp_path) == 0
    pixels_before = pixels(tmp_path, "turbo", 2)
    paths["turbo", 2].unlink()
    assert run_protocol(pipe, PROTOCOL, PROMPTS, 4, tmp_path) == 1
    assert abs(pixels(tmp_path, "turbo", 2) - pixels_before).max() <= 1
    del before["turbo", 2]
    assert all((paths[key].read_bytes(), paths[key].stat().st_mtime_ns) == found for key, found in before.items())
    last = read_times(tmp_path)[-1]
    assert (last["session"], last["side"], last["images"]) == (2, "turbo", [2])
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_that_was_interrupted_goes_on(pipe, tmp_path: Path):
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_protocol(pipe, PROTOCOL, PROMPTS, 4, tmp_path, on_batch=stop)
    there = sum(image_path(tmp_path, side, index).exists() for side in SIDES for index in range(4))
    assert there == 6
    assert run_protocol(pipe, PROTOCOL, PROMPTS, 4, tmp_path) == 2


def test_more_images_leave_the_first_ones(pipe, tmp_path: Path):
    run_protocol(pipe, PROTOCOL, PROMPTS, 2, tmp_path)
    before = image_path(tmp_path, "turbo", 1).read_bytes()
    assert run_protocol(pipe, PROTOCOL, PROMPTS, 4, tmp_path) == 4
    assert image_path(tmp_path, "turbo", 1).read_bytes() == before


def test_the_batch_does_not_change_an_image(pipe, tmp_path: Path):
    for batch in (1, 3):
        run_protocol(pipe, replace(PROTOCOL, batch=batch), PROMPTS, 3, tmp_path / str(batch))
    for side in SIDES:
        for index in range(3):
            one, three = (pixels(tmp_path / batch, side, index) for batch in ("1", "3"))
            assert abs(one - three).max() <= 1


def test_sides_take_turns_and_so_does_who_is_first(pipe, tmp_path: Path):
    run_protocol(pipe, PROTOCOL, PROMPTS, 5, tmp_path)
    entries = read_times(tmp_path)
    assert [entry["side"] for entry in entries] == ["untouched", "turbo", "turbo", "untouched", "untouched", "turbo"]
    assert [entry["images"] for entry in entries[::2]] == [[0, 1], [2, 3], [4]]
    assert summarise_times(entries, 2)["batches"] == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 3}, "steps=2; asked for: steps=3"),
        ({"seed": 1, "guidance": 1.0}, "seed=0, guidance=3.0; asked for: seed=1, guidance=1.0"),
        ({"options": {"ratio": 0.25}}, "options={'ratio': 0.5}"),
    ],
)
def test_other_settings_are_refused_by_name(pipe, tmp_path: Path, change: dict, named: str):
    run_protocol(pipe, PROTOCOL, PROMPTS, 1, tmp_path)
    with pytest.raises(TurboError) as error:
        run_protocol(pipe, replace(PROTOCOL, **change), PROMPTS, 1, tmp_path)
    assert named in str(error.value)


def test_edited_prompts_and_unknown_images_are_refused(pipe, tmp_path: Path):
    run_protocol(pipe, PROTOCOL, PROMPTS, 1, tmp_path)
    with pytest.raises(TurboError, match="prompts_digest"):
        run_protocol(pipe, PROTOCOL, replace(PROMPTS, texts=("a photo of an eel",)), 1, tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(TurboError, match="nobody can tell what made them"):
        run_protocol(pipe, PROTOCOL, PROMPTS, 1, tmp_path)


def test_what_cannot_be_accelerated_writes_nothing(pipe, tmp_path: Path):
    with pytest.raises(TurboError, match="cannot apply"):
        run_protocol(pipe, replace(PROTOCOL, options={"drop": 5}), PROMPTS, 1, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_times_of_one_session_and_full_batches_are_compared():
    def entry(session: int, side: str, images: list[int], seconds: float) -> dict:
        return {"session": session, "side": side, "images": images, "seconds": seconds}

    entries = [
        entry(1, "untouched", [0, 1], 4.0),
        entry(1, "turbo", [0, 1], 2.0),
        entry(1, "untouched", [2, 3], 100.0),  # interrupted here: the other side ran on another day
        entry(2, "turbo", [2, 3], 1.0),
        entry(2, "turbo", [4, 5], 2.2),
        entry(2, "untouched", [4, 5], 4.2),
        entry(2, "untouched", [6], 50.0),
        entry(2, "turbo", [6], 50.0),
    ]
    found = summarise_times(entries, 2)
    assert found["seconds_per_image"] == pytest.approx({"untouched": 2.05, "turbo": 1.05})
    assert found["speedup"] == pytest.approx(2.05 / 1.05)
    assert found["batches"] == 2
    assert summarise_times(entries[6:], 8)["speedup"] == 1  # nothing fuller is there
    assert summarise_times([], 1) == {"seconds_per_image": None, "speedup": None, "batches": 0}


def test_imagenets_prompts_are_the_papers():
    prompts = find_prompts("imagenet")
    assert len(prompts.texts) == 1000
    assert prompts.of(0) == "a photo of a tench"
    counts = Counter(prompts.of(index) for index in range(2000))
    twice = {"a photo of a missile", "a photo of a sunglasses"}  # each the name of two classes
    assert counts == {prompt: 4 if prompt in twice else 2 for prompt in prompts.texts}


def test_scenes_prompts_come_with_labels_and_images():
    prompts = find_prompts("scenes")
    labels = prompts.labels_of(2500)
    assert prompts.drawn.shape == (len(prompts.texts), 3, 32, 32)
    assert len(labels) == 2500
    assert labels.captions()[2100:2103] == [prompts.of(index) for index in range(2100, 2103)]


def test_prompts_from_a_file(tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n\n  a dog \n")
    assert find_prompts(str(path)).texts == ("a cat", "a dog")
    path.write_text("\n")
    with pytest.raises(TurboError, match="no lines with text"):
        find_prompts(str(path))
    with pytest.raises(TurboError, match="imagenet, scenes or a text file"):
        find_prompts("imagenet-22k")


def test_reference_images_are_squared(tmp_path: Path):
    (tmp_path / "class").mkdir()
    Image.new("RGB", (60, 40), "red").save(tmp_path / "class" / "one.jpg")
    Image.new("L", (20, 90), 128).save(tmp_path / "two.png")
    (tmp_path / "notes.txt").write_text("no image")
    [images] = read_images(find_reference(tmp_path), side=32)
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert images[1].float().mean() == 128
    with pytest.raises(TurboError, match="0 images"):
        find_reference(tmp_path / "missing")


def test_parts_have_ratios():
    assert parse_parts("self_attention, feed_forward=0.25", 0.5) == {"self_attention": 0.5, "feed_forward": 0.25}
    with pytest.raises(TurboError, match="'much' is no ratio"):
        parse_parts("self_attention=much", 0.5)


def test_the_command_on_stable_diffusions_own_classes(tmp_path: Path):
    model, clip, out = saved_stable_diffusion(tmp_path / "sd"), saved_clip(tmp_path / "clip"), tmp_path / "out"
    reference = tmp_path / "reference"
    reference.mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(reference / f"{index}.png")
    arguments = ["generate", model, "--images", 3, "--steps", 2, "--out", out, "--features", "judge"]
    arguments += ["--parts", "self_attention,feed_forward=0.25", "--reference", reference, "--clip", clip]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((out / "results.json").read_text())
    assert found["settings"]["options"] == {"ratio": {"self_attention": 0.5, "feed_forward": 0.25}}
    assert found["settings"]["prompts"] == "imagenet"
    assert found["features"] == "turbo's scene-judge"
    assert found["reference_images"] == 3
    assert found["fid"]["untouched"] > found["fid_between"] > 0
    assert found["agreement"] is None
    assert found["clip"] == str(clip)
    assert set(found["clip_score"]) == set(found["seconds_per_image"]) == set(SIDES)
    assert f"{found['speedup']:.2f}x" in result.output
    assert "biased upwards" in result.output
    again = run(*arguments)
    assert "6 images were there already" in again.output
    other = run(*arguments, "--seed", 3)
    assert isinstance(other.exception, TurboError)
    assert "seed=0; asked for: seed=3" in str(other.exception)


def test_the_command_on_the_zoos_model_and_captions(tmp_path: Path):
    arguments = ["generate", "zoo:t2i-scenes", "--prompts", "scenes", "--images", 4, "--steps", 2, "--batch", 4]
    result = run(*arguments, "--ratio", 0, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["identical"]  # nothing merges at ratio 0
    assert found["fid"]["untouched"] == found["fid"]["turbo"]
    assert found["reference_images"] == 2000
    assert found["feature_distance"] == 0
    assert set(found["agreement"]["turbo"]) == {"size", "colour", "kind", "relation", "ground", "exact"}
    assert "the images are identical" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:t2i-scenes", "--dtype", "float8"], "float32, bfloat16, float16"),
        (["zoo:t2i-scenes", "--strategy", "s9"], "s9"),
        (["zoo:t2i-scenes", "--prompts", "missing.txt"], "no such file"),
        (["zoo:t2i-scenes", "--features", "vgg", "--prompts", "scenes"], "judge, inception or inception:FILE"),
        (["zoo:t2i-scenes", "--prompts", "scenes", "--clip", "missing-folder/of-a-clip"], "CLIP model"),
        (["zoo:vit-digits", "--prompts", "scenes"], "has no unet"),
        (["missing-folder/of-a-model", "--prompts", "scenes"], "cannot be loaded as a diffusers pipeline"),
        (["zoo:t2i-scenes", "--prompts", "scenes", "--ratio", "0.9"], "0.75"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(arguments: list[str], message: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("generate", *arguments, "--out", tmp_path / "out")
    assert isinstance(result.exception, TurboError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_safety_checker_is_left_out(tmp_path: Path):
    pipe = load_pipeline(str(saved_stable_diffusion(tmp_path)), torch.bfloat16)
    assert pipe.safety_checker is None
    assert pipe.unet.dtype == torch.bfloat16
