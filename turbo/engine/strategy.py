"""Which strategy a model is accelerated with: the one that was named, or the default of its kind."""

from __future__ import annotations

import warnings

from turbo import defaults
from turbo.engine.score import check_strategy
from turbo.errors import TurboError, TurboWarning
from turbo.fusion import Strategy, Ward
from turbo.plugins import strategies


def find_strategy(asked: str | Strategy | None, denoiser: bool, semantic_units: str) -> tuple[str, Strategy]:
    """The strategy and how it is called, tried on samples.

    Args:
        asked: a registered name, a callable, or None for the default.
        denoiser: whether the model gives its tokens back after each part.
        semantic_units: in which A will be handed over.

    Returns:
        Its name and itself.

    Raises:
        TurboError: there is no such strategy, it does not work, or there is no default for these units.
    """
    name, function = _load(_default(denoiser, semantic_units) if asked is None else asked)
    check_strategy(function, name)
    _warn_of_units(function, semantic_units)
    return name, function


def _default(denoiser: bool, semantic_units: str) -> str:
    if semantic_units != defaults.SEMANTIC_UNITS:
        raise TurboError(
            f"semantic_units={semantic_units!r} goes with a strategy that you name: the default's parameter is in "
            f"{defaults.SEMANTIC_UNITS} units; pass turbo.fusion.S1(alpha) or turbo.fusion.Ward(floor), say"
        )
    return defaults.DENOISER_STRATEGY if denoiser else defaults.STRATEGY


def _warn_of_units(strategy: Strategy, semantic_units: str) -> None:
    """A floor in relative units drowns probabilities: R alone would decide, and nobody would see it."""
    if isinstance(strategy, Ward) and strategy.floor == defaults.FLOOR and semantic_units == "probability":
        warnings.warn(
            f"{strategy!r} has the floor for relative units, and semantic_units='probability' hands it A that averages "
            "1/n: it ranks almost as tome; pass a floor n times smaller",
            TurboWarning,
            stacklevel=4,
        )


def _load(strategy: object) -> tuple[str, Strategy]:
    if isinstance(strategy, str):
        plugin = strategies[strategy]
        function = plugin() if isinstance(plugin, type) else plugin
        name = strategy
    else:
        function = strategy
        name = repr(strategy) if hasattr(strategy, "__dataclass_fields__") else _callable_name(strategy)
    if isinstance(function, type) or not callable(function):
        hint = f"; pass an instance, {function.__name__}()" if isinstance(function, type) else ""
        raise TurboError(f"strategy={strategy!r}: must be a name or a callable of candidates{hint}")
    return name, function


def _callable_name(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)
