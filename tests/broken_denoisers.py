"""For every check of a denoiser's adapter an adapter, or a model, that breaks this promise."""

from __future__ import annotations

import copy

import torch
from torch import nn
from toy_denoiser import Block, Sound, SoundBlock, Toy, denoiser_case, denoiser_case_of_block, noise, zeros

from turbo.adapters import Denoiser, split_heads


class NamesNoArgument(Sound):
    names = {"latents": "latents", "timestep": "timestep", "text": "text"}  # noqa: RUF012


class WithTail(Toy):
    class Tail(nn.Module):
        def forward(self, latents, time, text):
            return latents

    def __init__(self):
        super().__init__()
        self.tail = self.Tail()

    def forward(self, latents, time, text):
        return self.tail(super().forward(latents, time, text), time, text)


class NamesTheLastLayer(Sound):
    def sites(self, model):
        _, *blocks = super().sites(model)
        return [Denoiser(model.tail, (8, 8), zeros, **self.names), *blocks]


class ListsABlockTwice(Sound):
    def sites(self, model):
        denoiser, *blocks = super().sites(model)
        return [denoiser, blocks[0], *blocks]


class SizeIsAnothers(Sound):
    def sites(self, model):
        _, *blocks = super().sites(model)
        return [Denoiser(model, (64, 64), zeros, **self.names), *blocks]


class ForgetsTheText(Sound):
    def sites(self, model):
        _, *blocks = super().sites(model)
        return [Denoiser(model, (8, 8), without_text, **self.names), *blocks]


def without_text(height, width):
    return {name: value for name, value in zeros(height, width).items() if name != "text"}


class TwoDenoisers(Sound):
    def sites(self, model):
        return [*super().sites(model), *super().sites(model)[:1]]


class LeavesTheLastBlockOut(Sound):
    def sites(self, model):
        return super().sites(model)[:-1]


class Spare(Block):
    def __init__(self):
        super().__init__()
        self.spare = copy.deepcopy(self.mlp)


class WithSpare(Toy):
    block = Spare


class NamesTheSpare(SoundBlock):
    def find(self, block):
        return super().find(block) | {"feed_forward": block.spare}


class NamesTheWholeBlocksParts(SoundBlock):
    """A part that the block does not call with tokens."""

    def find(self, block):
        return super().find(block) | {"cross_attention": block.cross_attention.to_k}


class NamesAPartOfAPart(SoundBlock):
    def find(self, block):
        return super().find(block) | {"feed_forward": block.self_attention.out}


class WithTuples(Block):
    class Pair(nn.Sequential):
        def forward(self, x):
            return super().forward(x), None

    def __init__(self):
        super().__init__()
        self.mlp = self.Pair(*self.mlp)

    def forward(self, x, text):
        x = x + self.self_attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), text=text)
        return x + self.mlp(self.norm3(x))[0]


class InTuples(Toy):
    block = WithTuples


class AllAtFullSize(Sound):
    def sites(self, model):
        return [*super().sites(model)[:1], *(SoundBlock(block, 1) for block in model.blocks)]


class OneHead(SoundBlock):
    def __init__(self, block, downsample):
        super().__init__(block, downsample)
        self.heads = 1


class OneHeadOfEach(SoundBlock):
    """Its queries are right."""

    def __init__(self, block, downsample):
        super().__init__(block, downsample)
        self.heads = 4

    def text_query(self, text):
        return split_heads(self.module.cross_attention.to_k(text[:, -1:]), 2)


class WrongScale(SoundBlock):
    def __init__(self, block, downsample):
        super().__init__(block, downsample)
        self.scale = 1.0


class ValuesForKeys(SoundBlock):
    def keys(self):
        return self.module.self_attention.to_v


class KeysForQueries(SoundBlock):
    def queries(self):
        return self.module.self_attention.to_q


class ForgetsSizes(SoundBlock):
    def self_attention_bias(self, bias):
        return {}


class NegativeValues(SoundBlock):
    def visual_value(self, x):
        return -super().visual_value(x)


class OneValue(SoundBlock):
    def visual_value(self, x):
        return x.norm(dim=(1, 2))


class AsksByItsValue(SoundBlock):
    def text_query(self, text):
        return split_heads(self.module.cross_attention.to_v(text[:, -1:]), self.heads)


class AsksWithAllWords(SoundBlock):
    def text_query(self, text):
        return split_heads(self.module.cross_attention.to_k(text), self.heads)


class AsksNothing(SoundBlock):
    def text_query(self, words):
        return super().text_query(words)


class SharesItsMlp(Toy):
    def __init__(self):
        super().__init__()
        self.blocks[1].mlp = self.blocks[0].mlp


class WritesIntoItsTokens(SoundBlock):
    def visual_value(self, x):
        return super().visual_value(x.mul_(2))


class WantsManyTokens(Block):
    class Wide(nn.Sequential):
        def forward(self, x):
            if x.shape[1] < 8:
                raise RuntimeError("too few tokens to pool")
            return super().forward(x)

    def __init__(self):
        super().__init__()
        self.mlp = self.Wide(*self.mlp)


class WantsMany(Toy):
    block = WantsManyTokens


class Guided(Toy):
    def forward(self, latents, time, text, guidance=None):
        return super().forward(latents, time, text)


class NamesTheGuidance(Sound):
    names = {"latents": "latents", "timestep": "guidance", "text": "text"}  # noqa: RUF012


class Draws(SoundBlock):
    def visual_value(self, x):
        return super().visual_value(x + torch.randn_like(x))


class KnowsItsGrid(SoundBlock):
    def visual_value(self, x):
        side = 8 // self.downsample
        return super().visual_value(x.unflatten(1, (side, side)).flatten(1, 2))


