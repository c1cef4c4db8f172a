"""Putting runners on a model's sites and taking them off. All on instances; nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from turbo.adapters.base import ResidualBlock
from turbo.engine.acceleration import Acceleration
from turbo.engine.runners import BlockRunner, RestoreRunner, Runner
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
    _require_own_forwards(acceleration)
    _require_one_device(acceleration)
    depth = 0
    for site in acceleration.sites:
        runner: Runner
        if isinstance(site, ResidualBlock):
            runner = BlockRunner(site, depth, acceleration)
            depth += 1
        else:
            runner = RestoreRunner(site.module, acceleration)
        runner.install()


def uninstall(acceleration: Acceleration) -> None:
    """Take all runners off, the last one set first; or none, where another library replaced a forward since."""
    for site in acceleration.sites:
        if (runner := _runner_of(site.module)) is None or runner.acceleration is not acceleration:
            raise TurboError(
                f"the forward of {type(site.module).__name__} was replaced after turbo.accelerate: undo that first, "
                "then restore"
            )
    for site in reversed(acceleration.sites):
        if (runner := _runner_of(site.module)) is not None:
            runner.uninstall()


def _runners(model: object) -> Iterator[Runner]:
    if isinstance(model, nn.Module):
        for module in model.modules():
            if (runner := _runner_of(module)) is not None:
                yield runner


def _runner_of(module: nn.Module) -> Runner | None:
    owner = getattr(module.__dict__.get("forward"), "__self__", None)
    return owner if isinstance(owner, Runner) else None


def _require_own_forwards(acceleration: Acceleration) -> None:
    for site in acceleration.sites:
        if "forward" in site.module.__dict__ and _runner_of(site.module) is None:
            raise TurboError(
                f"a {type(site.module).__name__} of this model has a forward of its own on the instance (a hook of "
                "another library, such as accelerate's device_map offloading): turbo would bypass it; remove it first"
            )


def _require_one_device(acceleration: Acceleration) -> None:
    devices = {str(p.device) for block in acceleration.blocks for p in block.module.parameters()}
    if len(devices) > 1:
        raise TurboError(
            f"the blocks lie on several devices ({', '.join(sorted(devices))}): merged sizes travel from block to "
            "block; move the model to one device first"
        )
