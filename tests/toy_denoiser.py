"""A small denoiser with everything an adapter of one can get wrong, and the adapter that gets nothing wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turbo.adapters import Adapter, Denoiser, Example, RoundTrip, split_heads
from turbo.testing import AdapterCase

WIDTH, HEADS, SIDE, WORDS = 16, 2, 8, 5


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, text: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        text = x if text is None else text
        q, k, v = (split_heads(m(t), HEADS) for m, t in ((self.to_q, x), (self.to_k, text), (self.to_v, text)))
        y = F.scaled_dot_product_attention(q, k, v, None if bias is None else bias[:, None, None])
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.self_attention, self.cross_attention = Attention(), Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        x = x + self.self_attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), text=text)
        return x + self.mlp(self.norm3(x))


class Toy(nn.Module):
    """Latents ``b c h w`` -> the same shape: two blocks at full resolution, one at half."""

    block = Block

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        self.time = nn.Linear(1, WIDTH)
        self.blocks = nn.ModuleList(self.block() for _ in range(3))

    def forward(self, latents: Tensor, time: Tensor, text: Tensor) -> Tensor:
        x = self.enter(latents) + self.time(time.reshape(-1, 1).to(latents.dtype) / 1000)[:, :, None, None]
        fine, other, coarse = self.blocks
        x = self.on_grid(other, self.on_grid(fine, x, text), text)
        low = self.on_grid(coarse, F.avg_pool2d(x, 2, ceil_mode=True), text)
        return self.leave(x + F.interpolate(low, x.shape[-2:]))

    def on_grid(self, block: nn.Module, x: Tensor, text: Tensor) -> Tensor:
        return block(x.flatten(2).transpose(1, 2), text).transpose(1, 2).unflatten(2, x.shape[-2:])


class SoundBlock(RoundTrip):
    by_text = True

    def __init__(self, block: Block, downsample: int) -> None:
        super().__init__(block, parts=self.find(block), downsample=downsample, heads=HEADS)

    def find(self, block):
        return {
            "self_attention": block.self_attention,
            "cross_attention": block.cross_attention,
            "feed_forward": block.mlp,
        }

    def keys(self):
        return self.module.self_attention.to_k

    def self_attention_bias(self, bias):
        return {"bias": bias}

    def queries(self):
        return self.module.cross_attention.to_q

    def text_query(self, text):
        return split_heads(self.module.cross_attention.to_k(text[:, -1:]), self.heads)


class Sound(Adapter):
    target = f"{__name__}:Toy"
    block: type[RoundTrip] = SoundBlock
    names = {"latents": "latents", "timestep": "time", "text": "text"}  # noqa: RUF012

    def sites(self, model):
        return [
            Denoiser(model, (SIDE, SIDE), zeros, **self.names),
            *(self.block(each, step) for each, step in zip(model.blocks, (1, 1, 2), strict=True)),
        ]

    def shape(self, model):
        return SIDE * SIDE, WIDTH

    def example(self):
        return Example(Toy, noise)


def zeros(height: int, width: int) -> dict[str, Tensor]:
    """For one image."""
    return {
        "latents": torch.zeros(1, WIDTH, height, width),
        "time": torch.zeros(1),
        "text": torch.zeros(1, WORDS, WIDTH),
    }


def noise(batch: int) -> dict[str, Tensor]:
    return {
        "latents": torch.randn(batch, WIDTH, SIDE, SIDE),
        "time": torch.tensor(500),
        "text": torch.randn(batch, WORDS, WIDTH),
    }


def denoiser_case(adapter: type[Adapter] = Sound, model=Toy, inputs=noise, **flags) -> AdapterCase:
    return AdapterCase(adapter(), model, inputs, **flags)


def denoiser_case_of_block(block: type[RoundTrip], **flags) -> AdapterCase:
    """The sound adapter with another description of its blocks."""
    adapter = type(f"Adapter{block.__name__}", (Sound,), {"block": block, "__module__": block.__module__})
    return denoiser_case(adapter, **flags)
