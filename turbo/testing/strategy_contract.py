"""Checks of a strategy as a function: what it returns, and that it changes nothing."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from turbo.fusion import Candidates
from turbo.testing.cases import StrategyCase
from turbo.testing.compare import require
from turbo.testing.samples import DEPTHS, interior, map_tensors, sample, tensors_of, unequal

_DTYPES = (torch.float32, torch.float64)
"""What the engine hands over; it computes R and A in at least float32, whatever the model runs in."""
_ROUNDING = 1e-9
"""Relative, in double precision: compiled code may fuse operations."""


def check_returns_one_priority_per_source(case: StrategyCase) -> None:
    """The result is a tensor of R's shape, dtype and device, on the CPU and on torch's meta device."""
    for dtype in _DTYPES:
        for images, tokens in ((1, 2), (3, 7), (2, 64)):
            candidates = sample(dtype=dtype, images=images, tokens=tokens)
            _require_alike(case.function(candidates), candidates.redundancy)
    on_meta = map_tensors(sample(dtype=torch.float32), lambda tensor: tensor.to("meta"))
    try:
        found = case.function(on_meta)
    except Exception as error:
        raise AssertionError(
            f"on another device it fails: {error} (a tensor made without device=, or .item())"
        ) from error
    _require_alike(found, on_meta.redundancy)


def check_takes_one_candidate(case: StrategyCase) -> None:
    """One source in one image is judged too, by a finite number."""
    for dtype in _DTYPES:
        candidates = interior(sample(dtype=dtype, images=2, tokens=1))
        found = case.function(candidates)
        _require_alike(found, candidates.redundancy)
        require(
            found.isfinite().all(), f"one candidate gets {found.item()} (a standard deviation of one number, or 0/0)"
        )


def check_is_finite(case: StrategyCase) -> None:
    """Priorities are finite for every R in [-1, 1], A from 0 to the number of tokens, and size."""
    for dtype in _DTYPES:
        for depth in DEPTHS:
            candidates = sample(depth, dtype)
            found = case.function(candidates)
            wrong = ~found.isfinite()
            if wrong.any():
                image, token = wrong.nonzero()[0].tolist()
                inputs = ", ".join(f"{name}={t[image, token].item():.4g}" for name, t in tensors_of(candidates).items())
                raise AssertionError(
                    f"{found[image, token].item()} in block {depth}, {dtype}, at {inputs} (a division by 0 or a "
                    "logarithm of A = 0, or of R < 0)"
                )


def check_works_at_any_depth(case: StrategyCase) -> None:
    """Models of up to 128 blocks are judged, the last block as the first."""
    for depth in range(128):
        candidates = interior(sample(depth, torch.float32, images=2, tokens=512))
        try:
            found = case.function(candidates)
        except Exception as error:
            raise AssertionError(f"in block {depth} it fails: {type(error).__name__}: {error}") from error
        _require_alike(found, candidates.redundancy)
        require(found.isfinite().all(), f"in block {depth} a priority is NaN or infinite (a power of the depth)")


def check_inputs_are_unmodified(case: StrategyCase) -> None:
    """The tensors of the candidates are only read."""
    candidates = sample()
    before = {name: (tensor.clone(), tensor._version) for name, tensor in tensors_of(candidates).items()}
    case.function(candidates)
    for name, tensor in tensors_of(candidates).items():
        copied, version = before[name]
        require(
            torch.equal(tensor, copied) and tensor._version == version,
            f"it changes candidates.{name} in place (an operation whose name ends in _, or item assignment)",
        )


def check_global_randomness_is_untouched(case: StrategyCase) -> None:
    """The global random generators are neither drawn from nor seeded."""
    before = _random_states()
    case.function(sample())
    after = _random_states()
    touched = [name for name in before if before[name] != after[name]]
    require(
        not touched,
        f"it uses the global generator of {', '.join(touched)}: derive numbers from seed, depth and position",
    )


def _random_states() -> dict[str, str]:
    states: dict[str, object] = {"torch": torch.get_rng_state().tolist(), "random": random.getstate()}
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state()
    return {name: str(state) for name, state in states.items()}


def check_same_candidates_give_same_priorities(case: StrategyCase) -> None:
    """A second call, with others in between, gives the first one's result: no state is kept."""
    candidates = sample(depth=2)
    first = case.function(candidates).clone()
    for depth in (0, 2, 5):
        case.function(map_tensors(sample(depth), lambda tensor: tensor.flip(1)))
    require(
        not unequal(case.function(candidates), first).any(),
        "the same candidates get other priorities later (state between calls)",
    )


def check_gradient_mode_is_irrelevant(case: StrategyCase) -> None:
    """With gradients, without, and in inference mode the priorities are the same."""
    candidates = sample()
    with torch.no_grad():
        wanted = case.function(candidates)
    with torch.inference_mode():
        inferred = case.function(map_tensors(candidates, torch.clone)).clone()
    with torch.enable_grad():
        tracked = case.function(map_tensors(candidates, lambda tensor: tensor.clone().requires_grad_())).detach()
    for mode, found in (("in inference mode", inferred), ("with gradients", tracked)):
        require(not unequal(found, wanted).any(), f"{mode} the priorities are others")


def check_strategy_compiles(case: StrategyCase) -> None:
    """Compiled as one graph it gives what it gives eagerly."""
    function = case.function

    def judge(r: Tensor, a: Tensor, partner: Tensor, size: Tensor, partner_size: Tensor) -> Tensor:
        return function(Candidates(r, a, partner, size, partner_size, depth=3))

    tensors = tuple(tensors_of(sample(depth=3, images=2, tokens=400)).values())
    torch._dynamo.reset()
    compiled: Any = torch.compile(judge, fullgraph=True, backend="eager")
    with _graph_breaks():
        found = compiled(*tensors)
    wanted = judge(*tensors)
    require(not unequal(found, wanted, _ROUNDING).any(), "compiled it gives other priorities than eagerly")


@contextmanager
def _graph_breaks() -> Iterator[None]:
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        first = str(error).strip().splitlines()[0]
        raise AssertionError(f"no single graph: {first} (.item(), a branch on numbers, print or numpy)") from error


def _require_alike(found: object, wanted: Tensor) -> None:
    require(isinstance(found, Tensor), f"it returns {type(found).__name__}: it must return a tensor, b m")
    for what in ("shape", "dtype", "device"):
        a, b = getattr(found, what), getattr(wanted, what)
        require(a == b, f"the result's {what} is {a}, that of candidates.redundancy {b}")


CHECKS = (
    check_returns_one_priority_per_source,
    check_takes_one_candidate,
    check_is_finite,
    check_works_at_any_depth,
    check_inputs_are_unmodified,
    check_global_randomness_is_untouched,
    check_same_candidates_give_same_priorities,
    check_gradient_mode_is_irrelevant,
    check_strategy_compiles,
)
