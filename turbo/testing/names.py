"""Adapters and strategies from what a user has at hand: an object, its class, or its registered name."""

from __future__ import annotations

from typing import Any

import turbo
from turbo.adapters import Adapter, ResidualBlock
from turbo.fusion import Strategy
from turbo.plugins import adapters, strategies


def load_adapter(adapter: object) -> Adapter:
    """An adapter from an instance, a class or a registered name."""
    found = _create(adapters[adapter] if isinstance(adapter, str) else adapter)
    if not isinstance(found, Adapter):
        raise turbo.TurboError(
            f"adapter={adapter!r}: must be a turbo.adapters.Adapter, its class, or a registered name"
        )
    return found


def load_strategy(strategy: object) -> Strategy:
    """A strategy from a callable, a class or a registered name."""
    found = _create(strategies[strategy] if isinstance(strategy, str) else strategy)
    if not callable(found) or isinstance(found, Adapter):
        raise turbo.TurboError(
            f"strategy={strategy!r}: must be a callable of candidates, its class, or a registered name"
        )
    return found  # type: ignore[no-any-return]


def refuse_block(thing: object) -> None:
    """A block's description by itself says neither which model it is of nor what goes in."""
    kind = thing if isinstance(thing, type) else type(thing)
    if issubclass(kind, ResidualBlock):
        raise turbo.TurboError(f"{kind.__name__} is a ResidualBlock: name the Adapter that lists it")


def _create(plugin: Any) -> Any:
    refuse_block(plugin)
    if not isinstance(plugin, type):
        return plugin
    try:
        return plugin()
    except TypeError as error:
        raise turbo.TurboError(
            f"{plugin.__name__} cannot be created without arguments ({error}); pass an instance"
        ) from error
