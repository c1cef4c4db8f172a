"""Questions answered by BlipForQuestionAnswering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from turbo.evaluation.metrics.vqa_accuracy import vqa_accuracy
from turbo.evaluation.tasks.asked import Asked
from turbo.evaluation.tasks.blip_text import decoder_texts, negative_log_likelihood, require_length, write
from turbo.evaluation.tasks.outcome import Outcome


class Answering(Asked):
    """Answers to questions about images.

    - ``accuracy``: VQA's, of the answers that the decoder writes; ``accuracy_KIND`` over the questions of a kind.
    - ``nll``: minus the log-probability (nats) of the right answer; of several people's the most frequent one, of
      equally frequent ones the first.

    Each image of a batch is encoded once, and its questions are then read in groups of one length, without padding:
    answers are those that `generate` gives to each question alone. transformers' BLIP ignores the mask of what its
    decoder looks at (5.23; ``BlipTextLayer`` hands it on under a name that is not read), so padding would change them.
    """

    main: ClassVar[str] = "accuracy"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rights = [Counter(answers).most_common(1)[0][0] for answers in self.data.answers]

    def outcome(self, on_batch: Callable[[], None] = lambda: None) -> Outcome:
        """Run the model as it is now on all questions."""
        nll, answers = [0.0] * self.examples, [""] * self.examples
        for rows in self.rows(on_batch):
            states, place = self.look(rows)
            for some, ids in self._by_length(rows):
                each = [place[row - rows.start] for row in some]
                read = self.model.text_encoder(input_ids=ids, encoder_hidden_states=states[each]).last_hidden_state
                for row, loss in zip(some, self._likelihood(read, some), strict=True):
                    nll[row] = loss
                if self.decoding.generate:
                    for row, answer in zip(some, self._write(read), strict=True):
                        answers[row] = answer
        per_example = {"nll": nll}
        if not self.decoding.generate:
            return Outcome(per_example)
        right = [vqa_accuracy(answer, people) for answer, people in zip(answers, self.data.answers, strict=True)]
        per_example |= {"accuracy": right, **self.by_kind("accuracy", right)}
        return Outcome(per_example, predictions=answers)

    def call(self, count: int) -> Callable[[], object] | None:
        """The model's own `generate`, from pixel values and token ids to token ids, with an image for each question."""
        if not self.decoding.generate:
            return None
        pixels = self.pixels.take(self.data.image_of[:count])
        asked = self.texts(self.data.questions[:count])
        return lambda: self.model.generate(pixel_values=pixels, **asked, **self.decoding.arguments())

    def _by_length(self, rows: range) -> list[tuple[list[int], Tensor]]:
        """Questions of equal length together: which they are, and their token ids, `q t`."""
        asked = self.texts([self.data.questions[row] for row in rows])
        lengths = asked["attention_mask"].sum(1)
        require_length(self.model, asked["input_ids"])
        found = []
        for length in sorted(set(lengths.tolist())):
            same = (lengths == length).nonzero().flatten()
            found.append(([rows[place] for place in same.tolist()], asked["input_ids"][same, :length]))
        return found

    def _likelihood(self, read: Tensor, rows: list[int]) -> list[float]:
        ids, mask, labels = decoder_texts(self.model, self.texts([self.rights[row] for row in rows]))
        out = self.model.text_decoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=read)
        return negative_log_likelihood(out.logits, labels)

    def _write(self, read: Tensor) -> list[str]:
        assert self.inputs.decode is not None
        start = torch.tensor([self.model.config.text_config.bos_token_id], device=read.device)
        return self.inputs.decode(write(self.model, start, read, **self.decoding.arguments()))
