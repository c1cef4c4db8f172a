"""Comparing outputs, with messages that say by how much they differ."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDINGS = 100
"""How many roundings, at the output's scale, two orders of the same additions may be apart.

A few blocks add some hundred products per number; their errors mostly cancel. What a forgotten part changes is a
thousand times larger with the kit's weights.
"""


def require(condition: object, message: str) -> None:
    """Raise AssertionError; unlike an assert statement it also works under ``python -O``."""
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(message)


def require_equal(found: Tensor, wanted: Tensor, message: str) -> None:
    """Bit for bit."""
    __tracebackhide__ = True
    _require_alike(found, wanted, message)
    if not torch.equal(found, wanted):
        raise AssertionError(
            f"{message}: outputs differ by up to {_distance(found, wanted):.2g} (scale {_scale(wanted)})"
        )


def require_close(found: Tensor, wanted: Tensor, message: str) -> None:
    """Equal up to rounding of the same arithmetic in another order."""
    __tracebackhide__ = True
    _require_alike(found, wanted, message)
    distance, limit = _distance(found, wanted), _rounding(wanted)
    if not distance <= limit:  # also where the distance is NaN
        raise AssertionError(
            f"{message}: outputs differ by up to {distance:.2g} (scale {_scale(wanted)}), rounding explains {limit:.2g}"
        )


def differ(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors differ by more than rounding, or in shape or dtype."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return True
    return not _distance(a, b) <= _rounding(a)  # also where it is NaN


def _require_alike(found: Tensor, wanted: Tensor, message: str) -> None:
    __tracebackhide__ = True
    for what in ("shape", "dtype", "device"):
        a, b = getattr(found, what), getattr(wanted, what)
        if a != b:
            raise AssertionError(f"{message}: {what} is {a}, was {b}")


def _distance(a: Tensor, b: Tensor) -> float:
    return (a.detach().double() - b.detach().double()).abs().max().item() if a.numel() else 0.0


def _rounding(x: Tensor) -> float:
    """What rounding explains, at the scale of x."""
    return ROUNDINGS * torch.finfo(x.dtype).eps * _largest(x)


def _largest(x: Tensor) -> float:
    return x.detach().abs().max().item() if x.numel() else 0.0


def _scale(x: Tensor) -> str:
    return f"{_largest(x):.2g}"
