"""Parameter-free strategies that follow from error bounds: attention mass times squared distance.

For unit vectors the squared distance is 2(1 - R). All are scale-free: any factor on A keeps the ranking. The bounds
and their proofs are in the documentation, Theory, Error bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from turbo.fusion.candidates import Candidates


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
    """What both ends lose at best, E = -A_s·A_d/(A_s + A_d)·(1 - R): Ward's cost with attention as the weight.

    The attention-weighted squared error about the attention-weighted mean, the least that any representative can
    have; also the leading term of the change of an attention layer's output. Where both values are 0 the cost is 0.

    Examples:
        >>> Ward()
        Ward()
    """

    def __call__(self, candidates: Candidates) -> Tensor:
        source, partner = candidates.value, candidates.partner_value
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
