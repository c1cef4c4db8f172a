"""What is compared: the keyword arguments of `turbo.accelerate`, each set with a name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turbo import defaults
from turbo.errors import TurboError

UNTOUCHED = "untouched"
AMOUNTS = ("drop", "ratio", "speedup")
_UNNAMED = {
    "threshold": 0,
    "min_tokens": 0,
    "cross_modal": 0,
}  # they ask for nothing; defaults may change, so all else is named
_SHORT = {"semantic_units": "units"}
_LONGEST = 150  # letters of a file's name


@dataclass(frozen=True)
class Setting:
    """One way to accelerate a model.

    Attributes:
        name: unlike that of any other setting.
        options: keyword arguments of `turbo.accelerate`; empty for the untouched model.
        strategy: how its strategy is written.
    """

    name: str
    options: Mapping[str, Any]
    strategy: str

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any]) -> Setting:
        """A setting from a name and the keyword arguments of `turbo.accelerate`."""
        if name == UNTOUCHED:
            raise TurboError(f"a setting cannot be called {UNTOUCHED!r}: that is the model without turbo")
        return cls(name, dict(options), strategy_name(options.get("strategy") or defaults.STRATEGY))

    @property
    def record(self) -> dict[str, Any]:
        """What tells it from other settings, as plain data; options that ask for nothing are left out."""
        return {"strategy": self.strategy, **self.rest}

    @property
    def rest(self) -> dict[str, Any]:
        """All of its record but the strategy."""
        return {name: _plain(value) for name, value in self._named()}

    @property
    def amount(self) -> str:
        """How much it merges: "drop=20", or "default"."""
        given = [f"{name}={_written(value)}" for name, value in self._named() if name in AMOUNTS]
        return " ".join(given) or "default"

    @property
    def series(self) -> str:
        """What it shares with the settings that differ from it only in how much they merge."""
        rest = [f"{_SHORT.get(name, name)}={_written(value)}" for name, value in self._named() if name not in AMOUNTS]
        return " ".join([self.strategy, *rest])

    @property
    def slug(self) -> str:
        """The name of its file, without the suffix."""
        return slug(self.name)

    def _named(self) -> list[tuple[str, Any]]:
        return [
            (name, value)
            for name, value in self.options.items()
            if name != "strategy" and value is not None and value != _UNNAMED.get(name)
        ]


UNTOUCHED_SETTING = Setting(UNTOUCHED, {}, UNTOUCHED)


def make_grid(strategies: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> dict[str, Setting]:
    """Every combination of strategies and options, as settings with telling names.

    Args:
        strategies: how each is written -> its name or object, for `turbo.accelerate`.
        axes: option of `turbo.accelerate` -> its values; None stands for its default.

    Returns:
        Name -> setting, strategy by strategy.

    Raises:
        TurboError: two settings would be the same.

    Examples:
        >>> list(make_grid({"s1": "s1", "tome": "tome"}, {"drop": [10, 20], "threshold": [0]}))
        ['s1 drop=10', 's1 drop=20', 'tome drop=10', 'tome drop=20']
    """
    grid: dict[str, Setting] = {}
    for (written, strategy), *values in itertools.product(strategies.items(), *axes.values()):
        given = {name: value for name, value in zip(axes, values, strict=True) if value is not None}
        bare = Setting("", {"strategy": strategy, **given}, written)
        name = " ".join([written, bare.amount, *bare.series.removeprefix(written).split()])
        if name in grid:
            raise TurboError(f"the setting {name!r} is asked for twice: give each value once")
        grid[name] = Setting(name, bare.options, written)
    return grid


def as_settings(settings: Mapping[str, Mapping[str, Any] | Setting]) -> list[Setting]:
    """Settings from a mapping of names to settings or keyword arguments of `turbo.accelerate`.

    Raises:
        TurboError: there are none, or two names would share a file.
    """
    if not settings:
        raise TurboError("no settings: name one or more ways to accelerate the model")
    found = [value if isinstance(value, Setting) else Setting.of(name, value) for name, value in settings.items()]
    files = {UNTOUCHED: UNTOUCHED}
    for setting in found:
        if (other := files.setdefault(setting.slug.lower(), setting.name)) != setting.name:
            raise TurboError(f"the settings {other!r} and {setting.name!r} would share a file: name one differently")
    return found


def find_rival(setting: Setting, settings: Sequence[Setting], strategy: str = "tome") -> Setting | None:
    """The setting that differs from one in its strategy only; None where there is none, or it is that one."""
    rivals = [other for other in settings if other.strategy == strategy and other.rest == setting.rest]
    return rivals[0] if rivals and setting.strategy != strategy else None


def slug(name: str) -> str:
    """A name as part of a path.

    Examples:
        >>> slug("s4(alpha=0.3,beta=0.9) drop=20")
        's4-alpha=0.3-beta=0.9-drop=20'
    """
    return re.sub(r"[^\w.=]+", "-", name).strip("-.")[:_LONGEST]


def strategy_name(strategy: object) -> str:
    """How a strategy is written: its name, the fields of a dataclass, or the name of a function."""
    if isinstance(strategy, str):
        return strategy
    if hasattr(strategy, "__dataclass_fields__"):
        return repr(strategy)
    return str(getattr(strategy, "__name__", type(strategy).__name__))


def _written(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ":".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return value if isinstance(value, int | float | str | bool | None) else strategy_name(value)
