"""Images that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from turbo.errors import TurboError

if TYPE_CHECKING:
    from PIL import Image


class LazyImages(Sequence["Image.Image"]):
    """RGB images, each made from what stands for it whenever it is asked for; a slice makes none.

    Args:
        items: what stands for each image.
        make: turns one of them into an image.
    """

    def __init__(self, items: Sequence[Any], make: Callable[[Any], Image.Image]) -> None:
        self._items = items
        self._make = make

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> LazyImages: ...
    def __getitem__(self, index: int | slice) -> Image.Image | LazyImages:
        """Makes one image, or takes some that are not made yet."""
        if isinstance(index, slice):
            return LazyImages(self._items[index], self._make)
        return self._make(self._items[index])


def images_of_files(paths: Sequence[Path]) -> LazyImages:
    """Images of files, read by Pillow when they are asked for.

    Examples:
        >>> len(images_of_files([Path("a.jpg"), Path("b.jpg")]))
        2
    """
    return LazyImages(tuple(paths), read_image)


def images_of_arrays(pixels: Any) -> LazyImages:
    """Images of an array, uint8 `b h w 3`.

    Examples:
        >>> import numpy as np
        >>> images_of_arrays(np.zeros((1, 4, 6, 3), dtype=np.uint8))[0].size
        (6, 4)
    """
    return LazyImages(pixels, _of_array)


def read_image(path: Path) -> Image.Image:
    """Reads an image file as RGB, whatever its colours are stored as.

    Raises:
        TurboError: it is missing, or is no image that Pillow can read to the end.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels: Image.Image = image.convert("RGB")
            return pixels
    except FileNotFoundError as error:
        raise TurboError(f"there is no image {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TurboError(f"the image {path} cannot be read: {error}; it may be damaged or cut short") from error


def _of_array(array: Any) -> Image.Image:
    from PIL import Image

    return Image.fromarray(array)
