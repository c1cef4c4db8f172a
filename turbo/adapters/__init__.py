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

__all__ = [
    "Adapter",
    "Example",
    "Refuse",
    "ResidualBlock",
    "Restore",
    "Site",
    "Unsupported",
    "split_heads",
    "split_qkv",
]
