"""Which share of its tokens each part of a round-trip block merges: from what the user asked for to a count.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turbo.errors import TurboError

Ratio = float | Callable[[float], float]
"""A share of the tokens, or a function of the timestep that returns one."""


@dataclass(frozen=True)
class Ratios:
    """Share of its tokens that each part merges.

    Attributes:
        by_part: name of a part -> its ratio; a part that is not there runs on all tokens.
        most: the largest ratio possible: with stride-s destinations 1 - 1/s², a half with parity.

    Examples:
        >>> Ratios({"self_attention": lambda t: 0.5 if t > 500 else 0.25}).at(100.0)
        {'self_attention': 0.25}
    """

    by_part: Mapping[str, Ratio]
    most: float = 0.75

    def __post_init__(self) -> None:
        for part, ratio in self.by_part.items():
            if not callable(ratio):
                self._checked(ratio, f"ratio of {part}" if len(self.by_part) > 1 else "ratio")

    @classmethod
    def parse(
        cls, ratio: Ratio | Mapping[str, Ratio], known: Sequence[str], default: Sequence[str], most: float
    ) -> Ratios:
        """What `accelerate` was asked for.

        Args:
            ratio: one for the default parts, or one for each part that is to merge.
            known: the parts that there are.
            default: the parts that merge if none are named.
            most: the largest ratio possible.

        Raises:
            TurboError: an unknown part, none at all, or a ratio out of range.
        """
        by_part = dict(ratio) if isinstance(ratio, Mapping) else dict.fromkeys(default, ratio)
        if not by_part:
            raise TurboError(f"ratio={{}}: name a part that is to merge, some of {', '.join(known)}")
        for part in by_part:
            if part not in known:
                raise TurboError(f"part {part!r}: this model's blocks have {', '.join(known)}")
        return cls(by_part, most)

    @property
    def varies(self) -> bool:
        """Whether a ratio depends on the timestep."""
        return any(callable(ratio) for ratio in self.by_part.values())

    def is_off(self) -> bool:
        """True where the user asked for no merging at all."""
        return all(ratio == 0 for ratio in self.by_part.values())

    def at(self, timestep: float) -> dict[str, float]:
        """The ratios of one step; functions of the timestep are called with it."""
        found = {}
        for part, ratio in self.by_part.items():
            if callable(ratio):
                found[part] = self._checked(ratio(timestep), f"ratio of {part} at timestep {timestep:g}")
            else:
                found[part] = ratio
        return found

    def _checked(self, ratio: Any, name: str) -> float:
        real = isinstance(ratio, int | float) and not isinstance(ratio, bool) and math.isfinite(ratio)
        if not real or not 0 <= ratio <= self.most:
            raise TurboError(
                f"{name} is {ratio!r}: must be a fraction from 0 to {self.most:g} of the tokens (the others are the "
                "destinations), or a function of the timestep that returns one"
            )
        return float(ratio)
