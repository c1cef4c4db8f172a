"""Where a ToyClassifier keeps its blocks, and how to call their parts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from turbo.adapters import Adapter, Example, ResidualBlock, split_qkv


class ToyResidualBlock(ResidualBlock):
    """How to call the parts of a ToyBlock."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return split_qkv(self.module.qkv(self.module.norm1(x)), self.module.heads)

    def project(self, y: Tensor) -> Tensor:
        return self.module.out(y)

    def mlp(self, x: Tensor) -> Tensor:
        return self.module.mlp(self.module.norm2(x))


class Toy(Adapter):
    """Names the model's class without importing it."""

    target = "turbo_toy.model:ToyClassifier"

    def sites(self, model: Any) -> Sequence[ResidualBlock]:
        return [ToyResidualBlock(block) for block in model.blocks]

    def shape(self, model: Any) -> tuple[int, int]:
        _, n, width = model.positions.shape
        return n, width

    def example(self) -> Example:
        from .model import ToyClassifier

        return Example(ToyClassifier, lambda batch: {"patches": torch.randn(batch, 64, 32)})
