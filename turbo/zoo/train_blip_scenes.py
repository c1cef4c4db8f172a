"""Trains the zoo's small captioner: ``python -m turbo.zoo.train_blip_scenes``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from turbo.zoo.contrast import CaptionBank, wake_words
from turbo.zoo.digits import preprocess
from turbo.zoo.learning import Batch, Supervision, best_device, command, fit, options, plane_waves, save
from turbo.zoo.paint import GROUNDS, Ground
from turbo.zoo.scenes import PATCH, SIDE, draw_scenes
from turbo.zoo.words import LENGTH, bert_tokenizer

WIDTH, DEPTH, HEADS = 128, 6, 4
SMOOTHING = 0.1  # of labels, as BLIP has it: a model that is never quite sure is wrong by less
IGNORED = -100  # label of what the loss leaves out
VALIDATION = 200  # scenes of a look at the model


def configuration(tokenizer: Any) -> Any:
    """Builds the configuration that the zoo's BLIP models share."""
    from transformers import BlipConfig

    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_range": 0.02,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "encoder_hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "max_position_embeddings": LENGTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "label_smoothing": SMOOTHING,
    }
    return BlipConfig(vision_config=vision, text_config=text, projection_dim=WIDTH)


def processor() -> Any:
    """Builds the processor that the zoo's BLIP models share."""
    from transformers import BlipImageProcessor, BlipProcessor

    images = BlipImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return BlipProcessor(images, bert_tokenizer())


def build(tokenizer: Any) -> Any:
    """Builds the untrained captioner."""
    from transformers import BlipForConditionalGeneration

    model = BlipForConditionalGeneration(configuration(tokenizer))
    embeddings = model.vision_model.embeddings
    with torch.no_grad():
        nn.init.normal_(embeddings.patch_embedding.weight, std=0.08)
        embeddings.class_embedding.normal_(std=0.02)
        embeddings.position_embedding[0, 0] = 0
        embeddings.position_embedding[0, 1:] = plane_waves(WIDTH)
    return model


def look(vision: Any, batch: Batch, seen: int) -> Tensor:
    """Runs BLIP's vision tower on `seen` of the patches: the last states, `b 1+seen d`."""
    states = batch.keep(vision.embeddings(batch.pixels), seen)
    for layer in vision.encoder.layers:
        states = layer(states)
    normed: Tensor = vision.post_layernorm(states)
    return normed


class Contrast(nn.Module):
    """What BLIP's CLS token is trained by beside the captions: telling each image's caption from others.

    Without it the CLS token of a captioner is of no use to anybody, and what it attends to means little. The text
    tower is thrown away afterwards.
    """

    def __init__(self, tokenizer: Any) -> None:
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        super().__init__()
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.sep_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        self.text = CLIPTextModelWithProjection(config)
        wake_words(self.text.text_model)
        self.image = nn.Linear(WIDTH, WIDTH, bias=False)
        self.scale = nn.Parameter(torch.tensor(2.66))
        self.bank = CaptionBank()

    def forward(self, cls: Tensor, ids: Tensor, mask: Tensor, captions: list[str]) -> Tensor:
        """Computes the loss of CLS tokens (`b d`) and their captions' tokens (`b t`)."""
        text = self.text(input_ids=ids, attention_mask=mask).text_embeds
        return self.bank.loss(self.image(cls), text, captions, self.scale.exp())


def texts(tokenizer: Any, captions: list[str], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Tokenizes texts to be generated: ids that start with ``[DEC]``, their mask, and labels."""
    made = tokenizer(captions, padding=True, return_tensors="pt").to(device)
    ids, mask = made.input_ids, made.attention_mask
    ids[:, 0] = tokenizer.bos_token_id
    return ids, mask, ids.masked_fill(mask == 0, IGNORED)


def train(
    minutes: float, seed: int, rate: float, start: Path | None = None, begin: float = 0.0
) -> tuple[Any, dict[str, Any]]:
    """Trains for a stretch of wall time and returns the model and a record of the run.

    Args:
        minutes: length of the run.
        seed: of the weights and scenes.
        rate: peak learning rate.
        start: a saved model to go on from.
        begin: share of the stages to leave out.
    """
    torch.manual_seed(seed)
    tokenizer = bert_tokenizer()
    device = best_device()
    model = build(tokenizer).train().to(device)
    supervision, contrast = Supervision(WIDTH).to(device), Contrast(tokenizer).to(device)

    if start is not None:
        model.load_state_dict(type(model).from_pretrained(start, dtype=torch.float32).state_dict())

    def loss_of(batch: Batch, seen: int, weight: float) -> Tensor:
        states = look(model.vision_model, batch, seen)
        captions = batch.scenes.captions()
        ids, mask, labels = texts(tokenizer, captions, states.device)
        out = model.text_decoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=states, labels=labels)
        told_apart = contrast(states[:, 0], ids, mask, captions)
        loss: Tensor = out.loss + told_apart + weight * supervision(states, batch)
        return loss

    def check() -> str:
        return "  ".join(f"{ground} {quality(model, tokenizer, ground)}" for ground in GROUNDS)

    record = fit(
        [model, supervision, contrast], loss_of, minutes=minutes, seed=seed, rate=rate, check=check, begin=begin
    )
    return model, record


def quality(model: Any, tokenizer: Any, ground: Ground) -> str:
    """Measures a look's worth of validation scenes: mean log-likelihood and exact captions."""
    scenes = draw_scenes("validation", VALIDATION, seed=0, ground=ground)
    ids, mask, labels = texts(tokenizer, scenes.captions(), model.device)
    model.eval()
    with torch.inference_mode():
        states = model.vision_model(preprocess(scenes.images).to(model.device)).last_hidden_state
        out = model.text_decoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=states, labels=labels)
    model.train()
    found = out.logits[:, :-1].argmax(2)
    right = (found == ids[:, 1:]) | (mask[:, 1:] == 0)
    return f"NLL {out.loss:.3f} per token, exact {right.all(1).float().mean():.1%}, tokens {right.float().mean():.2%}"


def main() -> None:
    """Runs the training from the command line."""
    parser = options("blip-scenes", __doc__, minutes=50.0, seed=0, rate=1.5e-3)
    parser.add_argument("--start", type=Path, help="a saved model to go on from")
    parser.add_argument("--begin", type=float, default=0.0, help="share of the stages to leave out")
    chosen = parser.parse_args()
    model, record = train(chosen.minutes, chosen.seed, chosen.rate, chosen.start, chosen.begin)
    save(model, processor(), record | {"command": command("train_blip_scenes", chosen)}, chosen.out)


if __name__ == "__main__":
    main()
