"""Checks of where tokens go: how many are left, which never merge, and that none is lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import turbo
from turbo.adapters import Restore, RotaryBlock
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import require, require_close, require_equal
from turbo.testing.probe import first_argument, list_blocks, list_sites, parameters, watch, watching
from turbo.testing.results import NotApplicable


def check_token_counts_follow_schedule(case: AdapterCase) -> None:
    """The tokens that enter and leave each block are those asked for, promised by the report and recorded."""
    model = case.make_model()
    blocks, inputs = list_blocks(case, model), case.make_inputs()
    n, protected = watch(case, model, blocks, inputs)[0].x.shape[1], blocks[0].protected
    drop = max(1, (n - protected) // (2 * len(blocks) + 1))
    wanted = [n]
    for _ in blocks:
        wanted.append(wanted[-1] - min(drop, (wanted[-1] - protected) // 2))
    require(
        n - wanted[-1] >= 2,
        f"the sample model has only {n} tokens, so next to nothing merges: give the case a larger image or smaller "
        "patches",
    )
    case.accelerate(model, drop=drop)
    promised = _report(model)
    with turbo.recording(model) as trace:
        calls = watch(case, model, blocks, inputs)
    for what, found, asked in (
        ("the report promises", promised, wanted[1:]),
        ("blocks get", [call.x.shape[1] for call in calls], wanted[:-1]),
        ("the report says afterwards", _report(model), wanted[1:]),
    ):
        require(
            found == asked,
            f"{what} {found} tokens, {asked} were asked for (drop={drop}, {n} tokens); where "
            "check_shape_is_what_arrives fails too, see that first",
        )
    recorded = {block.depth: block.size.shape[1] for block in trace.blocks}
    merging = {depth: after for depth, (before, after) in enumerate(itertools.pairwise(wanted)) if before > after}
    require(recorded == merging, f"tokens recorded by block: {recorded}, asked for: {merging}")


def _report(model: nn.Module) -> list[int]:
    return [block.tokens_out for block in turbo.report(model).blocks]


def check_protected_tokens_survive(case: AdapterCase) -> None:
    """Class, distillation and register tokens stay where they are and stand for themselves alone, in every block."""
    model = case.accelerate(case.make_model())
    blocks, inputs = list_blocks(case, model), case.make_inputs()
    protected = max(block.protected for block in blocks)
    with turbo.recording(model) as trace:
        case.run(model, inputs)
    places = torch.arange(protected)
    for block in trace.blocks:
        assignment, size = block.assignment[:, :protected].cpu(), block.size[:, :protected]
        require(
            torch.equal(assignment, places.expand_as(assignment)),
            f"in block {block.depth} the first {protected} tokens go to positions {assignment[0].tolist()}: "
            "protected must be the same in all blocks",
        )
        found = size.flatten().tolist()
        require(
            all(each == 1 for each in found),
            f"after block {block.depth} protected tokens have sizes {found}: others merged into them",
        )


def check_sizes_are_conserved(case: AdapterCase) -> None:
    """Sizes add up to the tokens that entered, and each of these is in exactly one group of its token's size."""
    model = case.accelerate(case.make_model())
    blocks, inputs = list_blocks(case, model), case.make_inputs()
    with turbo.recording(model) as trace, watching(blocks) as watched:
        case.run(model, inputs)
    passes = len(watched.calls.get(0, []))
    require(
        passes == 1,
        f"the first block ran {passes} times in one forward pass of the model: what merges in one run says nothing "
        "about the next, so a model that runs its tower several times cannot be described",
    )
    n = watched.one(0).x.shape[1]
    require(trace.blocks, "no block merged anything")
    for block in trace.blocks:
        total = block.size.sum(dim=1)
        require(
            bool((total == n).all()), f"after block {block.depth} sizes add up to {total.tolist()}, {n} tokens entered"
        )
    groups, size = trace.groups(), trace.blocks[-1].size
    counted = torch.stack([row.bincount(minlength=size.shape[1]) for row in groups]).to(size.dtype)
    require(groups.shape[1] == n, f"{groups.shape[1]} tokens are in groups, {n} entered")
    require_equal(counted, size, "tokens per group and sizes differ")


