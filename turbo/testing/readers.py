"""Checks of what an adapter says about the layers in which a text reads an image's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turbo.adapters import Handover, Reader
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import differ, require, require_close
from turbo.testing.probe import by_name, first_argument, list_sites
from turbo.testing.results import NotApplicable
from turbo.testing.tokens import make_copies

_MERGED = 0.2
"""Share of the image tokens that merge among all readers: fewer than half, so that each has its copy to merge into."""


def check_readers_are_the_layers(case: AdapterCase) -> None:
    """queries, keys_values, attention and output compute what each cross-attention layer itself computes."""
    model = case.make_model()
    readers = _readers(case, model)
    calls: dict[int, tuple[Mapping[str, Any], Any]] = {}
    with ExitStack() as stack:
        for depth, reader in enumerate(readers):
            hook = partial(_note, calls, depth)
            stack.callback(reader.module.register_forward_hook(hook, with_kwargs=True).remove)
        case.run(model)
    if not calls:
        raise NotApplicable("the model's forward lets no text attend to the image")
    for depth, (given, output) in calls.items():
        reader = readers[depth]
        kind = f"reader {depth} ({type(reader.module).__name__})"
        require(
            isinstance(tokens := given.get(reader.argument), Tensor),
            f"{kind} got no image tokens as {reader.argument!r}: is that the argument's name? It got {sorted(given)}",
        )
        assert isinstance(tokens, Tensor)
        with torch.no_grad():
            q = reader.queries(given[first_argument(reader.module)])
            k, v = reader.keys_values(tokens, given)
            y = F.scaled_dot_product_attention(q, k, v, scale=reader.scale)
            found = reader.output(y.transpose(1, 2).flatten(2))
        require_close(_tensor(found), _tensor(output), f"the maps of {kind} compute something else than the layer")


def check_sizes_are_handed_over(case: AdapterCase) -> None:
    """Every text layer sees what the vision tower returned, and its image tokens by their sizes."""
    model = case.make_model()
    readers, given = _readers(case, model), list[Tensor]()
    handed: list[Tensor] = []
    with ExitStack() as stack:
        for reader in readers:
            hook = partial(_keep_argument, given, reader.argument)
            stack.callback(reader.module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        stack.callback(_handover(case, model).register_forward_hook(partial(_keep_output, handed)).remove)
        case.run(model)
    whole = [output for output in handed if output.ndim == 3]
    require(len(whole) == 1, f"the module of Handover returned b n d {len(whole)} times in a pass: it has to be once")
    require(
        all(tokens.shape == whole[0].shape and torch.equal(tokens, whole[0].to(tokens)) for tokens in given),
        "a reader got something else than the output of Handover's module: name the last module before the readers",
    )


def check_merged_image_tokens_change_nothing(case: AdapterCase) -> None:
    """Where the image tokens that merge between text layers are exact copies, the output is the untouched one."""
    model = case.make_model()
    merging = [reader for reader in _readers(case, model) if reader.merges]
    if len(merging) < 2:
        raise NotApplicable("image tokens merge between two text layers, and here they do not")
    plain = case.run(model)
    copying = _handover(case, model).register_forward_hook(partial(_copy_output, merging[0].protected))
    untouched = case.run(model)
    if not differ(plain, untouched):
        raise NotApplicable("the model's forward lets no text attend to the image")
    # In order, so that copies stay next to each other: one of them may merge, the other may receive.
    case.accelerate(model, "tome", drop=0, cross_modal=_MERGED / (len(merging) - 1), destinations="ordered")
    message = "merging exact copies of image tokens between text layers changes the output: do the maps use k and v?"
    require_close(case.run(model), untouched, message)
    copying.remove()
    require(differ(case.run(model), plain), "merging other image tokens than copies changes nothing: none merge")


def _readers(case: AdapterCase, model: nn.Module) -> list[Reader]:
    readers = [site for site in list_sites(case, model) if isinstance(site, Reader)]
    if not readers:
        raise NotApplicable("about text layers that attend to image tokens; sites() lists no Reader")
    return readers


def _handover(case: AdapterCase, model: nn.Module) -> nn.Module:
    found = [site.module for site in list_sites(case, model) if isinstance(site, Handover)]
    require(len(found) == 1, f"sites() lists {len(found)} Handovers: readers need one, what returns the image tokens")
    return found[0]


def _note(calls: dict[int, Any], depth: int, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    calls[depth] = (by_name(module, args, kwargs), output)


def _keep_argument(kept: list[Tensor], name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
    kept.append(by_name(module, args, kwargs)[name])


def _keep_output(kept: list[Tensor], module: nn.Module, args: Any, output: Tensor) -> None:
    kept.append(output)


def _copy_output(protected: int, module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return make_copies(protected, output) if output.ndim == 3 else output


def _tensor(output: Any) -> Tensor:
    found = output[0] if isinstance(output, tuple) else output
    require(isinstance(found, Tensor), f"a {type(found).__name__} comes first in what the layer returns, not a tensor")
    assert isinstance(found, Tensor)
    return found


CHECKS = (check_readers_are_the_layers, check_sizes_are_handed_over, check_merged_image_tokens_change_nothing)
