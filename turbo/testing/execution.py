"""Checks of the ways in which models are run: precision, devices, copies, the compiler."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
from torch import Tensor

import turbo
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import require, require_close, require_equal
from turbo.testing.results import NotApplicable
from turbo.testing.weights import pickles


def check_half_precision_keeps_its_type(case: AdapterCase) -> None:
    """In bfloat16 and float16 the output's dtype is the untouched model's, all is finite, and sizes stay float32."""
    for dtype in (torch.bfloat16, torch.float16):
        model = case.make_model().to(dtype)
        inputs = {name: _cast(value, dtype) for name, value in case.make_inputs().items()}
        untouched = case.run(model, inputs)
        case.accelerate(model)
        with turbo.recording(model) as trace:
            try:
                found = case.run(model, inputs)
            except RuntimeError as error:
                raise AssertionError(f"in {dtype} the accelerated model fails: {error} ({_UPCAST})") from error
        require(
            found.dtype == untouched.dtype,
            f"in {dtype} the output is {found.dtype}, untouched {untouched.dtype} ({_UPCAST})",
        )
        require(found.isfinite().all(), f"in {dtype} the output has NaN or infinite numbers")
        for block in trace.blocks:
            require(
                block.size.dtype == torch.float32,
                f"in {dtype} the sizes after block {block.depth} are {block.size.dtype}, which counts no large "
                "tokens exactly",
            )


_UPCAST = "a map returns another dtype than it got"


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def check_device_is_kept(case: AdapterCase) -> None:
    """An accelerated model moves like any other: to each accelerator there is, and to torch's meta device."""
    ran = False
    for device in _devices():
        untouched = case.make_model().to(device)
        inputs = {name: value.to(device) for name, value in case.make_inputs().items()}
        try:
            wanted = case.run(untouched, inputs)
        except (NotImplementedError, RuntimeError):
            continue  # a model that looks at numbers cannot run on meta
        ran = True
        try:
            found = case.run(case.accelerate(case.make_model()).to(device), inputs)
        except Exception as error:
            hint = "" if isinstance(error, turbo.TurboError) else " (a map makes a tensor without device=x.device)"
            raise AssertionError(f"on {device} the accelerated model fails: {error}{hint}") from error
        require(found.device == wanted.device, f"on {device} the output is on {found.device}")
        if device != "meta":
            require(found.isfinite().all(), f"on {device} the output has NaN or infinite numbers")
    if not ran:
        raise NotApplicable(f"the untouched model does not run on {' or '.join(_devices())} here")


def _devices() -> list[str]:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return [*([str(accelerator)] if accelerator is not None else []), "meta"]


def check_deepcopy_and_pickle(case: AdapterCase) -> None:
    """A copy of an accelerated model is accelerated, restores to the untouched model, and shares nothing with it."""
    model = case.make_model()
    untouched = case.run(model)
    if not pickles(model):
        raise NotApplicable("the untouched model cannot be pickled once it has run")
    case.accelerate(model)
    fast = case.run(model)
    for how, make in (("deepcopy", copy.deepcopy), ("pickle", _through_pickle)):
        try:
            twin = make(model)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise AssertionError(
                f"{how} of the accelerated model fails: {error} (block descriptions must hold no lambda, lock or "
                "tensor, and be defined at the top of a module)"
            ) from error
        require_equal(case.run(twin), fast, f"a {how} of the accelerated model gives something else")
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(1)
        require_equal(case.run(model), fast, f"changing the weights of a {how} changes the model")
        with torch.no_grad():
            for parameter, original in zip(twin.parameters(), model.parameters(), strict=True):
                parameter.copy_(original)
        require_equal(case.run(turbo.restore(twin)), untouched, f"a restored {how} is not the untouched model")
        require_equal(case.run(model), fast, f"restoring a {how} restores the model")


def _through_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def check_compiles(case: AdapterCase) -> None:
    """Compiled as one graph the model gives what it gives eagerly, accelerated and after restore."""
    model = case.make_model()
    untouched = case.run(model)
    fast = case.run(case.accelerate(model))
    torch._dynamo.reset()
    # Dynamo decides whether there is one graph, so its own backend is enough.
    compiled: Any = torch.compile(model, fullgraph=True, backend="eager")
    try:
        found = case.run(compiled)
    except torch._dynamo.exc.TorchDynamoException as error:
        first = str(error).strip().splitlines()[0]
        raise AssertionError(
            f"no single graph: {first} (a map branches on numbers or leaves torch, by .item(), print or numpy; where "
            "the untouched model does not compile either, compiles=False)"
        ) from error
    require_close(found, fast, "compiled, the accelerated model gives something else")
    turbo.restore(model)
    require_close(
        case.run(compiled), untouched, "compiled while accelerated and restored since, the model is not untouched"
    )


CHECKS = (
    check_half_precision_keeps_its_type,
    check_device_is_kept,
    check_deepcopy_and_pickle,
    check_compiles,
)
