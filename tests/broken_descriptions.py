"""Adapters that cannot be used with their model at all, and models that no adapter can describe."""

from __future__ import annotations

import torch
from broken_adapters import adapter, blocks
from torch import nn
from toy_model import PATCHES, WIDTH, Block, Model, Sound, SoundBlock

from turbo.adapters import Restore, Unsupported


class AsksForTooMuch(Sound):
    def sites(self, model):
        return [SoundBlock(block) for block in model.layers]


class RefusesItsExample(Sound):
    def sites(self, model):
        raise Unsupported("relative position bias is not supported")


class ListsModules(Sound):
    def sites(self, model):
        return list(model.blocks)


class ListsTheClass(Sound):
    def sites(self, model):
        return [SoundBlock for _ in model.blocks]


class ListsNoBlock(Sound):
    def sites(self, model):
        return [Restore(model.norm)]


class RestoresWhatIsPooled(Sound):
    def sites(self, model):
        return [*super().sites(model), Restore(model.head)]


class ShapeIsANumber(Sound):
    def shape(self, model):
        return model.positions.shape[1]


class DotForColon(Sound):
    target = "toy_model.Model"


class WrongModule(Sound):
    target = "toy_models:Model"


class NarrowMlp(SoundBlock):
    def mlp(self, x):
        return super().mlp(x)[..., :-1]


class TupleBlock(Block):
    def forward(self, x):
        return (super().forward(x),)


class InTuples(Model):
    """Its blocks return tuples, as some of transformers' do, and it takes the first of each."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(TupleBlock() for _ in range(3))

    def between(self, x):
        return x[0]


class BiasedBlock(Block):
    def forward(self, x, shared_bias=None):
        return super().forward(x + shared_bias)


class Biased(Model):
    """One bias, made once, is handed to every block."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(BiasedBlock() for _ in range(3))
        self.bias = nn.Parameter(torch.zeros(1, PATCHES + 1, WIDTH))

    def encode(self, images):
        x = self.embed(images)
        for block in self.blocks:
            x = block(x, self.bias)
        return self.norm(x)


def no_dict(batch):
    return torch.randn(batch, PATCHES, WIDTH)


def too_wide(batch):
    return {"images": torch.randn(batch, PATCHES, 2 * WIDTH)}


USABLE = "check_description_is_usable"

BROKEN = [
    (USABLE, adapter(AsksForTooMuch), r"'Model' object has no attribute 'layers' \(broken_descriptions.py, line \d+\)"),
    (USABLE, adapter(RefusesItsExample), "the adapter refuses its own example: relative position bias"),
    (USABLE, adapter(ListsModules), "lists a Block at 0: wrap it in your ResidualBlock"),
    (USABLE, adapter(ListsTheClass), "lists the class SoundBlock at 0, not an instance"),
    (USABLE, adapter(ListsNoBlock), "lists no ResidualBlock"),
    (USABLE, adapter(RestoresWhatIsPooled), r"Restore\(Linear\) returns shape \(2, 5\), not all tokens, b n d"),
    (USABLE, adapter(ShapeIsANumber), r"shape\(\) of ShapeIsANumber returned 24: it must return \(tokens, width\)"),
    (USABLE, adapter(DotForColon), "target 'toy_model.Model' of DotForColon is not \"package.module:Class\""),
    (USABLE, adapter(WrongModule), "the adapter fits neither Model nor anything in it"),
    (USABLE, blocks(NarrowMlp), r"mlp\(\) of block 0 returned shape \(2, 25, 15\) for tokens of shape \(2, 25, 16\)"),
    (USABLE, adapter(Sound, InTuples), "block 0 .* returns tuple: .* raise Unsupported"),
    (USABLE, adapter(Sound, Biased), r"called with shared_bias, a tensor \(1, 25, 16\), that no map gets"),
    (USABLE, adapter(Sound, Model, no_dict), r"inputs\(2\) returned a Tensor; it must be a dict"),
    (USABLE, adapter(Sound, Model, too_wide), r"the untouched model does not run on inputs\(2\): RuntimeError"),
    ("check_maps_are_the_block", adapter(Sound, Biased), r"called with shared_bias, a tensor \(1, 25, 16\), that no"),
]
"""As in broken_adapters."""
