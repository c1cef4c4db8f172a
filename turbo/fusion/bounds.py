"""Parameter-free strategies that follow from an error bound: attention mass times squared distance.

For unit vectors the squared distance is 2(1 - R). Both are scale-free: any factor on A keeps the ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from turbo.fusion.candidates import Candidates


@dataclass(frozen=True)
class Bound:
    """What the source loses, E = -A(1 - R): its attention times its distance from the partner.

    Examples:
        >>> Bound()
        Bound()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        return -candidates.value * (1 - candidates.redundancy)


@dataclass(frozen=True)
class Ward:
    """What both ends lose, E = -A_s·A_d/(A_s + A_d)·(1 - R): Ward's cost with attention as the weight.

    Where both values are 0 the cost is 0.

    Examples:
        >>> Ward()
        Ward()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        source, partner = candidates.value, candidates.partner_value
        # Divide before multiplying, by a sum that cannot be 0: no overflow or 0/0 at any scale of A.
        share = partner / (source + partner).clamp_min(1e-30)
        return -source * share * (1 - candidates.redundancy)
