"""Putting runners on a model's sites and taking them off. All on instances; nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from turbo.engine.acceleration import Acceleration
from turbo.engine.detect import root_of
from turbo.engine.readers import make_reader_runners
from turbo.engine.round_trip.generation import Generation
from turbo.engine.round_trip.runners import make_round_trip_runners
from turbo.engine.runner import Runner, runner_of
from turbo.engine.runners import make_runners
from turbo.errors import TurboError


def find_accelerations(model: object) -> list[Acceleration | Generation]:
    """The accelerations in a model, read off its modules, each once: several where its parts were accelerated."""
    found: dict[int, Acceleration | Generation] = {id(r.acceleration): r.acceleration for r in _runners(model)}
    return list(found.values())


def find_acceleration(model: object) -> Acceleration | Generation | None:
    """The acceleration of a model; None where there is none.

    Raises:
        TurboError: its parts were accelerated each by itself.
    """
    found = find_accelerations(model)
    if len(found) > 1:
        names = ", ".join(type(acceleration.tower).__name__ for acceleration in found)
        raise TurboError(
            f"{type(model).__name__} holds {len(found)} accelerated models ({names}): name the one you mean"
        )
    return found[0] if found else None


def require_acceleration(model: object) -> Acceleration | Generation:
    """The acceleration of a model, or a TurboError."""
    acceleration = find_acceleration(model)
    if acceleration is None:
        raise TurboError(f"this {type(model).__name__} is not accelerated: call turbo.accelerate(model) first")
    return acceleration


def install(acceleration: Acceleration | Generation) -> None:
    """Set a runner on every site, after checking that every site can take one."""
    if isinstance(acceleration, Generation):
        runners = make_round_trip_runners(acceleration)
    else:
        runners = make_runners(acceleration) + make_reader_runners(acceleration)
        require_one_device(acceleration)
    for runner in runners:
        runner.require_free()
    for runner in runners:
        runner.install()
    acceleration.runners = runners


def swap(model: object, acceleration: Acceleration | Generation) -> None:
    """Install an acceleration in place of the one before it, or leave that one in place if it does not fit."""
    before = find_acceleration(model)
    if before is not None:
        uninstall(before)
    try:
        install(acceleration)
    except BaseException:
        if before is not None:
            install(before)
        raise


def uninstall(acceleration: Acceleration | Generation) -> None:
    """Take all runners off, the last one set first; or none, where another library replaced a forward since."""
    for runner in acceleration.runners:
        runner.require_in_place()
    for runner in reversed(acceleration.runners):
        runner.uninstall()
    acceleration.runners = []


def _runners(model: object) -> Iterator[Runner]:
    root = root_of(model)
    for module in root.modules() if isinstance(root, nn.Module) else ():
        if (runner := runner_of(module, "forward")) is not None:
            yield runner


def require_one_device(acceleration: Acceleration) -> None:
    """Raise TurboError where the blocks lie on several devices."""
    devices = {str(p.device) for block in acceleration.blocks for p in block.module.parameters()}
    if len(devices) > 1:
        raise TurboError(
            f"the blocks lie on several devices ({', '.join(sorted(devices))}): merged sizes travel from block to "
            "block; move the model to one device first"
        )
