"""open_clip's CoCa: the pooler reads all patches, and the captioner what the pooler hands on."""

from __future__ import annotations

import pytest
import torch
from families import family

import turbo
from turbo.engine.install import require_acceleration


def greedy(model, images: torch.Tensor, start: int, length: int) -> torch.Tensor:
    """The captions of `CoCa.generate` with top_k=1, without its conditions on when to stop."""
    encoded = model(images)
    tokens = torch.full((len(images), 1), start)
    while tokens.shape[1] < length:
        latents = {"image_latent": encoded["image_features"], "image_embs": encoded["image_embs"]}
        logits = model(images, tokens, **latents, output_labels=False)["logits"]
        tokens = torch.cat([tokens, logits[:, -1:].argmax(dim=-1)], dim=1)
    return tokens


@torch.no_grad()
def test_images_text_and_captions_go_through():
    one = family("open-clip-coca")
    model, inputs = one.model(), one.inputs()
    images, text = inputs["pixel_values"], inputs["input_ids"]
    embedded, encoded = model.encode_image(images), model(images)["image_embs"]
    written, said = model(images, text)["logits"], model.encode_text(text)
    turbo.accelerate(model, drop=6)
    fast = model.encode_image(images)
    assert fast.shape == embedded.shape
    assert not torch.allclose(fast, embedded)
    assert torch.equal(model(images)["image_features"], fast)
    assert model(images)["image_embs"].shape == encoded.shape
    assert model(images, text)["logits"].shape == written.shape
    assert torch.equal(model.encode_text(text), said)
    assert require_acceleration(model).state.flow is None


@pytest.mark.parametrize("generate", ["by hand", "top_k"])
@torch.no_grad()
def test_captions_are_generated(generate: str, monkeypatch):
    """transformers 5 has lost a name that open_clip 3.3 imports together with all that `generate` needs."""
    from open_clip import coca_model

    monkeypatch.setattr(coca_model, "_has_transformers", True)
    monkeypatch.setattr(coca_model, "GENERATION_TYPES", {"top_k": coca_model.TopKLogitsWarper})
    one = family("open-clip-coca")
    model, images = one.model(), one.inputs()["pixel_values"]
    options = {"generation_type": "top_k", "seq_len": 7, "min_seq_len": 2, "sot_token_id": 1, "eos_token_id": 2}

    def captions() -> torch.Tensor:
        return greedy(model, images, 1, 7) if generate == "by hand" else model.generate(images, **options)

    untouched = captions()
    with pytest.warns(turbo.TurboWarning, match="no block merges"):
        turbo.accelerate(model, drop=1, threshold=999)
    assert torch.equal(captions(), untouched)
    turbo.accelerate(model, drop=6)
    assert captions().shape == untouched.shape
    turbo.restore(model)
    assert torch.equal(captions(), untouched)


@torch.no_grad()
def test_an_image_is_encoded_once_for_a_caption():
    """Words read the pooled tokens: the tower runs for the image, and not for each word."""
    one = family("open-clip-coca")
    model = turbo.accelerate(one.model(), drop=6)
    runs = []
    model.visual.register_forward_hook(lambda *_: runs.append(1))
    greedy(model, one.inputs()["pixel_values"], 1, 5)
    assert len(runs) == 1


@torch.inference_mode()
def test_the_official_base_model_writes_captions():
    import open_clip

    torch.manual_seed(0)
    model, images = open_clip.create_model("coca_ViT-B-32").eval(), torch.randn(1, 3, 224, 224)
    untouched = greedy(model, images, 49406, 4)
    turbo.accelerate(model)
    assert greedy(model, images, 49406, 4).shape == untouched.shape
    assert turbo.report(model).blocks[-1].tokens_out == 50 - round(0.55 * 50)
    turbo.restore(model)
    assert torch.equal(greedy(model, images, 49406, 4), untouched)
