"""Checks of the options of `accelerate` that no part of turbo's own checks when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from turbo import defaults
from turbo.adapters.reader import Reader
from turbo.errors import TurboError
from turbo.fusion.parameters import is_number
from turbo.partition import Halves


def require_none(options: Mapping[str, object], tower: object, why: str) -> None:
    """Refuse options that cannot apply to a model, rather than ignore them."""
    if given := {name: value for name, value in options.items() if value is not None}:
        found = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise TurboError(f"{found} cannot apply to a {type(tower).__name__}: its blocks {why}; leave it out")


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not among the choices."""
    if value not in choices:
        raise TurboError(f"{name}={value!r}: must be {' or '.join(map(repr, choices))}")


def checked_halves(destinations: object, tower: object) -> Halves:
    """How a vision tower's tokens split, the default for None."""
    halves = defaults.DESTINATIONS if destinations is None else destinations
    if halves not in get_args(Halves):
        choices = " or ".join(map(repr, get_args(Halves)))
        raise TurboError(f"destinations={halves!r} cannot apply to a {type(tower).__name__}: must be {choices}")
    return halves  # type: ignore[return-value]


def checked_momentum(momentum: object) -> float:
    """The momentum, the default for None."""
    if momentum is None:
        return defaults.MOMENTUM
    if not (is_number(momentum) and 0 <= momentum < 1):  # type: ignore[operator]
        raise TurboError(f"momentum={momentum!r}: must be a number, at least 0 and below 1")
    return float(momentum)  # type: ignore[arg-type]


def checked_cross_modal(ratio: object, readers: Sequence[Reader], tower: object) -> float:
    """Share of the image tokens that merge after each of a text's layers."""
    if not (is_number(ratio) and 0 <= ratio <= 0.5):  # type: ignore[operator]
        raise TurboError(
            f"cross_modal={ratio!r}: must be the share of image tokens that merge after each text layer, 0 to 0.5"
        )
    name = type(tower).__name__
    if ratio and not readers:
        raise TurboError(
            f"cross_modal={ratio!r} cannot apply: turbo knows no text layers in {name} that attend to image tokens; "
            "pass the whole model, not its vision tower, or leave it out"
        )
    if ratio and not any(reader.merges for reader in readers):
        raise TurboError(
            f"cross_modal={ratio!r} cannot apply to a {name}: it writes token after token, and each has to see the "
            "same image tokens; leave it out"
        )
    return float(ratio)  # type: ignore[arg-type]


def checked_calibrate(calibrate: object, speedup: float | None) -> int | None:
    """Images per call to time the blocks with, None where nothing is to be timed."""
    if calibrate is False:
        return None
    if not isinstance(calibrate, int) or calibrate < 1:  # True is 1
        raise TurboError(f"calibrate={calibrate!r}: must be True, or the number of images per call, 1 or more")
    if speedup is None:
        raise TurboError(
            f"calibrate={calibrate!r} makes a speedup one of time, and none was given: give speedup=1.5, say, and "
            "neither drop nor ratio"
        )
    return int(calibrate)
