"""The four fusion strategies of the paper's supplement, Eq. (3)-(6).

α is meant for relative units of A (mean about 1). The paper's own α are for probabilities times an unprinted
factor of 30; multiply such an α by 30/n to carry it over.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from turbo import defaults
from turbo.fusion.candidates import Candidates
from turbo.fusion.parameters import is_number, require, require_weight

TINY_VALUE = 1e-6
"""Smallest A that S2 divides by, so that a token nobody attends to has a large but finite priority."""


@dataclass(frozen=True)
class S1:
    """Weighted difference, E = R - αA (supplement, Eq. 3). Defined everywhere.

    Examples:
        >>> S1(alpha=0.25)
        S1(alpha=0.25)
    """

    alpha: float = defaults.ALPHA

    def __post_init__(self) -> None:
        require_weight("alpha", self.alpha)

    def __call__(self, candidates: Candidates) -> Tensor:
        return candidates.redundancy - self.alpha * candidates.value


@dataclass(frozen=True)
class S2:
    """Quotient, E = R / A (supplement, Eq. 4), on its domain R >= 0 and A >= 1e-6.

    With R < 0 the quotient would prefer *attended* tokens, so there E = R·A: it meets the quotient at R = 0 and
    keeps rising in R and falling in A. A is held at 1e-6 or more, so that E is finite.

    Examples:
        >>> S2()
        S2()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        redundancy, value = candidates.redundancy, candidates.value.clamp_min(TINY_VALUE)
        return redundancy.clamp_min(0) / value + redundancy.clamp_max(0) * value


@dataclass(frozen=True)
class S3:
    """Damped redundancy, E = R(1 - αA) (supplement, Eq. 5), on its domain R >= 0 and αA <= 1.

    Outside it the formula would prefer attended or distinct tokens. With u = 1 - αA the code continues it so
    that E keeps rising in R and falling in A, without a jump: u(1 - R) where u < 0 <= R, and a further
    (2 - u)R where R < 0.

    Examples:
        >>> S3(alpha=0.1)
        S3(alpha=0.1)
    """

    alpha: float = defaults.ALPHA

    def __post_init__(self) -> None:
        require_weight("alpha", self.alpha)

    def __call__(self, candidates: Candidates) -> Tensor:
        alike, unlike = candidates.redundancy.clamp_min(0), candidates.redundancy.clamp_max(0)
        left = 1 - self.alpha * candidates.value
        return left.clamp_min(0) * alike + left.clamp_max(0) * (1 - alike) + (2 - left) * unlike


@dataclass(frozen=True)
class S4:
    """Depth-scaled difference, E = R - β^|γ-l| αA, l the block's index from the input (supplement, Eq. 6).

    β = 1 is S1. β > 1 weighs A most far from block γ, β < 1 most at block γ. (The supplement's sentence about
    β > 1 says the opposite of its formula; this is the formula.)

    Examples:
        >>> S4(alpha=0.3, beta=1.1, gamma=5)
        S4(alpha=0.3, beta=1.1, gamma=5)
    """

    alpha: float = defaults.ALPHA
    beta: float = 1.1
    gamma: float = 5

    def __post_init__(self) -> None:
        require_weight("alpha", self.alpha)
        require(is_number(self.beta) and self.beta > 0, "beta", self.beta, "a finite number above 0")
        require(is_number(self.gamma), "gamma", self.gamma, "a block's index, counted from 0 at the input")

    def __call__(self, candidates: Candidates) -> Tensor:
        scale: float = self.beta ** abs(self.gamma - candidates.depth)
        return candidates.redundancy - scale * self.alpha * candidates.value
