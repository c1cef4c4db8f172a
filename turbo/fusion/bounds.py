"""Strategies that follow from error bounds: attention mass times squared distance.

For unit vectors the squared distance is 2(1 - R). Without a floor all are scale-free: any factor on A keeps the
ranking. The bounds and their proofs are in the documentation, Theory, Error bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from turbo import defaults
from turbo.fusion.candidates import Candidates
from turbo.fusion.parameters import require_weight


@dataclass(frozen=True)
class Bound:
    """What the source loses, E = -A(1 - R): its attention times its distance from the partner.

    The attention-weighted squared error if the partner stayed where it is.

    Examples:
        >>> Bound()
        Bound()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        return -candidates.value * (1 - candidates.redundancy)


@dataclass(frozen=True)
class Ward:
    """What both ends lose at best, E = -a_s·a_d/(a_s + a_d)·(1 - R): Ward's cost with a = A + floor as the weight.

    With floor 0 it is the attention-weighted squared error about the attention-weighted mean, the least that any
    representative can have; also the leading term of the change of an attention layer's output. Where both values are
    0 that cost is 0, however different the two are. But A is what one token asks for, and the others ask, too: the
    floor is what every token is worth to them. The larger it is, the more R alone decides.

    Attributes:
        floor: finite, 0 or more, in the units of A. The default is meant for relative units, where A averages 1.

    Examples:
        >>> Ward()
        Ward(floor=0.3)
    """

    floor: float = defaults.FLOOR

    def __post_init__(self) -> None:
        require_weight("floor", self.floor)

    def __call__(self, candidates: Candidates) -> Tensor:
        source, partner = candidates.value + self.floor, candidates.partner_value + self.floor
        # Divide before multiplying, by a sum that cannot be 0: no overflow or 0/0 at any scale of A.
        share = partner / (source + partner).clamp_min(1e-30)
        return -source * share * (1 - candidates.redundancy)


@dataclass(frozen=True)
class Distortion:
    """What both ends lose, E = -(A_s·w_d² + A_d·w_s²)(1 - R), with w the ends' shares of their common size.

    The attention-weighted squared error about the size-weighted mean, which is where the merge really goes.

    Examples:
        >>> Distortion()
        Distortion()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        total = candidates.size + candidates.partner_size
        dtype = candidates.value.dtype
        source, partner = (candidates.size / total).to(dtype), (candidates.partner_size / total).to(dtype)
        cost = candidates.value * partner**2 + candidates.partner_value * source**2
        return -cost * (1 - candidates.redundancy)
