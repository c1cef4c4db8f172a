"""A small vision transformer with everything an adapter can forget, and the adapter that forgets nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from turbo.adapters import Adapter, Refuse, ResidualBlock, Restore, split_qkv
from turbo.testing import AdapterCase

WIDTH, PATCHES = 16, 24


class Scale(nn.Module):
    """LayerScale, as small as it starts in practice."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((WIDTH,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    heads = 2
    recompute = False

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scale1, self.scale2 = Scale(), Scale()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.compute, x, use_reentrant=False)
        return self.compute(x)

    def compute(self, x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(*split_qkv(self.qkv(self.norm1(x)), self.heads))
        x = x + self.scale1(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.scale2(self.mlp(self.norm2(x)))


class Model(nn.Module):
    """Patches ``b p d`` -> logits, a mean over all tokens. The prefix is a class token and registers."""

    def __init__(self, prefix: int = 1) -> None:
        super().__init__()
        self.patchify = nn.Linear(WIDTH, WIDTH)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, PATCHES, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def embed(self, images: Tensor) -> Tensor:
        return torch.cat([self.prefix.expand(len(images), -1, -1), self.patchify(images) + self.positions], dim=1)

    def encode(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        for block in self.blocks:
            x = self.between(block(x))
        return self.norm(x)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encode(images).mean(dim=1))

    def grid(self, images: Tensor) -> Tensor:
        """Reads patches in their place."""
        return self.encode(images)[:, 1:].unflatten(1, (4, -1))

    def set_grad_checkpointing(self, on: bool) -> None:
        for block in self.blocks:
            block.recompute = on


class SoundBlock(ResidualBlock):
    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return split_qkv(self.module.qkv(self.module.norm1(x)), self.module.heads)

    def project(self, y: Tensor) -> Tensor:
        return self.module.scale1(self.module.out(y))

    def mlp(self, x: Tensor) -> Tensor:
        return self.module.scale2(self.module.mlp(self.module.norm2(x)))

    def checkpointing(self):
        def recompute(function, *args):
            return checkpoint(function, *args, use_reentrant=False)

        return recompute if self.module.recompute and torch.is_grad_enabled() else None


class Sound(Adapter):
    target = f"{__name__}:Model"
    block: type[ResidualBlock] = SoundBlock

    def sites(self, model):
        blocks = [self.block(block, protected=model.prefix.shape[1]) for block in model.blocks]
        return [*blocks, Restore(model.norm), Refuse(model, "grid", "it reads patches in their place")]

    def shape(self, model):
        return model.prefix.shape[1] + PATCHES, WIDTH


def images(batch: int) -> dict[str, Tensor]:
    return {"images": torch.randn(batch, PATCHES, WIDTH)}


def case_of(adapter: type[Adapter] = Sound, model=Model, inputs=images, **flags) -> AdapterCase:
    return AdapterCase(adapter(), model, inputs, **flags)


def case_of_block(block: type[ResidualBlock], **flags) -> AdapterCase:
    """The sound adapter with another description of its blocks."""
    adapter = type(f"Adapter{block.__name__}", (Sound,), {"block": block, "__module__": block.__module__})
    return case_of(adapter, **flags)
