"""Where two images differ, enlarged enough to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.errors import TurboError

if TYPE_CHECKING:
    from PIL import Image

GAIN = 4.0
"""What `difference_image` multiplies by: a difference of 64 of 255 levels is as bright as can be."""


def difference_image(image: Image.Image, other: Image.Image, gain: float = GAIN) -> Image.Image:
    """The absolute difference of two images, channel by channel: black where they are the same.

    Args:
        image: the one.
        other: the other, of the same size.
        gain: what the difference is multiplied by; what would be brighter than white is white.

    Returns:
        RGB.

    Raises:
        TurboError: the sizes differ, or the gain is not positive.

    Examples:
        >>> from PIL import Image
        >>> one, other = (Image.new("RGB", (2, 2), (level, 0, 0)) for level in (10, 7))
        >>> difference_image(one, other, gain=5).getpixel((0, 0))
        (15, 0, 0)
    """
    from PIL import ImageChops

    if image.size != other.size:
        raise TurboError(f"images of {image.size} and {other.size} pixels cannot be compared: give two of one size")
    if not gain > 0:
        raise TurboError(f"gain={gain}: must be positive")
    apart = ImageChops.difference(image.convert("RGB"), other.convert("RGB"))
    return apart.point([min(255, round(level * gain)) for level in range(256)] * 3)