def check_restored_outputs_have_every_token(case: AdapterCase) -> None:
    """What a Restore site returns has every token again, tokens of a group alike; the output keeps its shape."""
    model = case.make_model()
    sites = [site for site in list_sites(case, model) if isinstance(site, Restore)]
    if not sites:
        raise NotApplicable("sites() restores no sequence")
    outputs: list[Tensor] = []
    handles = [site.module.register_forward_hook(lambda *call: outputs.append(call[2])) for site in sites]
    untouched, whole = case.run(model), list(outputs)
    outputs.clear()
    case.accelerate(model)
    with turbo.recording(model) as trace:
        fast = case.run(model)
    for handle in handles:
        handle.remove()
    require(
        fast.shape == untouched.shape, f"the output has shape {tuple(fast.shape)}, untouched {tuple(untouched.shape)}"
    )
    require(len(outputs) == len(whole), f"Restore sites ran {len(outputs)} times, {len(whole)} times untouched")
    require(outputs, "no module of a Restore site ran: list the module whose output is read")
    groups = trace.groups()
    for found, wanted in zip(outputs, whole, strict=True):
        require(
            found.shape == wanted.shape,
            f"a Restore site returns shape {tuple(found.shape)}, untouched {tuple(wanted.shape)}",
        )
        entered = groups.shape[1]
        require(
            found.ndim == 3 and found.shape[1] == entered,
            f"a Restore site returns {found.shape[1]} tokens, {entered} entered the first block: its module must "
            "return all tokens, b n d",
        )
        index = groups[..., None].expand(-1, -1, found.shape[-1])
        representative = torch.zeros_like(found).scatter(1, index, found)
        require_equal(
            representative.gather(1, index),
            found,
            "tokens of one group get different outputs from a Restore site (its module must run on merged tokens: "
            "the last block or what follows it)",
        )


def check_merged_duplicates_change_nothing(case: AdapterCase) -> None:
    """Where the tokens that merge are exact copies of each other, the output is the untouched one up to rounding."""
    # With rotary positions, copies are in the same place.
    model = case.make_model()
    blocks = list_blocks(case, model)
    protected = blocks[0].protected
    n = watch(case, model, blocks, case.make_inputs())[0].x.shape[1]
    drop = (n - protected) // 4  # half of the pairs: were all of them merged, a mean over the tokens would not notice
    require(drop, f"the sample model has only {n} tokens, too few pairs of them: give the case a larger image")
    first = blocks[0].module
    twice = _Duplicate(first_argument(first), partial(make_copies, protected))
    first.register_forward_pre_hook(twice, with_kwargs=True)
    for block in blocks:
        if isinstance(block, RotaryBlock):
            together = _Duplicate(block.argument, partial(_copied_places, block))
            block.module.register_forward_pre_hook(together, with_kwargs=True)
    untouched = case.run(model)
    case.accelerate(model, "tome", drop=[drop] + [0] * (len(blocks) - 1))
    require_close(
        case.run(model),
        untouched,
        "merging exact duplicates changes the output: something after the blocks reads all patches (a mean, an "
        "attention pool): end sites() with Restore(the last norm), or with Restore(the last block) where no norm runs "
        "on all tokens; where it reads merged tokens on purpose, each once, counts_patches=False; where "
        "check_maps_are_the_block fails too, see that first",
    )


class _Duplicate:
    """A hook that has one argument of a block replaced."""

    def __init__(self, argument: str, change: Callable[[Any], Any]) -> None:
        self.argument = argument
        self.change = change

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.argument in kwargs:
            return args, kwargs | {self.argument: self.change(kwargs[self.argument])}
        index = parameters(module).index(self.argument)
        return (*args[:index], self.change(args[index]), *args[index + 1 :]), kwargs


def make_copies(protected: int, x: Tensor) -> Tensor:
    """Every second unprotected token of ``b n c`` a copy of the one before it, its partner in a merge."""
    x = x.clone()
    patches = x[..., protected:, :]
    last = patches.shape[-2] // 2 * 2
    patches[..., 1:last:2, :] = patches[..., 0:last:2, :]
    return x


def _copied_places(block: RotaryBlock, given: Any) -> Any:
    """The argument by which every second patch is where the one before it is."""
    cos, sin = block.turns(given)
    return block.given(make_copies(0, cos), make_copies(0, sin))


CHECKS = (
    check_token_counts_follow_schedule,
    check_protected_tokens_survive,
    check_sizes_are_conserved,
    check_restored_outputs_have_every_token,
    check_merged_duplicates_change_nothing,
)
