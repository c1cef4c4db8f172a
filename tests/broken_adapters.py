"""For every check of an adapter an adapter, or a model, that breaks this promise."""

from __future__ import annotations

import time
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import nn
from toy_model import WIDTH, Block, Model, Sound, SoundBlock, case_of, case_of_block, images

from turbo.adapters import Refuse, ResidualBlock, Restore, split_qkv
from turbo.testing import AdapterCase


class MatchesByName(Sound):
    def distance(self, model):
        return 0 if type(model).__name__ == "Model" else None


class MatchesTheClassAlone(Sound):
    def distance(self, model):
        return 0 if type(model) is Model else None


class CountsPatchesOnly(Sound):
    def shape(self, model):
        return model.positions.shape[1], WIDTH


class ForgetsLayerScale(SoundBlock):
    def project(self, y):
        return self.module.out(y)


class WrongScale(SoundBlock):
    scale = 1.0


class ScalesTwice(SoundBlock):
    def qkv(self, x):
        q, k, v = super().qkv(x)
        return q * q.shape[-1] ** -0.5, k, v


class OneHead(SoundBlock):
    def qkv(self, x):
        return split_qkv(self.module.qkv(self.module.norm1(x)), 1)


class MlpTwice(SoundBlock):
    def mlp(self, x):
        return 2 * super().mlp(x)


class Table(nn.Module):
    """Attention that holds a parameter of its own next to its parts."""

    def __init__(self):
        super().__init__()
        self.bias, self.out = nn.Parameter(torch.zeros(WIDTH)), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.out(x) + self.bias


class WithTable(Model):
    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.out = Table()


class ForgetsTheTable(SoundBlock):
    def project(self, y):
        return self.module.scale1(self.module.out.out(y))


class ForgetsTheNorm(SoundBlock):
    def mlp(self, x):
        return self.module.scale2(self.module.mlp(x))


class TokensFirst(SoundBlock):
    def qkv(self, x):
        return tuple(part.transpose(1, 2) for part in super().qkv(x))


class LeavesTheLastBlockOut(Sound):
    def sites(self, model):
        first, second, _, *rest = super().sites(model)
        return [first, second, *rest]


class ListsBackwards(Sound):
    def sites(self, model):
        first, second, third, *rest = super().sites(model)
        return [third, second, first, *rest]


class Reorders(Model):
    def between(self, x):
        return torch.cat([x[:, :1], x[:, 1:].flip(1)], dim=1)


class ProtectsOne(Sound):
    def sites(self, model):
        return [SoundBlock(block) for block in model.blocks]


class SeesAClassToken(Sound):
    """In a model without one."""

    def sites(self, model):
        return [SoundBlock(block, protected=0) for block in model.blocks]


class RefusesNothing(Sound):
    def sites(self, model):
        return [*super().sites(model), Refuse(model, "grid_of_patches", "misspelt")]


class ChangesTheModel(Sound):
    def sites(self, model):
        model.norm.eps = 0.1
        return super().sites(model)


class PatchesTheClass(Sound):
    def sites(self, model):
        type(model).turbo = True
        return super().sites(model)


class LeavesAnAttribute(Sound):
    def sites(self, model):
        model.blocks[0].depth = 0
        return super().sites(model)


class LeavesAHook(Sound):
    def sites(self, model):
        model.head.register_forward_pre_hook(_nothing)
        return super().sites(model)


def _nothing(module, args):
    return None


class ReplacesAWeight(Sound):
    def sites(self, model):
        model.head.weight = nn.Parameter(model.head.weight.detach().clone())
        return super().sites(model)


class AddsABuffer(Sound):
    def sites(self, model):
        model.register_buffer("sizes", torch.ones(1))
        return super().sites(model)


