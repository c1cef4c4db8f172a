"""Trains the zoo's small contrastive model: ``python -m turbo.zoo.train_clip_scenes``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from turbo.zoo.contrast import CaptionBank, wake_words
from turbo.zoo.digits import preprocess
from turbo.zoo.learning import Batch, Supervision, best_device, command, fit, options, plane_waves, save
from turbo.zoo.paint import GROUNDS, Ground
from turbo.zoo.scenes import PATCH, SIDE, draw_scenes
from turbo.zoo.words import LENGTH, clip_tokenizer

WIDTH, DEPTH, HEADS = 128, 6, 4
VALIDATION = 250  # scenes of a look at the model


def build(tokenizer: Any) -> Any:
    """Builds the untrained model."""
    from transformers import CLIPConfig, CLIPModel

    both = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS, "projection_dim": WIDTH}
    vision = both | {"num_hidden_layers": DEPTH, "image_size": SIDE, "patch_size": PATCH}
    text = both | {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 3,
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=WIDTH))
    embeddings = model.vision_model.embeddings
    with torch.no_grad():
        # As of its words (`wake_words`): upstream's start leaves a small model's patches all alike.
        nn.init.normal_(embeddings.patch_embedding.weight, std=0.08)
        embeddings.class_embedding.normal_(std=0.02)
        embeddings.position_embedding.weight[0] = 0
        embeddings.position_embedding.weight[1:] = plane_waves(WIDTH)
    wake_words(model.text_model)
    return model


def processor() -> Any:
    """Builds the model's processor."""
    from transformers import CLIPImageProcessor, CLIPProcessor

    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return CLIPProcessor(images, clip_tokenizer())


def look(vision: Any, batch: Batch, seen: int) -> Tensor:
    """Runs CLIP's vision tower on `seen` of the patches: the last states, `b 1+seen d`."""
    states: Tensor = vision.pre_layrnorm(batch.keep(vision.embeddings(batch.pixels), seen))
    for layer in vision.encoder.layers:
        states = layer(states, attention_mask=None)
    return states  # the pooled CLS token alone is normalised again


def train(minutes: float, seed: int, rate: float) -> tuple[Any, dict[str, Any]]:
    """Trains for a stretch of wall time and returns the model and a record of the run."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    device = best_device()
    model, supervision = build(tokenizer).train().to(device), Supervision(WIDTH).to(device)
    bank = CaptionBank()

    def loss_of(batch: Batch, seen: int, weight: float) -> Tensor:
        states = look(model.vision_model, batch, seen)
        image = model.visual_projection(model.vision_model.post_layernorm(states[:, 0]))
        captions = batch.scenes.captions()
        named = model.get_text_features(**words(tokenizer, captions).to(device)).pooler_output
        loss = bank.loss(image, named, captions, model.logit_scale.exp())
        total: Tensor = loss + weight * supervision(states, batch)
        return total

    def check() -> str:
        return "  ".join(f"{ground} {quality(model, tokenizer, ground)}" for ground in GROUNDS)

    record = fit([model, supervision], loss_of, minutes=minutes, seed=seed, rate=rate, check=check)
    return model, record


def words(tokenizer: Any, captions: list[str]) -> Any:
    """Tokenizes captions."""
    return tokenizer(captions, padding=True, return_tensors="pt", return_token_type_ids=False)


def quality(model: Any, tokenizer: Any, ground: Ground) -> str:
    """Measures a look's worth of validation scenes: how often an image finds its caption first, and the reverse."""
    scenes = draw_scenes("validation", VALIDATION, seed=0, ground=ground)
    captions = scenes.captions()
    model.eval()
    with torch.inference_mode():
        inputs = words(tokenizer, captions) | {"pixel_values": preprocess(scenes.images)}
        out = model(**{name: value.to(model.device) for name, value in inputs.items()})
    model.train()
    same = torch.tensor([[caption == other for other in captions] for caption in captions], device=model.device)
    rows, columns = (logits.argmax(1) for logits in (out.logits_per_image, out.logits_per_text))
    right = [same[torch.arange(len(same)), found].float().mean() for found in (rows, columns)]
    return f"R@1 of {VALIDATION}: {right[0]:.1%} captions, {right[1]:.1%} images"


def main() -> None:
    """Runs the training from the command line."""
    parser = options("clip-scenes", __doc__, minutes=45.0, seed=0, rate=1.5e-3)
    chosen = parser.parse_args()
    model, record = train(chosen.minutes, chosen.seed, chosen.rate)
    save(model, processor(), record | {"command": command("train_clip_scenes", chosen)}, chosen.out)


if __name__ == "__main__":
    main()
