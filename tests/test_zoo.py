"""The shipped model and its data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

import turbo
from turbo import zoo
from turbo.zoo import captioned
from turbo.zoo.judge import SceneFeatures
from turbo.zoo.paint import GROUNDS
from turbo.zoo.pairs import matching_pairs
from turbo.zoo.questions import ask
from turbo.zoo.scans import split_indices

MODEL = {"README.md", "config.json", "model.safetensors"}
TEXTS = {"processor_config.json", "tokenizer.json", "tokenizer_config.json", "training.json"}


def accuracy(model, **accelerate) -> float:
    images, labels = zoo.digit_scenes("test", 150, seed=5)
    if accelerate:
        turbo.accelerate(model, **accelerate)
    with torch.inference_mode():
        found = model(zoo.preprocess(images)).logits.argmax(1)
    if accelerate:
        turbo.restore(model)
    return (found == torch.from_numpy(labels)).float().mean().item()


def test_digits_are_read_and_merging_the_right_tokens_keeps_them():
    """Held-out digits; the paper's strategy keeps what random merging loses."""
    model = zoo.load("vit-digits")
    assert accuracy(model) >= 0.93
    assert accuracy(model, strategy="s1", drop=26) >= 0.92
    assert accuracy(model, strategy="random", drop=26) < accuracy(model, strategy="s1", drop=26) - 0.02


@pytest.mark.parametrize("ground", GROUNDS)
def test_scenes_are_captioned_and_merging_the_right_tokens_keeps_that(ground):
    """Whole captions, as `generate` writes them."""
    model, scenes = zoo.load("blip-scenes"), zoo.draw_scenes("test", 60, seed=21, ground=ground)
    tokenizer = AutoProcessor.from_pretrained(zoo.folder("blip-scenes")).tokenizer

    def right() -> float:
        with torch.inference_mode():
            ids = model.generate(zoo.preprocess(scenes.images), max_length=32)
        written = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return float(np.mean([text == caption for text, caption in zip(written, scenes.captions(), strict=True)]))

    assert right() >= 0.88
    with turbo.accelerated(model, speedup=1.5):
        assert right() >= 0.85
    with turbo.accelerated(model, "random", speedup=1.5):
        assert right() < 0.8


@pytest.mark.parametrize("ground", GROUNDS)
def test_questions_are_answered(ground):
    model, scenes = zoo.load("blip-vqa-scenes"), zoo.draw_scenes("test", 60, seed=22, ground=ground)
    tokenizer = AutoProcessor.from_pretrained(zoo.folder("blip-vqa-scenes")).tokenizer
    right = []
    for question in ask(scenes, seed=0, per_scene=1):
        asked = tokenizer(question.text, return_tensors="pt").input_ids
        pixels = zoo.preprocess(scenes.images[question.row][None])
        ids = model.generate(asked, pixels, max_length=4)
        right.append(tokenizer.decode(ids[0], skip_special_tokens=True) == question.answer)
    assert np.mean(right) >= 0.88


@pytest.mark.parametrize("ground", GROUNDS)
def test_scenes_find_their_captions(ground):
    model, scenes = zoo.load("clip-scenes"), zoo.draw_scenes("test", 120, seed=23, ground=ground)
    texts = AutoProcessor.from_pretrained(zoo.folder("clip-scenes")).tokenizer(
        scenes.captions(), padding=True, return_tensors="pt"
    )

    def right() -> float:
        with torch.inference_mode():
            scores = model(pixel_values=zoo.preprocess(scenes.images), **texts).logits_per_image
        captions = scenes.captions()
        return float(np.mean([captions[best] == own for best, own in zip(scores.argmax(1), captions, strict=True)]))

    assert right() >= 0.93
    with turbo.accelerated(model, speedup=2.0):
        assert right() >= 0.92


@pytest.mark.parametrize("ground", GROUNDS)
def test_texts_are_told_from_those_that_do_not_match(ground):
    """By the model's own call, with padded texts; the text is read, and the image looked at."""
    model, scenes = zoo.load("blip-itm-scenes"), zoo.draw_scenes("test", 60, seed=24, ground=ground)
    tokenizer = AutoProcessor.from_pretrained(zoo.folder("blip-itm-scenes")).tokenizer
    pairs = matching_pairs(scenes, seed=0)
    texts = tokenizer([pair.text for pair in pairs], padding=True, return_tensors="pt", return_token_type_ids=False)
    rows = np.array([pair.row for pair in pairs])

    def right(rows) -> float:
        with torch.inference_mode():
            scores = model(pixel_values=zoo.preprocess(scenes.images[rows]), **texts).itm_score
        return float(np.mean([bool(best) == pair.matches for best, pair in zip(scores.argmax(1), pairs, strict=True)]))

    assert right(rows) >= 0.88
    assert right(np.roll(rows, 10)) < 0.6


