"""One task of one model on one set of data: what is common to all tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from turbo.evaluation.data import Data
from turbo.evaluation.tasks.inputs import Inputs
from turbo.evaluation.tasks.outcome import Outcome
from turbo.evaluation.tasks.pixels import Pixels
from turbo.models import LoadedModel

DataT = TypeVar("DataT", bound=Data)


@dataclass(frozen=True)
class Decoding:
    """How texts are written.

    Attributes:
        beams: of the search; 1 is greedy.
        max_length: tokens of a text, the start token and the prompt included.
        min_length: the same, at least.
        prompt: what each caption starts with; it is no part of the result.
        generate: False writes nothing and measures the likelihood of the right text only, which is faster.
    """

    beams: int = 3
    max_length: int = 20
    min_length: int = 5
    prompt: str = ""
    generate: bool = True

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of transformers' `generate`."""
        return {"num_beams": self.beams, "max_length": self.max_length, "min_length": self.min_length}


class Job(ABC, Generic[DataT]):
    """One task of one model on one set of data. What only texts need is computed once, for all settings.

    The model is used as it is at each call: untouched, or accelerated by whoever calls. Nothing keeps its gradient:
    run the methods under `torch.inference_mode`.

    Args:
        loaded: the model, on its device and in its type.
        inputs: how its inputs are made.
        data: what it is measured on.
        batch: examples at a time.
        decoding: how texts are written, in tasks that write some.
    """

    main: ClassVar[str]
    """The metric that is plotted."""

    def __init__(self, loaded: LoadedModel, inputs: Inputs, data: DataT, batch: int, decoding: Decoding) -> None:
        self.loaded = loaded
        self.model: Any = loaded.model
        self.inputs = inputs
        self.data = data
        self.batch = batch
        self.decoding = decoding
        self.pixels = Pixels(data.images, inputs, loaded.model)

    @property
    def examples(self) -> int:
        """What comes in batches: images, or questions."""
        return len(self.pixels)

    @property
    def batches(self) -> int:
        """How many there are."""
        return -(-self.examples // self.batch)

    def rows(self, on_batch: Callable[[], None] = lambda: None) -> Iterator[range]:
        """The examples of each batch; `on_batch` is called after each."""
        for start in range(0, self.examples, self.batch):
            yield range(start, min(start + self.batch, self.examples))
            on_batch()

    @abstractmethod
    def outcome(self, on_batch: Callable[[], None] = lambda: None) -> Outcome:
        """Run the model as it is now on all data.

        Args:
            on_batch: called after each batch, for a progress display.
        """

    def call(self, count: int) -> Callable[[], object] | None:
        """A user's whole call on the first `count` examples, its inputs ready; what gets timed.

        Returns:
            The call; None where it is the encoder's (`LoadedModel.images`), or where no text is written.
        """
        return None

    def texts(self, lines: Sequence[str], *, cut: bool = False) -> dict[str, Tensor]:
        """The model's text inputs on its device; see `Inputs.texts`."""
        assert self.inputs.texts is not None
        return {name: value.to(self.device) for name, value in self.inputs.texts(lines, cut=cut).items()}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.loaded.model.parameters()).device
