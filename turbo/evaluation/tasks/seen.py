"""An image as a model sees it: its pixel values in the colours that they stand for."""

from __future__ import annotations

from torch import Tensor

from turbo.evaluation.tasks.inputs import Inputs


def as_seen(inputs: Inputs, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixel values in [0, 1], whoever made them.

    What black and white become says by how much each channel is scaled and shifted.

    Args:
        inputs: of the model.
        pixels: what they made of images, float ``b 3 h w``.
        size: width and height of one of these images.

    Returns:
        ``b 3 h w``, float32.
    """
    from PIL import Image

    plain = inputs.images([Image.new("RGB", size, colour) for colour in ("black", "white")])
    # Of an image in tiles the first will do; most of it is the image, not what the processor pads it with.
    black, white = plain.reshape(2, -1, *plain.shape[-3:])[:, 0].flatten(2).median(2).values
    seen: Tensor = (pixels - black[:, None, None]) / (white - black)[:, None, None]
    return seen.clamp(0, 1).float()
