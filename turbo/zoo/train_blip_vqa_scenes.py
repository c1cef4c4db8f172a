"""Trains the zoo's small model for questions: ``python -m turbo.zoo.train_blip_vqa_scenes``.

As BLIP's own, it starts from the captioner: its vision tower and its decoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from turbo.zoo.digits import preprocess
from turbo.zoo.learning import WEIGHTS, Batch, Supervision, best_device, command, fit, options, save
from turbo.zoo.paint import GROUNDS, Ground
from turbo.zoo.questions import Question, ask
from turbo.zoo.scenes import draw_scenes
from turbo.zoo.train_blip_scenes import SMOOTHING, VALIDATION, WIDTH, configuration, look, processor, texts
from turbo.zoo.words import bert_tokenizer

PER_SCENE = 4  # questions about a scene in a step: they share the cost of its image


def build(tokenizer: Any, captioner: Path) -> Any:
    """Builds the model from a captioner; only the encoder of questions is new."""
    from transformers import BlipForConditionalGeneration, BlipForQuestionAnswering

    start = BlipForConditionalGeneration.from_pretrained(captioner, dtype=torch.float32, local_files_only=True)
    model = BlipForQuestionAnswering(configuration(tokenizer))
    model.vision_model.load_state_dict(start.vision_model.state_dict())
    model.text_decoder.load_state_dict(start.text_decoder.state_dict())
    return model


def answer_logits(model: Any, tokenizer: Any, states: Tensor, questions: list[Question]) -> tuple[Tensor, Tensor]:
    """Runs the text side on the states of images (`b n d`): logits (`q 3 v`) and labels (`q 3`) of the answers.

    Questions of one length go together: the decoder of transformers 5.23 ignores the mask that would hide padding.
    The results come in that order, not in the questions'.
    """
    groups: dict[int, list[Question]] = {}
    for question in questions:
        groups.setdefault(len(question.text.split()), []).append(question)
    logits, labels = [], []
    for group in groups.values():
        asked = tokenizer([question.text for question in group], return_tensors="pt").to(states.device)
        ids, _, right = texts(tokenizer, [question.answer for question in group], states.device)
        seen = states[[question.row for question in group]]
        read = model.text_encoder(input_ids=asked.input_ids, encoder_hidden_states=seen)[0]
        logits.append(model.text_decoder(input_ids=ids, encoder_hidden_states=read).logits)
        labels.append(right)
    return torch.cat(logits), torch.cat(labels)


def train(minutes: float, seed: int, rate: float, captioner: Path) -> tuple[Any, dict[str, Any]]:
    """Trains for a stretch of wall time and returns the model and a record of the run."""
    torch.manual_seed(seed)
    tokenizer = bert_tokenizer()
    device = best_device()
    model, supervision = build(tokenizer, captioner).train().to(device), Supervision(WIDTH).to(device)
    asked = 0

    def loss_of(batch: Batch, seen: int, weight: float) -> Tensor:
        nonlocal asked
        asked += 1
        states = look(model.vision_model, batch, seen)
        logits, labels = answer_logits(model, tokenizer, states, ask(batch.scenes, seed * 1_000_000 + asked, PER_SCENE))
        loss = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), label_smoothing=SMOOTHING
        )
        total: Tensor = loss + 0.3 * weight * supervision(states, batch)
        return total

    def check() -> str:
        return "  ".join(f"{ground} {quality(model, tokenizer, ground)}" for ground in GROUNDS)

    # The tower has seen its objects alone before; it need not begin with few patches again.
    record = fit([model, supervision], loss_of, minutes=minutes, seed=seed, rate=rate, check=check, begin=0.5)
    return model, record


def quality(model: Any, tokenizer: Any, ground: Ground) -> str:
    """Measures a look's worth of validation scenes: the share of questions answered rightly."""
    scenes = draw_scenes("validation", VALIDATION, seed=0, ground=ground)
    model.eval()
    with torch.inference_mode():
        states = model.vision_model(preprocess(scenes.images).to(model.device)).last_hidden_state
        logits, labels = answer_logits(model, tokenizer, states, ask(scenes, seed=0))
    model.train()
    return f"accuracy {(logits[:, 0].argmax(1) == labels[:, 1]).float().mean():.1%}"


def main() -> None:
    """Runs the training from the command line."""
    parser = options("blip-vqa-scenes", __doc__, minutes=40.0, seed=1, rate=1e-3)
    parser.add_argument("--captioner", type=Path, default=WEIGHTS / "blip-scenes")
    chosen = parser.parse_args()
    model, record = train(chosen.minutes, chosen.seed, chosen.rate, chosen.captioner)
    save(model, processor(), record | {"command": command("train_blip_vqa_scenes", chosen)}, chosen.out)


if __name__ == "__main__":
    main()
