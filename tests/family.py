"""A supported class as a small model with random weights, its inputs, and the output to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from turbo.testing import AdapterCase

IMAGE = 48
PATCH = 8
N = (IMAGE // PATCH) ** 2 + 1
CROPS = 2 * (N - 1) + IMAGE // PATCH
"""Places of an image beside one crop of it, whose rows end in a line break each."""
IMAGE_TOKEN = 60
"""Of a language model's prompt: one for each patch, or for each token of a Q-Former."""

BOTH = {"input_ids": "input_ids", "pixel_values": "pixel_values"}
"""The arguments of a model of transformers that reads text and images."""
X = {"x": "pixel_values"}
"""The arguments of a model of timm or open_clip."""


@dataclass(frozen=True)
class Family:
    """A small model and how to run it: what the kit needs for a case, and what is known of it besides.

    `arguments` maps the forward's own keywords, in its order, to what `images_and_text` makes; `n` counts the tokens
    that enter the first block. `flags` are fields of its AdapterCase.
    """

    name: str
    adapter: str
    build: Callable[[], torch.nn.Module]
    pick: Callable[[Any], torch.Tensor] | None = None
    arguments: Mapping[str, str] = field(default_factory=lambda: {"pixel_values": "pixel_values"})
    n: int = N
    protected: int = 1
    flags: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def case(self) -> AdapterCase:
        def inputs(batch: int) -> dict[str, torch.Tensor]:
            return self.named(images_and_text(batch))

        known = {"name": self.name, "restores": False}
        return AdapterCase(self.adapter, self.build, inputs, self.pick, **known, **self.flags)

    def named(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the model's forward takes, by its own keywords."""
        return {keyword: inputs[source] for keyword, source in self.arguments.items()}

    def model(self, seed: int = 0) -> Any:
        return self.case.make_model(seed)

    def inputs(self, batch: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
        return images_and_text(batch, torch.Generator().manual_seed(seed))

    def output(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.case.read(model(**self.named(inputs)))


def images_and_text(batch: int, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
    images = torch.randn(batch, 3, IMAGE, IMAGE, generator=generator)
    text = torch.randint(3, 60, (batch, 7), generator=generator)
    sides = torch.tensor([IMAGE // PATCH, IMAGE // PATCH])
    return {
        "pixel_values": images,
        "input_ids": text,
        "prompt": torch.cat([torch.full((batch, N - 1), IMAGE_TOKEN), text], dim=1),
        "patches": torch.nn.functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2),
        "patch_mask": torch.ones(batch, N - 1, dtype=torch.long),
        "grid": sides.expand(batch, 2),
        "crops": torch.stack([images, images.flip(-1)], dim=1),
        "image_sizes": torch.full((batch, 2), IMAGE),
        "long_prompt": torch.cat([torch.full((batch, CROPS), IMAGE_TOKEN), text], dim=1),
    }
