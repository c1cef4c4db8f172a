"""A strategy that spares tokens which stand for many patches already."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KeepBig:
    """E = R - weight · A - log s."""

    weight: float = 0.1

    def __call__(self, candidates):
        """One priority per source; the highest merge first."""
        return candidates.redundancy - self.weight * candidates.value - candidates.size.log()