def test_splits_are_disjoint_and_whole():
    parts = [set(split_indices(name)) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1197, 200, 400]
    assert len(set.union(*parts)) == 1797


def test_scenes_are_reproducible():
    first, again, other = (zoo.digit_scenes("test", 8, seed=s) for s in (3, 3, 4))
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (8, 64, 64, 3)
    assert first[0].dtype == np.uint8
    assert zoo.preprocess(first[0]).shape == (8, 3, 64, 64)


def test_unknown_names():
    with pytest.raises(turbo.TurboError, match="the zoo has vit-digits"):
        zoo.load("nope")
    with pytest.raises(turbo.TurboError, match="nope"):
        zoo.digit_scenes("nope", 1, seed=0)
    with pytest.raises(turbo.TurboError, match="nope"):
        zoo.captioned_scenes("nope", 1, seed=0)


@pytest.mark.parametrize(
    ("name", "limit", "files"),
    [
        ("vit-digits", 2_000_000, MODEL | {"preprocessor_config.json"}),
        ("clip-scenes", 5_000_000, MODEL | TEXTS),
        ("blip-scenes", 5_000_000, MODEL | TEXTS | {"generation_config.json"}),
        ("blip-vqa-scenes", 5_000_000, MODEL | TEXTS | {"generation_config.json"}),
        ("blip-itm-scenes", 5_000_000, MODEL | TEXTS),
        ("scene-judge", 1_000_000, MODEL),
        ("t2i-scenes", 5_000_000, {"README.md", "model_index.json", "unet", "text_encoder", "tokenizer", "scheduler"}),
    ],
)
def test_shipped_models_are_small_and_have_a_card(name, limit, files):
    folder = zoo.folder(name)
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= limit
    assert {file.name for file in folder.iterdir()} == files
    assert (folder / "README.md").read_text().startswith(f"# {name}\n")
    # No folder of the machine that trained it.
    assert not any("_name_or_path" in file.read_text() for file in folder.rglob("*.json"))


def test_importing_the_zoo_imports_no_model_library():
    heavy = "{'transformers', 'diffusers', 'sklearn'}"
    subprocess.run([sys.executable, "-c", f"import sys, turbo.zoo; assert not {heavy} & set(sys.modules)"], check=True)


def test_captioned_scenes_are_reproducible_and_captions_say_what_the_labels_say():
    images, captions, labels = zoo.captioned_scenes("test", 64, seed=3)
    again = zoo.captioned_scenes("test", 64, seed=3)
    other = zoo.captioned_scenes("test", 64, seed=4)
    assert np.array_equal(images, again[0])
    assert captions == again[1] != other[1]
    assert images.shape == (64, 32, 32, 3)
    assert images.dtype == np.uint8
    assert {word for caption in captions for word in caption.split()} <= set(captioned.WORDS)
    assert max(len(caption.split()) for caption in captions) <= 14
    pairs = labels.relation > 0
    assert 16 < pairs.sum() < 48
    assert (labels.kind[~pairs, 1] == captioned.NONE).all()
    assert zoo.captioned_scenes("test", 8, seed=3, pairs=0, side=16)[0].shape == (8, 16, 16, 3)
    one = captioned.SceneLabels(
        *(np.array([[0, 1]]), np.array([[0, 2]]), np.array([[0, 8]])), np.array([1]), np.array([1])
    )
    assert one.captions() == ["a small red circle left of a big blue three on striped ground"]


@pytest.mark.parametrize(("relation", "axis"), [(1, 1), (2, 0)])
def test_only_the_captions_relation_fits_two_objects(relation, axis):
    rng = np.random.default_rng(0)
    labels = captioned.random_labels(200, rng, pairs=1)
    labels = labels[labels.relation == relation]
    radius = np.where(labels.size, 7.4, 4.8).astype(np.float32)
    apart = np.diff(captioned._places(labels, radius, rng, captioned.SIDE), axis=1)[:, 0]
    assert (apart[:, axis] >= radius.sum(1) - 1e-3).all()
    assert (np.abs(apart[:, 1 - axis]) <= 0.5 * radius.sum(1) + 1e-3).all()


@pytest.fixture(scope="module")
def judge():
    return zoo.load("scene-judge")


