"""Attention sinks planted in the zoo's clip-scenes, for `attention_sinks.py`: its own attention has none to speak of.

One vector is added to the flattest patches of each image, before the first block. It is trained to draw the class
token's attention in all blocks while the embedding stays what it was; the model's weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from turbo.adapters.base import ResidualBlock
from turbo.information import semantic_value
from turbo.zoo.digits import preprocess
from turbo.zoo.paint import GROUNDS
from turbo.zoo.scenes import PATCH, draw_scenes

PLANTED = 4  # patches of an image
STEPS, BATCH, RATE = 200, 32, 0.1
FAITHFUL = 30.0  # weight of the embedding's change
ENOUGH = 0.6  # share of attention beyond which a sink gains nothing


def flattest(pixels: Tensor) -> Tensor:
    """Where an image, ``b 3 h w``, has the least contrast: its tokens, ``b PLANTED``, the class token counted."""
    patches = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).flatten(4)
    return 1 + patches.var(dim=4).sum(1).flatten(1).topk(PLANTED, dim=1, largest=False).indices


def _added(states: Tensor, vector: Tensor, places: Tensor) -> Tensor:
    index = places[:, :, None].expand(-1, -1, states.shape[2])
    return states.scatter_add(1, index, vector.expand(index.shape))


@contextmanager
def planted(model: Any, vector: Tensor) -> Iterator[None]:
    """Plants the vector, ``d``, in the images of all forward passes."""
    places: list[Tensor] = []
    vision = model.vision_model

    def look(module: Any, args: Any, kwargs: Any) -> None:
        places[:] = [flattest(args[0] if args else kwargs["pixel_values"])]

    hooks = [
        vision.embeddings.register_forward_pre_hook(look, with_kwargs=True),
        vision.pre_layrnorm.register_forward_hook(lambda module, args, states: _added(states, vector, places[0])),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def train(model: Any, blocks: list[ResidualBlock], seed: int = 0) -> Tensor:
    """The vector, ``d``."""
    generator = torch.Generator().manual_seed(seed)
    width = model.config.vision_config.hidden_size
    vector = torch.randn(width, generator=generator).requires_grad_(True)
    optimizer = torch.optim.Adam([vector], lr=RATE)
    model.requires_grad_(False)
    for step in range(STEPS):
        scenes = draw_scenes("train", BATCH, seed=1000 * seed + step, ground=GROUNDS[step % 2])
        pixels = preprocess(scenes.images)
        with torch.no_grad():
            wanted = functional.normalize(model.get_image_features(pixels).pooler_output, dim=1)
        given, drawn = _forward(model, blocks, pixels, vector)
        change = (1 - (given * wanted).sum(1)).mean()
        loss = FAITHFUL * change - drawn.clamp(1e-4, ENOUGH).log().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return vector.detach()


def _forward(model: Any, blocks: list[ResidualBlock], pixels: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Unit embeddings, ``b d``, and the attention that the planted patches draw in each block, ``l b``."""
    vision, places = model.vision_model, flattest(pixels)
    x = _added(vision.pre_layrnorm(vision.embeddings(pixels)), vector, places)
    drawn = []
    for block in blocks:
        q, k, v = block.qkv(x)
        drawn.append(semantic_value(q[:, :, :1], k, None, block.scale).gather(1, places).sum(1))
        x = x + block.project(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + block.mlp(x)
    found = model.visual_projection(vision.post_layernorm(x[:, 0]))
    return functional.normalize(found, dim=1), torch.stack(drawn)
