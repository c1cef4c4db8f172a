"""The four fusion strategies as formulas, written in sympy from the supplement and apart from turbo's code."""

from fractions import Fraction

import sympy as sp

R = sp.Symbol("R", real=True)
A = sp.Symbol("A", positive=True)
alpha = sp.Symbol("alpha", positive=True)
beta = sp.Symbol("beta", positive=True)
gamma = sp.Symbol("gamma", integer=True)
block = sp.Symbol("block", integer=True)
tiny = sp.Symbol("tiny", positive=True)  # the smallest A that S2 divides by

left = 1 - alpha * A  # what S3 leaves of R: u on the theory page

PUBLISHED = {
    "S1": R - alpha * A,  # Eq. (3)
    "S2": R / A,  # Eq. (4)
    "S3": R * left,  # Eq. (5)
    "S4": R - beta ** sp.Abs(gamma - block) * alpha * A,  # Eq. (6)
}

S2_PIECES = {"R >= 0": R / A, "R < 0": R * A}
S3_PIECES = {
    "R >= 0, u >= 0": left * R,
    "R >= 0, u < 0": left * (1 - R),
    "R < 0, u >= 0": (2 - left) * R,
    "R < 0, u < 0": left + (2 - left) * R,
}

# Each region again, in numbers that are not negative: sympy then knows the signs.
r, d, v, a = sp.symbols("r d v a", nonnegative=True)
S2_REGIONS = {"R >= 0": {R: r}, "R < 0": {R: -r}}
S3_REGIONS = {
    "R >= 0, u >= 0": {R: r, A: (1 - v) / alpha},  # u = v
    "R >= 0, u < 0": {R: 1 - d, A: (1 + v) / alpha},  # u = -v, and R <= 1
    "R < 0, u >= 0": {R: -r, A: a},
    "R < 0, u < 0": {R: -r, A: a},
}

_held = sp.Max(A, tiny)
CONTINUED = PUBLISHED | {
    "S2": sp.Piecewise((R / _held, R >= 0), (R * _held, True)),
    "S3": sp.Piecewise(
        (sp.Piecewise((S3_PIECES["R >= 0, u >= 0"], left >= 0), (S3_PIECES["R >= 0, u < 0"], True)), R >= 0),
        (sp.Piecewise((S3_PIECES["R < 0, u >= 0"], left >= 0), (S3_PIECES["R < 0, u < 0"], True)), True),
    ),
}
"""What turbo computes on the whole range."""

SYMBOLS = (R, A, alpha, beta, gamma, block, tiny)
_FUNCTIONS: dict[sp.Expr, object] = {}


def exactly(formula, redundancy, value, *, alpha=0.0, beta=1.0, gamma=0, block=0, tiny=1e-6):
    """The formula's value at these floats, in exact fractions: no rounding but that of the floats themselves."""
    if formula not in _FUNCTIONS:
        _FUNCTIONS[formula] = sp.lambdify(SYMBOLS, formula, modules="math")
    numbers = (redundancy, value, alpha, beta, gamma, block, tiny)
    result = _FUNCTIONS[formula](*map(Fraction, numbers))
    assert isinstance(result, Fraction | int), "a float slipped into the formula"
    return Fraction(result)


def derivative_sign(piece, by, region):
    """-1, 0 or 1 where sympy proves the derivative's sign in the region (-1: never above 0, 1: never below); None."""
    slope = sp.simplify(sp.diff(piece, by).subs(region))
    if slope.is_zero:
        return 0
    if slope.is_nonnegative:
        return 1
    return -1 if slope.is_nonpositive else None
