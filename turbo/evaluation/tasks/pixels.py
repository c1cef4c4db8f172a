"""A data set's images as pixel values, made once where they fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from turbo.evaluation.data import Images
from turbo.evaluation.tasks.inputs import Inputs

KEPT = 1 << 30  # bytes of pixel values that are kept, at most


class Pixels:
    """Pixel values of a data set's images.

    Every setting looks at the same images. They are kept where all of them fit into `KEPT` bytes, and made anew
    where they do not.

    Args:
        images: of the data.
        inputs: of the model.
        model: whose type and device the pixel values get.
    """

    def __init__(self, images: Images, inputs: Inputs, model: nn.Module) -> None:
        self._images = images
        self._make = inputs.images
        self._model = model
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._images)

    def take(self, rows: Sequence[int]) -> Tensor:
        """The pixel values of some images, `b 3 h w`."""
        missing = [row for row in rows if row not in self._kept]
        if missing:
            made = self._make([self._images[row] for row in missing])
            new = dict(zip(missing, made, strict=True))
            if len(self._images) * made[0].nbytes <= KEPT:
                self._kept |= new
        else:
            new = {}
        pixels = torch.stack([new[row] if row in new else self._kept[row] for row in rows])
        weight = next(self._model.parameters())
        return pixels.to(weight.device, weight.dtype)
