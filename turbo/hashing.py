"""Random numbers without a generator's state: pure, alike on every device, and they compile."""

from __future__ import annotations

from torch import Tensor


def mix(bits: Tensor) -> Tensor:
    """A hash of whole numbers: int64 -> int64, 0 to 2³¹ - 1, with well-mixed low bits.

    Examples:
        >>> import torch
        >>> mix(torch.arange(4)) % 4
        tensor([0, 2, 1, 1])
    """
    for shift in (16, 15, 13):
        bits = bits & 0xFFFFFFFF
        bits = (bits ^ (bits >> shift)) * 73244475
    return (bits >> 8) & 0x7FFFFFFF
