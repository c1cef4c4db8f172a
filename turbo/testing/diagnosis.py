"""Why a block's maps compute something else than the block: which part is left out, or which half is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from turbo.adapters import ResidualBlock
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import differ
from turbo.testing.probe import Call, attend, feed_forward, watch


def explain_difference(case: AdapterCase, model: nn.Module, block: ResidualBlock, depth: int) -> str:
    """What can be told, in words: what the maps leave out, else what is wrong with which half.

    The model is run once more, and its parameters take gradients from then on.
    """
    with _called_parts(block) as inputs:
        [call] = watch(case, model, [block], case.make_inputs())
    left_out = [*_tensors_left_out(call), *_parts_left_out(block, list(inputs), call, depth)]
    return "; ".join(left_out) or _wrong_half(block, inputs, call, depth)


def _tensors_left_out(call: Call) -> Iterator[str]:
    for name, value in call.others.items():
        yield f"the block is called with {name}, a tensor {tuple(value.shape)}, that no map gets"


def _parts_left_out(block: ResidualBlock, upstream: list[str], call: Call, depth: int) -> Iterator[str]:
    """Parts that are not called, and single parameters of those that are containers or called piece by piece."""
    for parameter in block.module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    with torch.enable_grad(), _called_parts(block) as called:
        found = feed_forward(block, attend(block, call, depth), depth)
    own = dict(block.module.named_parameters())
    used = _used(found, own)
    never: list[str] = []
    unused: list[str] = []
    for name in upstream:
        part = block.module.get_submodule(name)
        mine = [f"{name}.{each}" for each, _ in part.named_parameters(recurse=False)]
        rest = [each for each in mine if each not in used]
        if name in called or not rest:
            continue
        if rest == mine and not list(part.children()):
            never.append(name)
        else:
            unused += rest
    if never:
        yield f"the maps never call {', '.join(never)}"
    unused += [name for name, _ in block.module.named_parameters(recurse=False) if name not in used]
    if unused:
        yield f"the maps do not use {', '.join(unused)}"


def _used(found: Tensor, parameters: dict[str, nn.Parameter]) -> set[str]:
    """Names of the parameters that a result depends on."""
    if not found.requires_grad:
        return set()
    leaves = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    gradients = torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True)
    return {name for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}


@torch.no_grad()
def _wrong_half(block: ResidualBlock, upstream: dict[str, Tensor], call: Call, depth: int) -> str:
    """Which half differs. The first part that mlp() calls gets in the block itself what the first half returned."""
    for scale, advice in _scales(block, call.x):
        if not differ(feed_forward(block, attend(block, call, depth, scale), depth), call.output):
            return f"with {advice}"
    with _called_parts(block) as called:
        feed_forward(block, call.x, depth)
    middle = upstream.get(next(iter(called), ""))
    if middle is None or middle.shape != call.x.shape:
        return "something is called in another order or place"
    halves = {
        "attention": differ(attend(block, call, depth), middle),
        "MLP": differ(feed_forward(block, middle, depth), call.output),
    }
    if sum(halves.values()) != 1:
        return "something is called in another order or place"
    (wrong,) = (half for half, differs in halves.items() if differs)
    (right,) = (half for half, differs in halves.items() if not differs)
    return f"the {wrong} half differs, the {right} half agrees: something in it is called in another order or place"


def _scales(block: ResidualBlock, x: Tensor) -> Iterator[tuple[float, str]]:
    """What q·k may have to be multiplied by, where q comes scaled already or upstream scales otherwise."""
    width = block.qkv(x)[0].shape[-1]
    if block.scale is not None:
        yield width**-0.5, "the default scale, 1/√e, it matches: leave `scale` as it is, None"
    for scale in (1.0, 1 / width, width**-0.25, math.sqrt(width)):
        yield scale, f"scale={scale:.4g} it matches: return q unscaled (turbo multiplies q·k by 1/√e), or set `scale`"


@contextmanager
def _called_parts(block: ResidualBlock) -> Iterator[dict[str, Tensor]]:
    """The submodules with parameters of their own that are called, in order, each with its first input."""
    called: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, part in block.module.named_modules():
            if name and next(part.parameters(recurse=False), None) is not None:
                handle = part.register_forward_pre_hook(_noting(called, name), with_kwargs=True)
                stack.callback(handle.remove)
        yield called


def _noting(called: dict[str, Tensor], name: str) -> Any:
    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if tensors:
            called.setdefault(name, tensors[0].detach())

    return note
