"""Plug-ins found through entry points: one class, one instance per group.

Listing imports nothing; asking for a name imports that one plug-in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from turbo.errors import TurboError

T = TypeVar("T")
DISTRIBUTION = "turbo-vlm"
NO_PLUGINS = "TURBO_NO_PLUGINS"
"""Set this environment variable to anything to see turbo's own plug-ins only."""


class Registry(Generic[T]):
    """Names of one entry-point group, each loaded when asked for.

    Examples:
        >>> strategies = Registry("turbo.strategies", "strategy")
        >>> "s1" in strategies, strategies["s1"].__name__
        (True, 'S1')
    """

    def __init__(self, group: str, noun: str) -> None:
        self.group = group
        self.noun = noun
        self._found: dict[str, list[EntryPoint]] | None = None

    def _entries(self) -> dict[str, list[EntryPoint]]:
        if self._found is None:
            found: dict[str, list[EntryPoint]] = {}
            for entry in entry_points(group=self.group):
                if NO_PLUGINS in os.environ and _distribution(entry) != DISTRIBUTION:
                    continue
                claims = found.setdefault(entry.name, [])
                # One distribution can show up twice on sys.path (an editable install beside a build).
                if (entry.value, _distribution(entry)) not in [(e.value, _distribution(e)) for e in claims]:
                    claims.append(entry)
            self._found = dict(sorted(found.items()))
        return self._found

    def refresh(self) -> None:
        """Look again at what is installed."""
        self._found = None

    def names(self) -> list[str]:
        """All names, sorted, without importing anything."""
        return list(self._entries())

    def origin(self, name: str) -> str:
        """The distributions that offer a name, without importing anything."""
        return ", ".join(_distribution(entry) for entry in self._claims(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def __getitem__(self, name: str) -> T:
        claims = self._claims(name)
        if len(claims) > 1:
            owners = " and ".join(f"{_distribution(entry)} ({entry.value})" for entry in claims)
            raise TurboError(
                f"the {self.noun} name {name!r} is claimed by {owners}: uninstall one of them, or pass the "
                "object itself"
            )
        try:
            plugin: T = claims[0].load()
        except Exception as error:
            raise TurboError(
                f"the {self.noun} {name!r} of {_distribution(claims[0])} could not be imported from "
                f"{claims[0].value!r}: {type(error).__name__}: {error}"
            ) from error
        return plugin

    def _claims(self, name: str) -> list[EntryPoint]:
        entries = self._entries()
        if not entries:
            raise TurboError(
                f"no {self.noun} is registered under {self.group!r}: turbo is not installed as a package (a bare "
                "checkout on sys.path has no entry points); run `pip install -e .`"
            )
        if name not in entries:
            raise TurboError(f"no {self.noun} is called {name!r}; there are: {', '.join(entries)}")
        return entries[name]

    def __repr__(self) -> str:
        return f"Registry({self.group!r}: {', '.join(self._entries()) or 'empty'})"


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"
