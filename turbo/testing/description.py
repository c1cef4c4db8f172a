"""Checks of what an adapter says about a model: that it is true, and complete."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

import turbo
from turbo.adapters import Refuse, Restore
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import differ, require, require_close
from turbo.testing.diagnosis import explain_difference
from turbo.testing.lightness import imports_of
from turbo.testing.parts import watch_parts
from turbo.testing.probe import compose, find_tower, first_argument, list_blocks, list_modules, list_sites, watch
from turbo.testing.results import NotApplicable


def check_supports_is_specific(case: AdapterCase) -> None:
    """The adapter fits its model and the subclasses of it, and no other class, not even one of the same name."""
    adapter, tower = case.instance, find_tower(case, case.make_model())
    cls = type(tower)
    subclass = type(cls.__name__, (cls,), {"__module__": __name__})
    heir: nn.Module = object.__new__(subclass)
    nn.Module.__init__(heir)
    require(
        adapter.distance(heir) is not None,
        f"distance() is None for a subclass of {cls.__name__}: look through type(model).__mro__, as "
        "Adapter.distance does",
    )
    strangers = {
        "an nn.Identity": nn.Identity(),
        f"another class called {cls.__name__}": type(cls.__name__, (nn.Module,), {"__module__": "elsewhere"})(),
        f"another class called {cls.__module__}.{cls.__name__}": type(
            cls.__name__, (nn.Module,), {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        )(),
        "None": None,
    }
    for what, stranger in strangers.items():
        distance = adapter.distance(stranger)
        require(
            distance is None,
            f"distance() is {distance} for {what}: compare classes, not their names; better, set target and leave "
            "distance() as it is",
        )


def check_is_found_by_itself(case: AdapterCase) -> None:
    """`turbo.accelerate` without an adapter= chooses this one for its model."""
    if not isinstance(case.adapter, str):
        raise NotApplicable("the case gives the adapter itself; give its registered name to ask for this")
    model = case.make_model()
    turbo.accelerate(model, **case.nothing)
    found = turbo.report(model).adapter
    require(
        found == case.adapter,
        f"turbo.accelerate chose the adapter {found!r}, not {case.adapter!r}: its target class is nearer to the "
        "model's",
    )


def check_import_is_light(case: AdapterCase) -> None:
    """Importing the adapter and asking it about a stranger imports no model library."""
    loaded = imports_of(case.instance)
    require(
        not loaded,
        f"importing {type(case.instance).__module__} imports {', '.join(loaded)}: name the class in target as a "
        "string, and import the library in the functions that need it",
    )


def check_shape_is_what_arrives(case: AdapterCase) -> None:
    """The tokens n and the width d that shape() declares enter the first block; of a denoiser, its finest block."""
    model = case.make_model()
    if case.round_trips:
        finest = min(range(len(case.round_trips)), key=lambda index: case.round_trips[index].downsample)
        calls = watch_parts(case, model, case.make_inputs())
        _, n, width = next(call.x.shape for call in calls if call.index == finest)
    else:
        _, n, width = watch(case, model, list_blocks(case, model), case.make_inputs())[0].x.shape
    declared = tuple(case.instance.shape(find_tower(case, model)))
    require(
        declared == (n, width),
        f"shape() says {declared[0]} tokens of width {declared[1]}; {n} of width {width} enter the block: class, "
        "distillation and register tokens count; the case's inputs have to be of the model's own resolution",
    )


def check_maps_are_the_block(case: AdapterCase) -> None:
    """On full sequences qkv, attention, project and mlp compute what the block itself computes, block by block."""
    model = case.make_model()
    blocks = list_blocks(case, model)
    calls = watch(case, model, blocks, case.make_inputs())
    for depth, (block, call) in enumerate(zip(blocks, calls, strict=True)):
        found = compose(block, call, depth)
        if differ(found, call.output):
            require_close(
                found,
                call.output,
                f"the maps of block {depth} ({type(block.module).__name__}) compute something else than the block; "
                f"{explain_difference(case, model, block, depth)} (usual causes: LayerScale, q/k norm, an inner norm, "
                "the scale or the number of heads left out or wrong; upstream arithmetic repeated instead of called)",
            )


def check_every_block_is_listed(case: AdapterCase) -> None:
    """sites() lists every module of the tower that is of a listed block's class and runs on tokens that may merge."""
    # Where tokens stay merged, those are as many, untouched, as enter the first block (a text tower has others), and it
    # is before the last Restore gives all tokens back.
    model = case.make_model()
    tower, listed = find_tower(case, model), set(list_modules(case, model))
    classes = {type(module) for module in listed}
    blocks = [] if case.round_trips else list_blocks(case, model)
    n = watch(case, model, blocks, case.make_inputs())[0].x.shape[1] if blocks else None
    ran: list[str] = []
    whole: list[nn.Module] = []

    def note(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs[first_argument(module)]
        if not whole and n in (None, x.shape[1]):
            ran.append(name)

    with ExitStack() as stack:
        for name, module in tower.named_modules():
            if type(module) in classes and module not in listed:
                handle = module.register_forward_pre_hook(partial(note, name), with_kwargs=True)
                stack.callback(handle.remove)
        for site in [site for site in list_sites(case, model) if isinstance(site, Restore)][-1:]:
            handle = site.module.register_forward_hook(lambda module, *_: whole.append(module))
            stack.callback(handle.remove)
        case.run(model)
    require(
        not ran,
        f"sites() leaves out {', '.join(ran)}, of the same class as the blocks it lists: tokens do not merge there, "
        "and attention does not weigh merged tokens by their sizes",
    )


def check_blocks_follow_each_other(case: AdapterCase) -> None:
    """Each block gets the tokens that the one before it returned: same tokens, same order, none in between."""
    model = case.make_model()
    calls = watch(case, model, list_blocks(case, model), case.make_inputs())
    for depth, (before, after) in enumerate(itertools.pairwise(calls), start=1):
        require(
            before.output.shape == after.x.shape and torch.equal(before.output, after.x),
            f"block {depth} gets other tokens than block {depth - 1} returned (shapes {tuple(after.x.shape)} and "
            f"{tuple(before.output.shape)}): sizes travel from block to block by position, so a model that "
            "reorders, adds or removes tokens between blocks cannot be described, nor can blocks listed out of "
            "order",
        )


def check_prefix_tokens_are_protected(case: AdapterCase) -> None:
    """Protected are the leading tokens that are the same for every image, as class tokens are, and no others."""
    model = case.make_model()
    blocks = list_blocks(case, model)
    x = watch(case, model, blocks, case.make_inputs(batch=2))[0].x
    scale = x.abs().max()
    same = ((x[0] - x[1]).abs().amax(dim=1) <= 100 * torch.finfo(x.dtype).eps * scale).long()
    prefix = int(same.cumprod(0).sum())
    require(prefix < x.shape[1], "both images of inputs(2) give the same tokens: make them random")
    for depth, block in enumerate(blocks):
        require(
            block.protected == prefix,
            f"block {depth} protects {block.protected} leading tokens, {prefix} are the same for every image: class, "
            "distillation and register tokens must never merge, patches may",
        )
        require(
            prefix > 0 or not block.class_token,
            f"block {depth} says that token 0 is a class token, and it depends on the image: pass class_token=False",
        )


def check_refused_methods_refuse(case: AdapterCase) -> None:
    """Every method that sites() refuses exists, raises a TurboError while tokens merge, and comes back."""
    model = case.make_model()
    refused = [site for site in list_sites(case, model) if isinstance(site, Refuse)]
    if not refused:
        raise NotApplicable("sites() refuses no method")
    for site in refused:
        kind = type(site.module).__name__
        require(
            callable(getattr(type(site.module), site.method, None)),
            f"sites() refuses {kind}.{site.method}, which does not exist: a misspelt name protects nobody",
        )
        require(site.reason.strip(), f"Refuse({kind}, {site.method!r}) gives no reason; users read it")
    case.accelerate(model)
    for site in refused:
        try:
            getattr(site.module, site.method)()
        except turbo.TurboError as error:
            require(site.reason in str(error), f"{site.method} raised something else: {error}")
        else:
            raise AssertionError(f"{site.method} ran although it is refused")
    turbo.restore(model)
    for site in refused:
        require(site.method not in site.module.__dict__, f"{site.method} is not the module's own again after restore")


CHECKS = (
    check_supports_is_specific,
    check_is_found_by_itself,
    check_import_is_light,
    check_shape_is_what_arrives,
    check_maps_are_the_block,
    check_every_block_is_listed,
    check_blocks_follow_each_other,
    check_prefix_tokens_are_protected,
    check_refused_methods_refuse,
)
