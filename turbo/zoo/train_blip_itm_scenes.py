"""Trains the zoo's small model that matches texts with scenes: ``python -m turbo.zoo.train_blip_itm_scenes``.

It starts from the model for questions: its vision tower, which stays as it is, and its encoder of questions, whose
layers are the first of twice as many.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from turbo.zoo.contrast import CaptionBank
from turbo.zoo.digits import preprocess
from turbo.zoo.learning import WEIGHTS, Batch, best_device, command, fit, options, save
from turbo.zoo.paint import GROUNDS, Ground
from turbo.zoo.pairs import Pair, matching_pairs
from turbo.zoo.scenes import RELATIONS, draw_scenes
from turbo.zoo.train_blip_scenes import IGNORED, VALIDATION, WIDTH, configuration, look, processor
from turbo.zoo.words import bert_tokenizer

DEPTH = 4  # layers of the text encoder: image tokens can merge after all but the last
MISMATCHES = 3  # of a scene in a step, beside its caption


class Teacher(nn.Module):
    """What is trained beside the model and thrown away.

    A head that says of each word whether it is wrong: a dozen training signals for each text instead of one. And the
    temperature and the earlier captions of the contrast.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wrong = nn.Linear(WIDTH, 2)
        self.scale = nn.Parameter(torch.tensor(2.66))
        self.bank = CaptionBank()


def build(tokenizer: Any, answerer: Path) -> Any:
    """Builds the model from one that answers questions; the later text layers and the heads are new."""
    from transformers import BlipForImageTextRetrieval, BlipForQuestionAnswering

    start = BlipForQuestionAnswering.from_pretrained(answerer, dtype=torch.float32, local_files_only=True)
    config = configuration(tokenizer)
    config.text_config.num_hidden_layers = DEPTH
    config.image_text_hidden_size = WIDTH
    model = BlipForImageTextRetrieval(config)
    model.vision_model.load_state_dict(start.vision_model.state_dict())
    model.vision_model.requires_grad_(False)
    text = model.text_encoder
    text.embeddings.load_state_dict(start.text_encoder.embeddings.state_dict())
    for layer, trained in zip(text.encoder.layer, start.text_encoder.encoder.layer, strict=False):
        layer.load_state_dict(trained.state_dict())
    return model


def read(model: Any, tokenizer: Any, texts: list[str], states: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Runs the text encoder on texts and an image each (`q n d`), or on texts alone: states and the texts' mask."""
    made = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
    out = model.text_encoder(input_ids=made.input_ids, attention_mask=made.attention_mask, encoder_hidden_states=states)
    return out.last_hidden_state, made.attention_mask


def wrong_words(text: str, caption: str) -> list[int]:
    """Says of each word of a text whether it is wrong (1) or right (0).

    Words of a relation are compared with the caption's relation and all others in turn: "left of" has a word more
    than "above", and what comes after it is none the worse for that.
    """
    between = {word for relation in RELATIONS for word in relation.split()}
    own = caption.split()
    rest = iter([word for word in own if word not in between])
    return [int(word not in own if word in between else word != next(rest, None)) for word in text.split()]


def label_words(pairs: list[Pair], mask: Tensor) -> Tensor:
    """Labels the tokens of texts (`q t`); special tokens get `IGNORED`. A scene's caption comes before its others."""
    captions = {pair.row: pair.text for pair in pairs if pair.matches}
    labels = torch.full_like(mask, IGNORED)
    for place, pair in enumerate(pairs):
        wrong = wrong_words(pair.text, captions[pair.row])
        labels[place, 1 : 1 + len(wrong)] = torch.tensor(wrong, device=mask.device)
    return labels


def train(minutes: float, seed: int, rate: float, answerer: Path) -> tuple[Any, dict[str, Any]]:
    """Trains for a stretch of wall time and returns the model and a record of the run."""
    torch.manual_seed(seed)
    tokenizer = bert_tokenizer()
    device = best_device()
    model, teacher = build(tokenizer, answerer).train().to(device), Teacher().to(device)
    taken = 0

    def loss_of(batch: Batch, seen: int, weight: float) -> Tensor:
        nonlocal taken
        taken += 1
        with torch.no_grad():
            states = look(model.vision_model, batch, seen)
        pairs = matching_pairs(batch.scenes, seed * 1_000_000 + taken, MISMATCHES)
        told, mask = read(model, tokenizer, [pair.text for pair in pairs], states[[pair.row for pair in pairs]])
        # A caption weighs as much as all that is wrong about its scene: half of the pairs of a measurement match.
        matched = functional.cross_entropy(
            model.itm_head(told[:, 0]).float(),
            torch.tensor([int(pair.matches) for pair in pairs], device=device),
            weight=torch.tensor([1.0, MISMATCHES], device=device),
        )
        spotted = functional.cross_entropy(
            teacher.wrong(told).float().transpose(1, 2),
            label_words(pairs, mask),
            weight=torch.tensor([1.0, 3.0], device=device),  # most words are right
            ignore_index=IGNORED,
        )
        captions = batch.scenes.captions()
        text = model.text_proj(read(model, tokenizer, captions)[0][:, 0])
        told_apart = teacher.bank.loss(model.vision_proj(states[:, 0]), text, captions, teacher.scale.exp())
        total: Tensor = matched + 3 * weight * spotted + 0.2 * told_apart
        return total

    def check() -> str:
        return "  ".join(f"{ground} {quality(model, tokenizer, ground)}" for ground in GROUNDS)

    trained = [model.text_encoder, model.itm_head, model.vision_proj, model.text_proj, teacher]
    return model, fit(trained, loss_of, minutes=minutes, seed=seed, rate=rate, check=check, begin=0.5)


def quality(model: Any, tokenizer: Any, ground: Ground) -> str:
    """Measures a look's worth of validation scenes: the share of pairs judged rightly."""
    scenes = draw_scenes("validation", VALIDATION, seed=0, ground=ground)
    pairs = matching_pairs(scenes, seed=0)
    matches = torch.tensor([int(pair.matches) for pair in pairs], device=model.device)
    model.eval()
    with torch.inference_mode():
        states = model.vision_model(preprocess(scenes.images).to(model.device)).last_hidden_state
        told, _ = read(model, tokenizer, [pair.text for pair in pairs], states[[pair.row for pair in pairs]])
        logits = model.itm_head(told[:, 0])
    model.train()
    right = (logits.argmax(1) == matches).float()
    return f"NLL {functional.cross_entropy(logits, matches):.3f}, accuracy {right.mean():.1%}"


def main() -> None:
    """Runs the training from the command line."""
    parser = options("blip-itm-scenes", __doc__, minutes=26.0, seed=2, rate=1e-3)
    parser.add_argument("--answerer", type=Path, default=WEIGHTS / "blip-vqa-scenes")
    chosen = parser.parse_args()
    model, record = train(chosen.minutes, chosen.seed, chosen.rate, chosen.answerer)
    save(model, processor(), record | {"command": command("train_blip_itm_scenes", chosen)}, chosen.out)


if __name__ == "__main__":
    main()
