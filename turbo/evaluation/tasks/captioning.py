"""Captions written by BlipForConditionalGeneration, against those of people."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from turbo.evaluation.data import Captions
from turbo.evaluation.metrics.text_metrics import bleu, cider
from turbo.evaluation.tasks.blip_text import decoder_texts, negative_log_likelihood, write
from turbo.evaluation.tasks.job import Job
from turbo.evaluation.tasks.outcome import Outcome


class Captioning(Job[Captions]):
    """Captions of images.

    - ``nll``: minus the log-probability (nats) that the model gives to each image's first reference, token after
      token, cleaned as for BLIP's training: the figure with the least noise, for it needs no search.
    - ``cider`` and ``bleu4``: of the captions that `generate` writes.
    - one metric for each attribute, where the data judge attributes.

    BLIP's published protocol: the prompt "a picture of", 3 beams, 5 to 20 tokens (Li et al., ICML 2022). The image is
    encoded once for both; the captions are those of ``model.generate(pixel_values, ...)``.
    """

    main: ClassVar[str] = "cider"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.prompt = self._prompt()

    def outcome(self, on_batch: Callable[[], None] = lambda: None) -> Outcome:
        """Run the model as it is now on all images."""
        per_example: dict[str, list[float]] = defaultdict(list)
        captions: list[str] = []
        for rows in self.rows(on_batch):
            states = self.model.vision_model(self.pixels.take(rows)).last_hidden_state
            per_example["nll"] += self._likelihood(states, rows)
            if self.decoding.generate:
                assert self.inputs.decode is not None
                ids = write(self.model, self.prompt, states, **self.decoding.arguments())
                captions += self.inputs.decode(ids)
        if not self.decoding.generate:
            return Outcome(per_example)
        references = self.data.references
        per_example["cider"] = cider(captions, references)[1].tolist()
        if self.data.attributes is not None:
            for row, caption in enumerate(captions):
                for name, score in self.data.attributes(row, caption).items():
                    per_example[name].append(score)
        return Outcome(per_example, {"bleu4": bleu(captions, references)}, captions)

    def call(self, count: int) -> Callable[[], object] | None:
        """The model's own `generate`, from pixel values to token ids."""
        if not self.decoding.generate:
            return None
        pixels = self.pixels.take(range(count))
        end = self.prompt.new_full((1,), self.model.config.text_config.sep_token_id)  # which generate() takes off
        ids = self.prompt.new_empty(0) if not self.decoding.prompt else self.prompt.new_tensor([*self.prompt, *end])

        def generate() -> object:
            prompt = {"input_ids": ids.repeat(count, 1)} if len(ids) else {}
            return self.model.generate(pixels, **prompt, **self.decoding.arguments())

        return generate

    def _prompt(self) -> Tensor:
        """The tokens that every caption starts with: the decoder's start token and the prompt."""
        made = self.texts([self.decoding.prompt])
        return decoder_texts(self.model, made)[0][0, :-1]

    def _likelihood(self, states: Tensor, rows: range) -> list[float]:
        first = [f"{self.decoding.prompt} {plain_caption(self.data.references[row][0])}".strip() for row in rows]
        ids, mask, labels = decoder_texts(self.model, self.texts(first), skipped=len(self.prompt))
        out = self.model.text_decoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=states)
        return negative_log_likelihood(out.logits, labels)


def plain_caption(text: str) -> str:
    """A caption as BLIP's authors cleaned those that they trained on: lower case, without most punctuation.

    Examples:
        >>> plain_caption("A man, on a wave.")
        'a man, on a wave'
    """
    return " ".join(re.sub(r"""[.!"()*#:;~]""", " ", text.lower()).split())
