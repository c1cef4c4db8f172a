"""The first check of every case: can it be used at all. Where it fails the others have nothing to say."""

from __future__ import annotations

import torch
from torch import Tensor

import turbo
from turbo.adapters import Unsupported
from turbo.testing.cases import AdapterCase, StrategyCase
from turbo.testing.compare import require
from turbo.testing.probe import compose, list_blocks, list_sites, shape_of, watch
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
        list_sites(case, model)
    except Unsupported as error:
        raise AssertionError(f"the adapter refuses its own example: {error}") from error
    turbo.restore(case.accelerate(model, drop=0))
    blocks = list_blocks(case, model)
    calls = watch(case, model, blocks, inputs)
    for name, value in calls[0].others.items():
        raise AssertionError(
            f"block 0 is called with {name}, a tensor {tuple(value.shape)}, that no map gets (a mask or a bias refers "
            "to single patches, which merge): this variant cannot be described, raise Unsupported in sites()"
        )
    compose(blocks[0], calls[0].x, 0)


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
