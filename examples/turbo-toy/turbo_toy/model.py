"""A small pre-norm transformer classifier in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ToyBlock(nn.Module):
    """Attention and an MLP, each with its norm in front."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """``b n d`` -> ``b n d``."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class ToyClassifier(nn.Module):
    """Patches, ``b p d`` -> logits, read off a class token."""

    def __init__(self, patches: int = 64, width: int = 32, heads: int = 4, depth: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, patches + 1, width))
        self.blocks = nn.ModuleList(ToyBlock(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, patches: Tensor) -> Tensor:
        """``b p d`` -> ``b classes``."""
        x = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))