class CountsItsCalls(Sound):
    """The second time it is asked about a model it forgets a block."""

    def __init__(self):
        self.calls = WeakKeyDictionary()

    def sites(self, model):
        self.calls[model] = self.calls.get(model, 0) + 1
        sites = super().sites(model)
        return sites[1:] if self.calls[model] > 1 else sites


class TwoInputs(Model):
    def forward(self, images, background):
        return super().forward(images - 0.5 * background)


def wrong_order(batch):
    return {"background": torch.randn(batch, 24, WIDTH)} | images(batch)


class ListsWhatDoesNotRun(Sound):
    def sites(self, model):
        return [SoundBlock(block) for block in [*model.blocks, model.spare]]


class WithSpare(Model):
    def __init__(self):
        super().__init__()
        self.spare = Block()


class ProtectsFewerLater(Sound):
    def sites(self, model):
        first, *others = model.blocks
        return [SoundBlock(first, protected=2), *(SoundBlock(block, protected=1) for block in others)]


class TwoRegisters(Model):
    def __init__(self):
        super().__init__(prefix=2)


class RunsTwice(Model):
    def forward(self, images):
        return super().forward(images) + super().forward(images.flip(1))


class ForgetsRestore(Sound):
    """The model's head is a mean over all tokens."""

    def sites(self, model):
        return [site for site in super().sites(model) if not isinstance(site, Restore)]


class RestoresTooEarly(Sound):
    def sites(self, model):
        return [*super().sites(model), Restore(model.blocks[0])]


class RestoresWhatHasNoTokens(Sound):
    def sites(self, model):
        return [*super().sites(model), Restore(model.patchify)]


class ImageText(Model):
    """Logits of each image with each."""

    def forward(self, images):
        features = super().forward(images)
        return features @ features.T


class MixesImages(SoundBlock):
    def query(self, q):
        return q[:, :, :1].mean(dim=0, keepdim=True).expand(len(q), -1, -1, -1)


class RemembersTheFirstBatch(SoundBlock):
    first = None

    def query(self, q):
        self.first = q[:, :, :1] if self.first is None else self.first
        return self.first


class KeepsState(SoundBlock):
    busy = False

    def qkv(self, x):
        q, k, v = super().qkv(x)
        busy, self.busy = self.busy, True
        return (q, k, 0 * v) if busy else (q, k, v)

    def mlp(self, x):
        self.busy = False
        return super().mlp(x)


class CachesBlocks(Sound):
    def __init__(self):
        self.known = {}

    def sites(self, model):
        return self.known.setdefault(type(model), super().sites(model))


class Stashes(SoundBlock):
    images = 0

    def qkv(self, x):
        self.images = len(x)
        time.sleep(0.005)
        return super().qkv(x)

    def project(self, y):
        return super().project(y)[: self.images]


class QueryOfNaN(SoundBlock):
    def query(self, q):
        return q[:, :, :1] * float("nan")


class Detaches(SoundBlock):
    def project(self, y):
        return super().project(y).detach()


class AnotherEachTime(SoundBlock):
    calls = 0

    def mlp(self, x):
        self.calls += 1
        return super().mlp(x) * (1 + 0.1 * (self.calls % 2))


class IgnoresCheckpointing(SoundBlock):
    def checkpointing(self):
        return None


class Upcasts(SoundBlock):
    def project(self, y):
        return super().project(y).float()


class MakesACpuTensor(SoundBlock):
    def mlp(self, x):
        return super().mlp(x) + torch.zeros(WIDTH)


class HoldsALambda(SoundBlock):
    def __init__(self, module, **options):
        super().__init__(module, **options)
        self.activation = lambda x: x


class LooksAtNumbers(SoundBlock):
    def mlp(self, x):
        return super().mlp(x) if x.sum().item() < 1e30 else x


class TwoTowers(nn.Module):
    """A ViT, and a DINOv2 that the adapter `vit` says nothing about."""

    def __init__(self):
        from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

        super().__init__()
        size = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        self.left, self.right = ViTModel(ViTConfig(**size)), Dinov2Model(Dinov2Config(**size))

    def forward(self, pixel_values):
        return self.left(pixel_values).pooler_output + self.right(pixel_values).pooler_output


