"""Figures of generated images, against cases whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from saved_pipelines import saved_clip
from torch import nn

from turbo.bench.fidelity import (
    Extractor,
    caption_agreement,
    clip_scores,
    feature_distance,
    find_extractor,
    frechet_distances,
    load_clip,
    psnr,
    squared_error,
)
from turbo.errors import TurboError
from turbo.zoo.captioned import captioned_scenes
from turbo.zoo.judge import SceneFeatures, SceneJudge


class Means(nn.Module):
    """Mean and spread of the red channel: features whose distribution is easy to foresee."""

    num_features = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = images[:, 0].float().flatten(1)
        return torch.stack([red.mean(dim=1), red.std(dim=1)], dim=1)


MEANS = Extractor("means", Means())


@pytest.fixture
def judge() -> SceneJudge:
    torch.manual_seed(0)
    return SceneJudge().eval()


def noise(count: int, seed: int, low: int = 0, high: int = 200) -> torch.Tensor:
    return torch.randint(
        low, high, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def test_frechet_distance_of_a_shift_is_its_square():
    images = noise(200, 0)
    found = frechet_distances(torch.split(images, 64), {"same": [images], "shifted": [images + 7]}, MEANS)
    assert found["same"] == pytest.approx(0, abs=1e-6)
    assert found["shifted"] == pytest.approx(49, rel=1e-5)


def test_frechet_distance_does_not_depend_on_the_order_of_sides_or_on_batches():
    reference, one, other = noise(90, 0), noise(60, 1, 20), noise(60, 2, 50)
    found = frechet_distances([reference], {"one": [one], "other": [other]}, MEANS)
    turned = frechet_distances(torch.split(reference, 7), {"other": torch.split(other, 11), "one": [one]}, MEANS)
    assert turned == pytest.approx(found, rel=1e-6)
    assert found["one"] < found["other"]


def test_the_judges_features_tell_noise_from_scenes(judge: SceneJudge):
    extractor = Extractor("untrained judge", SceneFeatures(judge))
    assert extractor.width == 96
    scenes = [torch.from_numpy(captioned_scenes("test", 160, seed)[0]).permute(0, 3, 1, 2) for seed in (0, 1)]
    found = frechet_distances([scenes[0]], {"scenes": [scenes[1]], "noise": [noise(160, 3)]}, extractor)
    assert found["noise"] > 3 * found["scenes"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "has 1 images: a distribution needs two or more"),
        (torch.zeros(4, 3, 8, 8), "images must be uint8, b 3 h w; these are torch.float32"),
        (torch.zeros(4, 8, 8, 3, dtype=torch.uint8), r"of \(4, 8, 8, 3\)"),
    ],
)
def test_frechet_distance_refuses_what_is_no_set_of_images(images: torch.Tensor, message: str):
    with pytest.raises(TurboError, match=message):
        frechet_distances([noise(4, 0)], {"mine": [images]}, MEANS)


def test_features_by_name(tmp_path: Path):
    assert find_extractor("judge").name == "turbo's scene-judge"
    with pytest.raises(TurboError, match="must be judge, inception or inception:FILE"):
        find_extractor("resnet")
    with pytest.raises(TurboError, match="there is no file"):
        find_extractor(f"inception:{tmp_path / 'missing.pth'}")


def test_psnr_of_known_errors():
    images = noise(2, 0)
    other = images.clone()
    other[1] += 10
    error = squared_error(images, other)
    assert error.tolist() == pytest.approx([0, (10 / 255) ** 2])
    assert psnr(error)[1].item() == pytest.approx(20 * math.log10(25.5))
    assert psnr(error)[0] == math.inf
    with pytest.raises(TurboError, match="are no pairs"):
        squared_error(images, other[:1])


def test_feature_distance_is_a_distance_that_grows_with_damage(judge: SceneJudge):
    images = torch.from_numpy(captioned_scenes("test", 8, 0)[0]).permute(0, 3, 1, 2)
    little, much = ((images.float() + s * torch.randn(8, 3, 32, 32)).clamp(0, 255).byte() for s in (4, 60))
    assert feature_distance(images, images, judge).tolist() == [0] * 8
    assert torch.allclose(feature_distance(images, much, judge), feature_distance(much, images, judge))
    assert (feature_distance(images, little, judge) < feature_distance(images, much, judge)).all()
    assert feature_distance(images, much, judge).max() < 2


def test_agreement_over_batches_is_agreement_over_all(judge: SceneJudge):
    images, _, labels = captioned_scenes("test", 40, 0)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    found = caption_agreement(torch.split(pixels, 7), labels, judge)
    assert found == pytest.approx(judge.agreement(images, labels))
    assert caption_agreement([pixels], judge.read(images), judge)["exact"] == 1  # it agrees with itself
    with pytest.raises(TurboError, match="20 images have 40 labels"):
        caption_agreement([pixels[:20]], labels, judge)


def test_clip_score_is_100_times_the_cosine_and_goes_by_the_prompt(tmp_path: Path):
    model, processor = load_clip(str(saved_clip(tmp_path)))
    images, prompts = noise(6, 0), [f"a photo of a {name}" for name in ("cat", "dog", "hen", "eel", "ape", "bee")]
    scores = clip_scores(torch.split(images, 4), prompts, model, processor)
    inputs = processor(text=prompts[5:], images=[images[5]], return_tensors="pt", padding=True)
    cosine = model(**inputs).logits_per_text[0, 0] / model.logit_scale.exp()
    assert scores.shape == (6,)
    assert scores[5].item() == pytest.approx(100 * cosine.item(), abs=1e-3)
    turned = clip_scores([images], prompts[::-1], model, processor)
    assert not torch.allclose(scores, turned)
    assert clip_scores([images[:1]], ["long " * 200], model, processor).shape == (1,)
    with pytest.raises(TurboError, match="4 images have 6 prompts"):
        clip_scores([images[:4]], prompts, model, processor)


def test_a_missing_clip_model_is_named(tmp_path: Path):
    with pytest.raises(TurboError, match="the CLIP model .* cannot be loaded"):
        load_clip(str(tmp_path / "nothing"))
