"""Checks of the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from turbo.testing.cases import AdapterCase
from turbo.testing.compare import require
from turbo.testing.probe import find_tower, list_blocks
from turbo.testing.results import NotApplicable

_NEGLIGIBLE = 1e-6
"""A gradient this much smaller than the largest is rounding: a key's bias shifts all scores of a row alike."""
_ROUNDING = 1e-5
"""A hundred roundings: recomputing does the same arithmetic, sums of gradients may run in another order."""


def check_gradients_flow(case: AdapterCase) -> None:
    """Every parameter that has a gradient untouched has one while accelerated, and all are finite."""
    model = case.make_model()
    untouched = _gradients(case, model)
    found = _gradients(case, case.accelerate(model))
    largest = max(gradient.abs().max().item() for gradient in untouched.values())
    for name, gradient in untouched.items():
        if gradient.abs().max().item() <= _NEGLIGIBLE * largest:
            continue
        require(
            name in found and bool(found[name].any()),
            f"{name} has no gradient while accelerated (a map detaches or runs under no_grad, or "
            "never uses it: see check_maps_are_the_block)",
        )
        require(found[name].isfinite().all(), f"the gradient of {name} has NaN or infinite numbers")


def check_checkpointed_blocks_give_the_same_gradients(case: AdapterCase) -> None:
    """Blocks wrapped in torch.utils.checkpoint from outside, and so recomputed backwards, give the same gradients."""
    model = case.accelerate(case.make_model())
    wanted = _gradients(case, model)
    _wrap_blocks(case, model)
    _require_same(_gradients(case, model), wanted)


def check_own_checkpointing_gives_the_same_gradients(case: AdapterCase) -> None:
    """The checkpointing that transformers' and timm's models switch on themselves recomputes, with the same result."""
    wanted = _gradients(case, case.accelerate(case.make_model()))
    model = case.make_model()
    blocks = list_blocks(case, model)
    if not _switch_on(model):
        raise NotApplicable("the model has no switch for checkpointing that the kit knows")
    for block in blocks:
        block.module.training = True  # libraries look here; the parts stay in evaluation mode, without dropout
    calls: list[nn.Module] = []
    for part in blocks[-1].module.modules():
        if next(part.parameters(recurse=False), None) is not None:
            part.register_forward_pre_hook(lambda part, _: calls.append(part))
    try:
        _gradients(case, model)
    except Exception as error:
        raise AssertionError(f"the library's own checkpointing fails on the untouched model: {error}") from error
    recomputes = _most_called(calls) > 1
    calls.clear()
    case.accelerate(model)
    _require_same(_gradients(case, model), wanted)
    require(
        _most_called(calls) > 1 or not recomputes,
        "blocks are recomputed untouched, and not while accelerated: override checkpointing() of the block",
    )


def _most_called(calls: list[nn.Module]) -> int:
    return max(map(calls.count, calls), default=0)


def _gradients(case: AdapterCase, model: Any) -> dict[str, Tensor]:
    model.zero_grad()
    with torch.enable_grad():
        torch.autograd.backward(case.run(model, gradients=True).float().square().mean())
    inner = ((name.replace(".inner.", "."), p.grad) for name, p in model.named_parameters())
    # A table of no register tokens, say, is empty.
    return {name: gradient.clone() for name, gradient in inner if gradient is not None and gradient.numel()}


class _Checkpointed(nn.Module):
    """A block that is computed again in the backward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.inner, *args, use_reentrant=False, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What a model reads off its blocks."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


def _wrap_blocks(case: AdapterCase, model: nn.Module) -> None:
    modules = {block.module for block in list_blocks(case, model)}
    for parent in list(find_tower(case, model).modules()):
        for name, child in list(parent.named_children()):
            if child in modules:
                setattr(parent, name, _Checkpointed(child))


def _switch_on(model: Any) -> bool:
    """Turn on the checkpointing of transformers or timm, where the model has it."""
    if getattr(model, "supports_gradient_checkpointing", False):
        model.activation_checkpointing_enable({"use_reentrant": False})
        return True
    if hasattr(model, "set_grad_checkpointing"):
        model.set_grad_checkpointing(True)
        return True
    return False


def _require_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    require(found.keys() == wanted.keys(), "with recomputed blocks other parameters have gradients")
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    for name, gradient in wanted.items():
        distance = (found[name] - gradient).abs().max().item()
        require(
            distance <= _ROUNDING * largest,
            f"with recomputed blocks the gradient of {name} differs by {distance:.2g}, the largest is {largest:.2g} "
            "(a map that runs again must compute the same again: it keeps no state)",
        )


CHECKS = (
    check_gradients_flow,
    check_checkpointed_blocks_give_the_same_gradients,
    check_own_checkpointing_gives_the_same_gradients,
)