def two_towers(folder: Path) -> AdapterCase:
    return AdapterCase("vit", TwoTowers, lambda batch: {"pixel_values": torch.randn(batch, 3, 32, 32)})


def imports_its_library(folder: Path) -> AdapterCase:
    """A package of an adapter, which imports the package of its model at the top. The folder is on sys.path."""
    import importlib

    (folder / "heavy_library").mkdir()
    (folder / "heavy_library" / "__init__.py").write_text("")
    (folder / "heavy_library" / "models.py").write_text("from toy_model import Model\n")
    (folder / "heavy_plugin.py").write_text(
        "import heavy_library.models\nfrom toy_model import Sound\n\n"
        "class Heavy(Sound):\n    target = 'heavy_library.models:Model'\n"
    )
    importlib.invalidate_caches()
    return case_of(importlib.import_module("heavy_plugin").Heavy)


def fresh_class(folder: Path) -> AdapterCase:
    """A model class of its own, since the adapter patches it."""
    return case_of(PatchesTheClass, type("Patched", (Model,), {}), pickles=False)


class NoClassToken(Model):
    def __init__(self):
        super().__init__(prefix=0)


def blocks(block: type[ResidualBlock]):
    return lambda folder: case_of_block(block)


def adapter(adapter: type[Sound], model=Model, inputs=images):
    return lambda folder: case_of(adapter, model, inputs)


