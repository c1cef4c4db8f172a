"""Checks of what strategies are given."""

from __future__ import annotations

import math

from turbo.errors import TurboError


def require(ok: bool, name: str, found: object, wanted: str) -> None:
    """Raise TurboError for a parameter that makes no sense."""
    if not ok:
        raise TurboError(f"{name}={found!r}: {name} must be {wanted}")


def is_number(x: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(x, int | float) and not isinstance(x, bool) and (isinstance(x, int) or math.isfinite(x))


def require_weight(name: str, x: object) -> None:
    """Raise TurboError for anything but a finite number of 0 or more."""
    require(is_number(x) and x >= 0, name, x, "a finite number, 0 or more")  # type: ignore[operator]