class Masked(Toy):
    def forward(self, latents, time, text, mask):
        return super().forward(latents + mask, time, text)


def with_mask(batch):
    return noise(batch) | {"mask": torch.ones(batch, 1, 8, 8)}


class NamesTheMask(Sound):
    names = {"latents": "mask", "timestep": "time", "text": "text"}  # noqa: RUF012


class NamesTimeAsText(Sound):
    names = {"latents": "latents", "timestep": "time", "text": "time"}  # noqa: RUF012


class NamesCopies(SoundBlock):
    def find(self, block):
        return copy.deepcopy(super().find(block))


def blocks(block, model=Toy):
    return lambda folder: denoiser_case_of_block(block, model=model)


def adapter(adapter, model=Toy, inputs=noise):
    return lambda folder: denoiser_case(adapter, model, inputs)


USABLE = "check_description_is_usable"

BROKEN = [
    (USABLE, adapter(TwoDenoisers), "lists 2 Denoisers"),
    (USABLE, blocks(NamesCopies), "no part of a block ran"),
    (USABLE, blocks(AsksNothing), r"text_query\(\) of block 0 fails: TypeError: .*'text'"),
    (USABLE, lambda folder: denoiser_case(restores=False), "restores=False, and sites.. lists RoundTrips: take it off"),
    ("check_every_block_is_listed", adapter(LeavesTheLastBlockOut), "leaves out blocks.2, of the same class"),
    ("check_shape_is_what_arrives", adapter(Sound, Toy, lambda batch: resized(batch, 10)), "says 64 .* 100 of width"),
    ("check_denoiser_surrounds_the_blocks", adapter(NamesNoArgument), r"Denoiser\(timestep='timestep'\): Toy.forward"),
    ("check_denoiser_surrounds_the_blocks", adapter(NamesTheLastLayer, WithTail), "block 0 of .* runs outside a call"),
    ("check_denoiser_surrounds_the_blocks", adapter(SizeIsAnothers), r"size is \(64, 64\), latents are 8 x 8"),
    ("check_denoiser_surrounds_the_blocks", adapter(ForgetsTheText), r"does not run on the Denoiser's own inputs"),
    ("check_parts_are_called_by_the_block", blocks(NamesTheSpare, WithSpare), "block 0 calls its feed_forward 0 times"),
    ("check_parts_are_called_by_the_block", blocks(NamesCopies), "is no submodule of its block"),
    ("check_parts_are_called_by_the_block", adapter(Sound, InTuples), "feed_forward of block 0, a Pair, returns tuple"),
    (
        "check_parts_are_called_by_the_block",
        adapter(ListsABlockTwice),
        "self_attention of block 1 is self_attention of block 0 as",
    ),
    ("check_parts_are_called_by_the_block", adapter(Sound, SharesItsMlp), "feed_forward of block 1 is feed_forward of"),
    ("check_downsample_is_the_grids", adapter(AllAtFullSize), "block 2 of downsample=1 gets 16 tokens; .* make 64"),
    ("check_downsample_is_the_grids", blocks(NamesTheWholeBlocksParts), "block 0 of downsample=1 gets 5 tokens"),
    ("check_attention_is_as_described", blocks(OneHead), "has heads=1, self_attention has 2"),
    ("check_attention_is_as_described", blocks(OneHeadOfEach), "has heads=4, self_attention has 2"),
    ("check_attention_is_as_described", blocks(WrongScale), "scale of block 0 is 1, .* by 0.3536"),
    ("check_attention_is_as_described", blocks(ValuesForKeys), r"keys\(\) of block 0 gives something else"),
    ("check_attention_is_as_described", blocks(KeysForQueries), r"queries\(\) of block 0 gives something else"),
    ("check_attention_is_as_described", blocks(AsksByItsValue), "is the key of no text token"),
    ("check_attention_is_as_described", blocks(AsksWithAllWords), r"shape \(2, 2, 5, 8\): it must be b h 1 e"),
    ("check_attention_is_as_described", blocks(NegativeValues), r"visual_value\(\) of block 0 returned .* negative"),
    ("check_attention_is_as_described", blocks(OneValue), r"returned shape \(2,\): it must be b n, here \(2, 64\)"),
    ("check_sizes_weigh_in_self_attention", blocks(ForgetsSizes), "does not make self-attention add log s"),
    ("check_parts_run_on_fewer_tokens", blocks(NamesAPartOfAPart), "feed_forward of block 0 got 2 sequences of 51"),
    ("check_outputs_are_restored_in_place", blocks(WritesIntoItsTokens), "writes into the tokens"),
    ("check_ratio_bounds", adapter(Sound, WantsMany), "with ratio=0.75 the model fails: too few tokens to pool"),
    (
        "check_ratio_may_follow_the_timestep",
        adapter(NamesTheGuidance, Guided),
        "timestep, 'guidance', is NoneType: it must be a number",
    ),
    ("check_same_seed_gives_the_same", blocks(Draws), "the global random state is drawn from"),
    ("check_other_latent_sizes", blocks(KnowsItsGrid), "latents of 9 x 5 fail: RuntimeError"),
    (
        "check_halves_of_a_guided_batch_merge_alike",
        adapter(NamesTheMask, Masked, with_mask),
        "two different images merge the same tokens",
    ),
    ("check_kept_matchings_are_renewed", adapter(NamesTimeAsText), "are not kept for the second .* name the text"),
    ("check_blocks_outside_the_denoiser_are_refused", blocks(NamesCopies), "no part of a block ran"),
]
"""Check, what breaks it, and what the message says. The folder given is empty and on sys.path."""


def resized(batch, side):
    return noise(batch) | {"latents": torch.randn(batch, 16, side, side)}
