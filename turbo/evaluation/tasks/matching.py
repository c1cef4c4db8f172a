"""Texts that match images or do not, told apart by BlipForImageTextRetrieval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.nn import functional

from turbo.errors import TurboError
from turbo.evaluation.tasks.asked import Asked
from turbo.evaluation.tasks.blip_text import require_length
from turbo.evaluation.tasks.outcome import Outcome

NO, YES = "no", "yes"  # answers, in the order of the matching head's outputs


class Matching(Asked):
    """Matching of texts with images by the head that reads both; a text is a question, with `YES` or `NO` for answer.

    - ``accuracy``: whether the head is right; ``accuracy_KIND`` over the pairs of a kind.
    - ``nll``: minus the log-probability (nats) of what is right.

    Each image of a batch is encoded once. Texts are padded to one length: the mask of text hides it in this encoder.
    """

    main: ClassVar[str] = "accuracy"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if odd := {answers for answers in self.data.answers if answers not in ((NO,), (YES,))}:
            raise TurboError(f"{self.data.name} has the answers {odd.pop()}: for matching there is one, {YES} or {NO}")
        self.rights = torch.tensor([int(answers == (YES,)) for answers in self.data.answers])

    def outcome(self, on_batch: Callable[[], None] = lambda: None) -> Outcome:
        """Run the model as it is now on all pairs."""
        parts = []
        for rows in self.rows(on_batch):
            states, place = self.look(rows)
            made = self.texts([self.data.questions[row] for row in rows])
            require_length(self.model, made["input_ids"])
            read = self.model.text_encoder(**made, encoder_hidden_states=states[place]).last_hidden_state
            parts.append(self.model.itm_head(read[:, 0]).float().cpu())
        logits = torch.cat(parts)
        found = logits.argmax(1)
        right = (found == self.rights).double().tolist()
        nll = functional.cross_entropy(logits, self.rights, reduction="none").tolist()
        scores = {"nll": nll, "accuracy": right, **self.by_kind("accuracy", right)}
        return Outcome(scores, predictions=[(NO, YES)[each] for each in found.tolist()])

    def call(self, count: int) -> Callable[[], object]:
        """The model's own call, from pixel values and token ids to scores, with an image for each text."""
        pixels = self.pixels.take(self.data.image_of[:count])
        asked = self.texts(self.data.questions[:count])
        return lambda: self.model(pixel_values=pixels, **asked)
