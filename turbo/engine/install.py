"""Putting runners on a model's sites and taking them off. All on instances; nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from turbo.adapters.base import Refuse
from turbo.engine.acceleration import Acceleration
from turbo.engine.runners import Runner, make_runners
from turbo.errors import TurboError


def find_acceleration(model: object) -> Acceleration | None:
    """The acceleration of a model, read off its modules; None where there is none."""
    for runner in _runners(model):
        return runner.acceleration
    return None


def require_acceleration(model: object) -> Acceleration:
    """The acceleration of a model, or a TurboError."""
    acceleration = find_acceleration(model)
    if acceleration is None:
        raise TurboError(f"this {type(model).__name__} is not accelerated: call turbo.accelerate(model) first")
    return acceleration


def install(acceleration: Acceleration) -> None:
    """Set a runner on every site, after checking that every site can take one."""
    _require_own_methods(acceleration)
    _require_one_device(acceleration)
    for runner in make_runners(acceleration):
        runner.install()


def uninstall(acceleration: Acceleration) -> None:
    """Take all runners off, the last one set first; or none, where another library replaced a forward since."""
    for module, method in _methods(acceleration):
        if (runner := _runner_of(module, method)) is None or runner.acceleration is not acceleration:
            raise TurboError(
                f"the {method} of {type(module).__name__} was replaced after turbo.accelerate: undo that first, then "
                "restore"
            )
    for module, method in reversed(_methods(acceleration)):
        if (runner := _runner_of(module, method)) is not None:
            runner.uninstall()


def _methods(acceleration: Acceleration) -> list[tuple[nn.Module, str]]:
    """The method that each site's runner replaces; one method can have several runners, one upon the other."""
    return [(s.module, s.method if isinstance(s, Refuse) else "forward") for s in acceleration.sites]


def _runners(model: object) -> Iterator[Runner]:
    if isinstance(model, nn.Module):
        for module in model.modules():
            if (runner := _runner_of(module, "forward")) is not None:
                yield runner


def _runner_of(module: nn.Module, method: str) -> Runner | None:
    owner = getattr(module.__dict__.get(method), "__self__", None)
    return owner if isinstance(owner, Runner) else None


def _require_own_methods(acceleration: Acceleration) -> None:
    for module, method in _methods(acceleration):
        if method in module.__dict__ and _runner_of(module, method) is None:
            raise TurboError(
                f"a {type(module).__name__} of this model has a {method} of its own on the instance (a hook of another "
                "library, such as accelerate's device_map offloading): turbo would bypass it; remove it first"
            )


def _require_one_device(acceleration: Acceleration) -> None:
    devices = {str(p.device) for block in acceleration.blocks for p in block.module.parameters()}
    if len(devices) > 1:
        raise TurboError(
            f"the blocks lie on several devices ({', '.join(sorted(devices))}): merged sizes travel from block to "
            "block; move the model to one device first"
        )
