"""What the paper's supplement prints in its tables 1 and 2, and how its coefficients carry over to another model.

Neither table says which model it is of, how many tokens that has, or the Υ of table 1. We take the paper's captioner to
be BLIP with its base vision encoder at 384 pixels: 24 x 24 patches and a class token, 577 tokens, in 12 blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbo.errors import TurboError

TOKENS, BLOCKS = 577, 12
FACTOR = 30.0
"""What the published code multiplies A by; the paper does not print it, so its α = 6 is R - 180 A."""


@dataclass(frozen=True)
class Printed:
    """Figures of one row, as the paper has them.

    Attributes:
        bleu4: BLEU@4, times 100.
        cider: CIDEr, times 100.
        throughput: images/s.
    """

    bleu4: float
    cider: float
    throughput: float


@dataclass(frozen=True)
class FusionRow:
    """A row of table 1: a fusion strategy with its coefficients, None where it has no such one."""

    strategy: str
    alpha: float | None
    beta: float | None
    gamma: int | None
    printed: Printed

    @property
    def name(self) -> str:
        """Unlike that of any other row: "S4 alpha=6 beta=0.9 gamma=1"."""
        values = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
        given = (f"{name}={value:g}" for name, value in values.items() if value is not None)
        return " ".join([self.strategy, *given])


@dataclass(frozen=True)
class ThresholdRow:
    """A row of table 2: tokens that each block merges, and the least number of tokens at which it still does."""

    drop: int
    threshold: int
    printed: Printed

    @property
    def name(self) -> str:
        """Unlike that of any other row: "drop=65 threshold=70"."""
        return f"drop={self.drop} threshold={self.threshold}"


# B@4 and CIDEr of S4 for gamma = 1 to 10; all its rows have one throughput.
_S4 = {
    0.9: (
        (38.2, 38.3, 38.1, 38.2, 38.1, 38.0, 38.0, 38.4, 38.2, 38.2),
        (129.5, 129.5, 129.5, 129.5, 129.7, 129.2, 129.5, 130.2, 129.9, 129.7),
    ),
    1.1: (
        (38.3, 38.3, 38.4, 38.3, 38.5, 38.1, 38.2, 38.5, 38.2, 38.2),
        (130.0, 130.3, 130.1, 129.9, 129.9, 129.3, 129.6, 130.3, 129.8, 129.6),
    ),
}

TABLE_1: tuple[FusionRow, ...] = (
    FusionRow("S1", 6, None, None, Printed(38.2, 130.0, 67.6)),
    FusionRow("S2", None, None, None, Printed(38.2, 129.9, 62.8)),
    FusionRow("S3", 1, None, None, Printed(37.8, 128.5, 61.9)),
    FusionRow("S3", 2, None, None, Printed(37.9, 128.4, 61.9)),
    FusionRow("S3", 3, None, None, Printed(36.9, 125.7, 61.9)),
    FusionRow("S3", 4, None, None, Printed(36.1, 123.1, 61.9)),
    *(
        FusionRow("S4", 6, beta, gamma, Printed(bleu4, cider, 67.4))
        for beta, figures in _S4.items()
        for gamma, (bleu4, cider) in enumerate(zip(*figures, strict=True), start=1)
    ),
)
"""Fusion strategies and their coefficients (supplement, section 2.1)."""

TABLE_2: tuple[ThresholdRow, ...] = (
    ThresholdRow(65, 0, Printed(28.8, 95.5, 107.6)),
    ThresholdRow(65, 70, Printed(31.1, 104.3, 103.3)),
    ThresholdRow(65, 130, Printed(34.2, 115.3, 100.8)),
    ThresholdRow(70, 0, Printed(27.3, 89.4, 113.0)),
    ThresholdRow(70, 70, Printed(31.0, 103.7, 110.7)),
)
"""Large Υ with and without a threshold (supplement, section 2.2)."""


@dataclass(frozen=True)
class Units:
    """How a printed α is read.

    Attributes:
        literal: α multiplies A as a probability, as the equations have it. Otherwise it keeps the weight that it has
            among the paper's 577 tokens: A there averages 1/577, so α A is (α / 577) times A in units of its mean.
        factor: what A is multiplied by besides.

    Examples:
        >>> round(Units().alpha(6), 3), Units().semantic_units
        (0.312, 'relative')
        >>> Units(literal=True, factor=1).alpha(6)
        6
    """

    literal: bool = False
    factor: float = FACTOR

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise TurboError(
                f"factor={self.factor}: A is multiplied by a number above 0; the published code has {FACTOR:g}"
            )

    @property
    def semantic_units(self) -> str:
        """The option of `turbo.accelerate`."""
        return "probability" if self.literal else "relative"

    def alpha(self, printed: float) -> float:
        """The α for `semantic_units`."""
        return self.factor * printed if self.literal else self.factor * printed / TOKENS


def gamma_in(blocks: int, gamma: int) -> float:
    """The place of S4's γ in a model of other depth, at the same share of the way from the first block to the last.

    The supplement does not say what its first block is called. γ runs from 1 to 10, and these are the inner ones of 12
    blocks counted from 0, so it is taken as printed: `blocks` = 12 changes nothing. A place between two blocks is
    fine: S4 needs distances from it only.

    Examples:
        >>> gamma_in(12, 6), round(gamma_in(6, 6), 2)
        (6, 2.73)
    """
    place = gamma * (_require_several(blocks) - 1) / (BLOCKS - 1)
    return int(place) if place.is_integer() else place


def beta_in(blocks: int, beta: float) -> float:
    """S4's β for a model of other depth: with `gamma_in`, A has the same weight at the same relative depth.

    Examples:
        >>> beta_in(12, 1.1), round(beta_in(6, 1.1), 3)
        (1.1, 1.233)
    """
    return float(beta ** ((BLOCKS - 1) / (_require_several(blocks) - 1)))


def drop_in(tokens: int, blocks: int, drop: int) -> int:
    """Υ for another model: all blocks together are asked for the same share of its tokens.

    Examples:
        >>> drop_in(577, 12, 65), drop_in(197, 6, 65)
        (65, 44)
    """
    return round(drop * BLOCKS * tokens / (TOKENS * blocks))


def threshold_in(tokens: int, threshold: int) -> int:
    """A threshold for another model: the same share of its tokens.

    Examples:
        >>> threshold_in(577, 70), threshold_in(197, 70)
        (70, 24)
    """
    return round(threshold * tokens / TOKENS)


def _require_several(blocks: int) -> int:
    if blocks < 2:
        raise TurboError(f"a model of {blocks} block has no depth to place S4's γ in; take one of two or more")
    return blocks
