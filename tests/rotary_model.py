"""The small vision transformer of `toy_model` with rotary positions, and the adapter that describes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_model import PATCHES, WIDTH, Block, Model, Sound, SoundBlock, case_of

from turbo.adapters import RotaryBlock, split_qkv
from turbo.testing import AdapterCase

HEAD = WIDTH // Block.heads


def rotate(x: Tensor, places: Tensor) -> Tensor:
    """Channels in two halves, each pair turned by a cosine and a sine: ``b h p e``, ``p 2e``."""
    cos, sin = places.chunk(2, dim=-1)
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


class PlacedBlock(Block):
    """Turns its patches, the last tokens, by their places."""

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        q, k, v = split_qkv(self.qkv(self.norm1(x)), self.heads)
        prefix = x.shape[1] - places.shape[0]
        q, k = (torch.cat([y[:, :, :prefix], rotate(y[:, :, prefix:], places)], dim=2) for y in (q, k))
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.scale1(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.scale2(self.mlp(self.norm2(x)))


class Placed(Model):
    def __init__(self, prefix: int = 1) -> None:
        super().__init__(prefix)
        self.blocks = nn.ModuleList(PlacedBlock() for _ in range(3))

    def encode(self, images: Tensor) -> Tensor:
        angles = torch.arange(PATCHES)[:, None] / 10 ** torch.linspace(0, 1, HEAD // 2)
        places = torch.cat([angles.cos(), angles.cos(), angles.sin(), angles.sin()], dim=-1).to(images)
        x = self.embed(images)
        for block in self.blocks:
            x = block(x, places)
        return self.norm(x)


class SoundRotary(SoundBlock, RotaryBlock):
    argument = "places"

    def turns(self, given: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = given.chunk(2, dim=-1)
        return cos, sin

    def given(self, cos: Tensor, sin: Tensor) -> Tensor:
        return torch.cat([cos, sin], dim=-1)

    def rotate(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        places = self.given(cos, sin)
        return rotate(q, places), rotate(k, places)


class Rotary(Sound):
    target = f"{__name__}:Placed"
    block = SoundRotary


def case_of_rotary(block: type[RotaryBlock] = SoundRotary, **flags) -> AdapterCase:
    """The model with this description of its blocks."""
    adapter = type(f"Adapter{block.__name__}", (Rotary,), {"block": block, "__module__": block.__module__})
    return case_of(adapter, Placed, **flags)
