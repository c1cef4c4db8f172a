"""Images and index maps as text, small enough for a page that is mailed."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from torch import Tensor

from turbo.errors import TurboError
from turbo.viz.merged import MergedBlock, MergedImage

NONE, HIGHEST, LOWEST, FINEST = 65535, 65534, 65533, 65532
"""Codes of scores: none at all, plus and minus infinity, and the highest finite one; 0 is the lowest."""
PLAIN_BYTES = 120_000
"""A PNG up to this size is kept as it is; a larger one, of a photograph, becomes a JPEG."""
JPEG_QUALITY = 92
_SCORES = ("value", "redundancy", "degree")


def pack_pixels(pixels: Tensor) -> str:
    """``h w 3`` in [0, 1] -> a data URI: PNG, or JPEG where that would be large."""
    from PIL import Image

    picture = Image.fromarray((pixels * 255).round().clamp(0, 255).to(torch.uint8).cpu().contiguous().numpy())
    plain, kind = io.BytesIO(), "png"
    picture.save(plain, "PNG", optimize=True)
    if plain.tell() > PLAIN_BYTES:
        plain, kind = io.BytesIO(), "jpeg"
        picture.save(plain, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return f"data:image/{kind};base64,{_text(plain.getvalue())}"


def pack_image(image: MergedImage) -> dict[str, Any]:
    """Everything but the pixels, ready for JSON: index maps of 16 bits, scores of 16 bits, one bit for each merge.

    Raises:
        TurboError: there is nothing to show, or a grid that does not fit the others or 16 bits.
    """
    if not image.blocks:
        raise TurboError(f"image {image.title!r} has no block that merged: there is nothing to show")
    rows, columns = image.blocks[0].groups.shape
    if rows * columns > 65536:
        raise TurboError(f"image {image.title!r} has {rows} x {columns} patches: a page holds 65,536")
    known = [name for name in _SCORES if all(getattr(block, name) is not None for block in image.blocks)]
    return {
        "title": image.title,
        "rows": rows,
        "columns": columns,
        "protected": image.protected,
        "blocks": [_pack_block(image, block, known) for block in image.blocks],
    }


def pack_scores(scores: Tensor) -> dict[str, Any]:
    """Scores as 16 bits each between their lowest and highest; NaN and infinities have codes of their own."""
    flat = scores.detach().flatten().double().cpu()
    finite = flat[flat.isfinite()]
    low, high = (finite.min().item(), finite.max().item()) if len(finite) else (0.0, 0.0)
    codes = ((flat - low) / ((high - low) or 1.0) * FINEST).nan_to_num(0.0).clamp(0, FINEST).round().long()
    codes[flat == torch.inf], codes[flat == -torch.inf], codes[flat.isnan()] = HIGHEST, LOWEST, NONE
    return {"low": low, "high": high, "data": _words(codes)}


def _pack_block(image: MergedImage, block: MergedBlock, known: list[str]) -> dict[str, Any]:
    wanted = image.blocks[0].groups.shape
    given = [block.groups, block.merged, *(getattr(block, name) for name in known)]
    if any(each is not None and each.shape != wanted for each in given):
        raise TurboError(f"block {block.depth} of image {image.title!r} is not of {wanted[0]} x {wanted[1]} patches")
    packed: dict[str, Any] = {"depth": block.depth, "entered": block.entered, "left": block.left}
    packed["groups"] = _words(torch.unique(block.groups.flatten(), return_inverse=True)[1])
    packed["merged"] = None if block.merged is None else _bits(block.merged)
    packed["scores"] = {name: pack_scores(getattr(block, name)) for name in known}
    return packed


def _words(codes: Tensor) -> str:
    return _text(codes.cpu().contiguous().numpy().astype("<u2").tobytes())


def _bits(flags: Tensor) -> str:
    import numpy as np

    return _text(np.packbits(flags.flatten().bool().cpu().numpy()).tobytes())


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