BROKEN = [
    ("check_supports_is_specific", adapter(MatchesByName), "compare classes, not their names"),
    ("check_supports_is_specific", adapter(MatchesTheClassAlone), "None for a subclass of Model"),
    ("check_is_found_by_itself", two_towers, "holds 2 towers"),
    (
        "check_import_is_light",
        imports_its_library,
        "importing heavy_plugin imports heavy_library, heavy_library.models",
    ),
    ("check_shape_is_what_arrives", adapter(CountsPatchesOnly), "says 24 tokens of width 16; 25 of width 16 enter"),
    ("check_maps_are_the_block", blocks(ForgetsLayerScale), r"of block 0 .* the maps never call scale1 .*LayerScale"),
    (
        "check_maps_are_the_block",
        blocks(WrongScale),
        "with the default scale, 1/√e, it matches: leave `scale` as it is",
    ),
    ("check_maps_are_the_block", blocks(ScalesTwice), "with scale=1 it matches: return q unscaled .* or set `scale`"),
    ("check_maps_are_the_block", blocks(OneHead), "the attention half differs, the MLP half agrees.* number of heads"),
    ("check_maps_are_the_block", blocks(MlpTwice), "the MLP half differs, the attention half agrees"),
    (
        "check_maps_are_the_block",
        lambda folder: case_of_block(ForgetsTheTable, model=WithTable),
        r"the block; the maps do not use out.bias \(usual",
    ),
    ("check_maps_are_the_block", blocks(TokensFirst), r"q of shape \(2, 25, 2, 8\) .* must be b h n e"),
    ("check_every_block_is_listed", adapter(LeavesTheLastBlockOut), "leaves out blocks.2, of the same class"),
    ("check_blocks_follow_each_other", adapter(Sound, Reorders), "block 1 gets other tokens than block 0 returned"),
    ("check_blocks_follow_each_other", adapter(ListsBackwards), "blocks listed out of order"),
    (
        "check_prefix_tokens_are_protected",
        adapter(ProtectsOne, TwoRegisters),
        "protects 1 leading tokens, 2 are the same",
    ),
    ("check_prefix_tokens_are_protected", adapter(SeesAClassToken, NoClassToken), "pass class_token=False"),
    ("check_refused_methods_refuse", adapter(RefusesNothing), "refuses Model.grid_of_patches, which does not exist"),
    ("check_noop_is_exact", adapter(ChangesTheModel), "an adapter describes and changes nothing"),
    ("check_nothing_to_merge_is_exact", blocks(ForgetsLayerScale), "nothing merged, yet the output is another one"),
    ("check_restore_leaves_no_trace", fresh_class, "something else than before is in class Patched"),
    (
        "check_restore_leaves_no_trace",
        adapter(LeavesAnAttribute),
        r"is in blocks.0 \(Block\): sites\(\) must set nothing",
    ),
    ("check_restore_leaves_no_trace", adapter(LeavesAHook), r"is in head \(Linear\)._forward_pre_hooks"),
    ("check_state_dict_is_untouched", adapter(AddsABuffer), "other keys: sizes"),
    ("check_state_dict_is_untouched", adapter(ReplacesAWeight), "head.weight has another storage"),
    ("check_accelerate_is_idempotent", adapter(CountsItsCalls), r"not that of the newer settings alone \(sites\(\)"),
    ("check_keyword_calls", adapter(Sound, TwoInputs, wrong_order), "by position and by keyword differ"),
    ("check_token_counts_follow_schedule", adapter(ListsWhatDoesNotRun, WithSpare), "block 3 of .* ran 0 times"),
    ("check_protected_tokens_survive", adapter(ProtectsFewerLater, TwoRegisters), "must be the same in all blocks"),
    ("check_sizes_are_conserved", adapter(Sound, RunsTwice), "the first block ran 2 times in one forward pass"),
    ("check_restored_outputs_have_every_token", adapter(RestoresTooEarly), r"returns shape \(2, 22, 16\), untouched"),
    ("check_restored_outputs_have_every_token", adapter(RestoresWhatHasNoTokens), "24 tokens, 25 entered"),
    ("check_merged_duplicates_change_nothing", adapter(ForgetsRestore), r"end sites\(\) with Restore\(the last norm\)"),
    ("check_merged_duplicates_change_nothing", adapter(ForgetsRestore, NoClassToken), "reads all patches"),
    (
        "check_batch_independence",
        adapter(Sound, ImageText),
        r"\(3, 3\) for 3 images and \(1, 1\) for one: .* give output=",
    ),
    ("check_batch_independence", blocks(MixesImages), "an image's Attention score in block 1 depends"),
    ("check_other_batch_sizes_need_no_new_call", blocks(RemembersTheFirstBatch), ""),
    ("check_exception_poisons_nothing", blocks(KeepsState), "after an exception in a strategy"),
    ("check_two_models_do_not_interfere", adapter(CachesBlocks), ""),
    ("check_threads_share_a_model", blocks(Stashes), "threads disturb each other"),
    (
        "check_every_strategy_runs",
        blocks(QueryOfNaN),
        r"with strategy='attention' the model fails: .*query\(\) returns NaN",
    ),
    ("check_gradients_flow", blocks(ForgetsTheNorm), "norm2.weight has no .* never uses it: see check_maps_are_the"),
    ("check_gradients_flow", blocks(Detaches), r"has no gradient while accelerated \(a map detaches"),
    ("check_checkpointed_blocks_give_the_same_gradients", blocks(AnotherEachTime), "it keeps no state"),
    ("check_own_checkpointing_gives_the_same_gradients", blocks(IgnoresCheckpointing), r"override checkpointing\(\)"),
    ("check_half_precision_keeps_its_type", blocks(Upcasts), "a map returns another dtype than it got"),
    ("check_device_is_kept", blocks(MakesACpuTensor), r"a map makes a tensor without device=x.device"),
    ("check_deepcopy_and_pickle", blocks(HoldsALambda), "must hold no lambda"),
    ("check_compiles", blocks(LooksAtNumbers), "no single graph"),
]
"""Check, what breaks it, and what the message says. The folder given is empty and on sys.path."""