def test_the_judge_reads_held_out_scenes(judge):
    images, _, labels = zoo.captioned_scenes("test", 200, seed=11)
    found = judge.agreement(images, labels)
    assert min(found[name] for name in ("size", "colour", "relation", "ground")) >= 0.95
    assert found["kind"] >= 0.85
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    assert judge.agreement(tensor, labels) == judge.agreement(tensor.float() / 255, labels) == found
    assert judge.features(images).shape == (200, SceneFeatures(judge).num_features)
    shuffled = judge.agreement(images, labels[np.random.default_rng(0).permutation(200)])
    assert shuffled["colour"] < 0.4
    assert shuffled["exact"] < 0.05


def test_the_judge_says_what_it_cannot_read(judge):
    images, _, labels = zoo.captioned_scenes("test", 4, seed=11)
    with pytest.raises(turbo.TurboError, match="4 images have 3 labels"):
        judge.agreement(images, labels[:3])
    with pytest.raises(turbo.TurboError, match="32 x 32"):
        judge.read(images[:, :16, :16])


@pytest.fixture(scope="module")
def pipeline():
    return zoo.load("t2i-scenes")


def draw(pipeline, prompts, seed=0, **options):
    return pipeline(prompts, generator=torch.Generator().manual_seed(seed), output_type="pt", **options).images


def test_generated_images_agree_with_their_captions(pipeline, judge):
    _, captions, labels = zoo.captioned_scenes("test", 32, seed=12, pairs=0)
    images = draw(pipeline, captions, num_inference_steps=8)
    found = judge.agreement(images, labels)
    assert found["colour"] >= 0.85
    assert found["size"] >= 0.7
    assert found["ground"] >= 0.75
    assert found["kind"] >= 0.45  # chance is below 0.1
    assert judge.agreement(images, labels[::-1])["colour"] < 0.5


def test_generation_follows_its_seed_and_reports_its_steps(pipeline):
    prompt, steps = "a big red circle on plain ground", []

    def watch(_, step, t, tensors):
        steps.append((step, tuple(tensors["latents"].shape)))
        return {}

    options = {"num_inference_steps": 3, "callback_on_step_end": watch}
    first = draw(pipeline, prompt, **options)
    assert steps == [(step, (1, 3, 32, 32)) for step in range(3)]
    assert torch.equal(first, draw(pipeline, [prompt], **options))
    assert not torch.equal(first, draw(pipeline, prompt, seed=1, **options))
    assert draw(pipeline, prompt, num_inference_steps=2, height=16, width=24).shape == (1, 3, 16, 24)
    generators = [torch.Generator().manual_seed(0)] * 2
    assert pipeline([prompt] * 2, generator=generators, num_inference_steps=2).images[0].size == (32, 32)


def test_image_to_image_keeps_more_at_less_strength(pipeline):
    images = torch.from_numpy(zoo.captioned_scenes("test", 2, seed=13)[0]).permute(0, 3, 1, 2).float() / 255
    prompts = ["a big red circle on plain ground"] * 2
    steps = []
    weak, strong = (
        draw(
            pipeline,
            prompts,
            image=images,
            strength=strength,
            callback_on_step_end=lambda *a: steps.append(a[1]) or {},
        )
        for strength in (0.25, 0.9)
    )
    assert len(steps) == 3 + 10
    assert (weak - images).abs().mean() < (strong - images).abs().mean()


def test_the_same_text_states_are_given_at_each_step(pipeline):
    seen = []
    hook = pipeline.unet.register_forward_pre_hook(
        lambda module, inputs, named: seen.append(named["encoder_hidden_states"]), with_kwargs=True
    )
    draw(pipeline, "a big red circle on plain ground", num_inference_steps=3, guidance_scale=2.0)
    hook.remove()
    assert [len(states) for states in seen] == [2, 2, 2]
    assert seen[0] is seen[1] is seen[2]
    assert torch.equal(seen[0][1:], pipeline.encode(["a big red circle on plain ground"]))


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("a big hat", {}, "unknown word 'hat' .* the model knows a above"),
        ("a " * 15, {}, "has 15 words: shorten it to 14"),
        (["a big ring"] * 2, {"negative_prompt": [""]}, "2 prompts have 1 negative"),
        ("a big ring", {"image": np.zeros((2, 32, 32, 3))}, "1 prompts have 2 images"),
        ("a big ring", {"image": np.zeros((1, 32, 32, 3)), "strength": 0}, "strength is 0"),
        ("a big ring", {"latents": torch.zeros(1, 3, 8, 8)}, "latents have the shape"),
        ("a big ring", {"output_type": "jpg"}, "unknown output_type 'jpg'"),
    ],
)
def test_bad_input_is_refused(pipeline, prompt, options, message):
    with pytest.raises(turbo.TurboError, match=message):
        pipeline(prompt, **options)
