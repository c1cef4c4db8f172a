"""The first check of every case: can it be used at all. Where it fails the others have nothing to say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import turbo
from turbo.adapters import Restore, RoundTrip, Site, Unsupported
from turbo.testing.cases import AdapterCase, StrategyCase
from turbo.testing.compare import require
from turbo.testing.parts import PartCall, watch_parts
from turbo.testing.probe import compose, list_blocks, list_round_trips, list_sites, shape_of, watch
from turbo.testing.results import place_of
from turbo.testing.samples import DEPTHS, sample


def check_description_is_usable(case: AdapterCase) -> None:
    """The model runs on its inputs, turbo takes what sites() and shape() return, and the maps run on block 0."""
    model, inputs = case.make_model(), case.make_inputs()
    try:
        case.run(model, inputs)
    except turbo.TurboError:
        raise
    except Exception as error:
        raise AssertionError(
            f"the untouched model does not run on inputs(2): {type(error).__name__}: {error} (keywords or shapes that "
            "its forward does not take)"
        ) from error
    try:
        sites = list_sites(case, model)
    except Unsupported as error:
        raise AssertionError(f"the adapter refuses its own example: {error}") from error
    restores = any(isinstance(site, RoundTrip) for site in sites)
    require(
        case.restores in (None, restores),
        f"restores={case.restores}, and sites() lists {'RoundTrips' if restores else 'no RoundTrip'}: take it off",
    )
    if restores:
        _require_maps_run(list_round_trips(case, model), watch_parts(case, model, inputs))
    turbo.restore(case.accelerate(model, **case.nothing))
    if restores:
        return
    blocks = list_blocks(case, model)
    calls = watch(case, model, blocks, inputs)
    for name, value in calls[0].others.items():
        raise AssertionError(
            f"block 0 is called with {name}, a tensor {tuple(value.shape)}, that no map gets (a mask or a bias refers "
            "to single patches, which merge): this variant cannot be described, raise Unsupported in sites()"
        )
    compose(blocks[0], calls[0], 0)
    _require_tokens_to_restore(case, model, sites)


def _require_tokens_to_restore(case: AdapterCase, model: nn.Module, sites: list[Site]) -> None:
    """What a Restore module returns is tokens; a norm behind a mean, say, returns none."""
    for module in [site.module for site in sites if isinstance(site, Restore)]:
        outputs: list[Any] = []
        handle = module.register_forward_hook(lambda _, args, output, outputs=outputs: outputs.append(output))
        try:
            case.run(model)
        finally:
            handle.remove()
        require(
            not outputs or any(isinstance(output, Tensor) and output.ndim == 3 for output in outputs),
            f"Restore({type(module).__name__}) returns {shape_of(outputs[0])}, not all tokens, b n d: "
            "give Restore the last module that returns them (the last block, where no norm runs on all tokens)",
        )


def _require_maps_run(blocks: list[RoundTrip], calls: list[PartCall]) -> None:
    """What each map of a round-trip block is called with is there, and it takes it."""
    require(calls, "no part of a block ran: name the very modules that the block calls")
    maps = {"self_attention": ("keys", "visual_value"), "cross_attention": ("queries", "text_query")}
    for call in calls[: len(blocks[0].parts)]:
        block = blocks[call.index]
        for name in maps.get(call.part, ()):
            try:
                with torch.no_grad():
                    found: Any = getattr(block, name)
                    if name == "text_query":
                        found(*call.rest, **call.named)
                    else:
                        found(call.x) if name == "visual_value" else found()(call.x)
            except Exception as error:
                raise AssertionError(
                    f"{name}() of block {call.index} fails: {type(error).__name__}: {error}{place_of(error)}"
                ) from error


def check_strategy_is_callable(case: StrategyCase) -> None:
    """It takes candidates, of a first block and of a deep one, and returns a tensor of one number per source."""
    for depth in (0, DEPTHS[-1]):
        candidates = sample(depth, torch.float32, images=2, tokens=64)
        try:
            found = case.function(candidates)
        except Exception as error:
            raise AssertionError(
                f"in block {depth} it fails: {type(error).__name__}: {error}{place_of(error)}"
            ) from error
        wanted = candidates.redundancy.shape
        require(
            isinstance(found, Tensor) and found.shape == wanted,
            f"it returns {shape_of(found)}: it must return a tensor, b m, of the shape {tuple(wanted)} of "
            "candidates.redundancy",
        )
