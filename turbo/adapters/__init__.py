"""Adapters: one file per model family. Write your own with `Adapter` and `ResidualBlock`."""

from turbo.adapters.base import (
    Adapter,
    Example,
    Refuse,
    ResidualBlock,
    Restore,
    Site,
    Unsupported,
    split_heads,
    split_qkv,
)
from turbo.adapters.reader import Handover, Reader
from turbo.adapters.rotary import RotaryBlock
from turbo.adapters.round_trip import Denoiser, RoundTrip

__all__ = [
    "Adapter",
    "Denoiser",
    "Example",
    "Handover",
    "Reader",
    "Refuse",
    "ResidualBlock",
    "Restore",
    "RotaryBlock",
    "RoundTrip",
    "Site",
    "Unsupported",
    "split_heads",
    "split_qkv",
]
