"""The fusion strategies, as formulas and as code: docs/theory/fusion-strategies.md."""

import dataclasses
from itertools import pairwise

import pytest
import symbolic
import sympy as sp
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from turbo.fusion import S1, S2, S3, S4, Attention, Candidates, Random, ToMe, Ward
from turbo.testing.generators import candidates, normal, per_token_strategies, seeds, weights

EPS = torch.finfo(torch.float64).eps
TINY = 1e-6  # what S2 divides by at least

paper_strategies = st.one_of(
    st.builds(S1, alpha=weights),
    st.builds(S2),
    st.builds(S3, alpha=weights),
    st.builds(S4, alpha=weights, beta=st.floats(0.5, 2), gamma=st.integers(-3, 12)),
)

TABLE_1 = [("S1", 6, None, None), ("S2", None, None, None)]
TABLE_1 += [("S3", alpha, None, None) for alpha in (1, 2, 3, 4)]
TABLE_1 += [("S4", 6, beta, gamma) for beta in (0.9, 1.1) for gamma in range(1, 11)]


def replaced(c, **fields):
    return dataclasses.replace(c, **fields)


def map_fields(c, function):
    return Candidates(*(function(getattr(c, f.name)) for f in dataclasses.fields(c)[:-1]), depth=c.depth)


def judged(strategy, redundancy, value, depth=0):
    """The priority of tokens given as two lists."""
    r, a = (torch.tensor([x], dtype=torch.float64) for x in (redundancy, value))
    return strategy(Candidates(r, a, torch.ones_like(a), torch.ones_like(a), torch.ones_like(a), depth))[0]


def parameters(strategy):
    return dataclasses.asdict(strategy)


def assert_is(formulas, strategy, c):
    """The code gives the formula's exact value, up to some eight roundings of the numbers that are added."""
    formula = formulas[type(strategy).__name__]
    found, fields = strategy(c).flatten().tolist(), parameters(strategy)
    weight = fields.get("alpha", 0.0) * fields.get("beta", 1.0) ** abs(fields.get("gamma", 0) - c.depth)
    for priority, r, a in zip(found, c.redundancy.flatten().tolist(), c.value.flatten().tolist(), strict=True):
        exact = float(symbolic.exactly(formula, r, a, block=c.depth, tiny=TINY, **fields))
        # S2 has one term (its rounding is relative), the others have terms of the size of R and of alpha A.
        scale = abs(exact) if isinstance(strategy, S2) else abs(r) + (1 + abs(r)) * weight * a
        assert abs(priority - exact) <= 4 * EPS * scale + 1e-300  # below it products underflow


# The published formulas


@given(paper_strategies, candidates(), st.floats(0, 1))
def test_on_their_domain_strategies_are_the_published_formulas(strategy, c, share):
    """Proposition 2.1: S1 and S4 everywhere, S2 on R >= 0 and A >= 1e-6, S3 on R >= 0 and alpha A <= 1."""
    if isinstance(strategy, S2 | S3):
        c = replaced(c, redundancy=c.redundancy.abs(), value=c.value.clamp_min(TINY))
    if isinstance(strategy, S3):
        strategy = S3(share / float(c.value.max()))
    assert_is(symbolic.PUBLISHED, strategy, c)


@pytest.mark.parametrize(("name", "alpha", "beta", "gamma"), TABLE_1)
@given(redundancy=st.floats(0, 1), value=st.floats(1e-6, 1), block=st.integers(0, 11))
def test_the_rows_of_table_1(name, alpha, beta, gamma, redundancy, value, block):
    """Proposition 2.1: each row of Table 1 is a strategy here; S3's rows leave their domain at A = 1 / (30 alpha)."""
    given_ = {"alpha": alpha and 30.0 * alpha, "beta": beta, "gamma": gamma}
    strategy = {"S1": S1, "S2": S2, "S3": S3, "S4": S4}[name](**{k: v for k, v in given_.items() if v is not None})
    one = torch.ones(1, 1, dtype=torch.float64)
    c = Candidates(one * redundancy, one * value, one, one, one, block)
    if name == "S3" and 30 * alpha * value > 1:
        assert_is(symbolic.CONTINUED, strategy, c)
        u = 1 - 30 * alpha * value
        gap = u * (1 - 2 * redundancy)  # u(1 - R), what the code gives there, less the published uR
        published = float(symbolic.exactly(symbolic.PUBLISHED["S3"], redundancy, value, alpha=30.0 * alpha))
        assert abs(float(strategy(c)) - published - gap) <= 32 * EPS * (1 + 30 * alpha * value)
    else:
        assert_is(symbolic.PUBLISHED, strategy, c)
    if name == "S4":
        scale = beta ** abs(gamma - block)
        assert 0.9**10 <= scale <= 1.1**10  # between .34 and 2.6 times S1's weight


def test_on_their_domain_the_formulas_rise_in_redundancy_and_fall_in_value():
    """Proposition 2.2: by the signs of the derivatives of Eq. (3)-(6), each on its domain."""
    regions = {
        "S1": ({}, 1, -1),
        "S2": (symbolic.S2_REGIONS["R >= 0"], 1, -1),
        "S3": (symbolic.S3_REGIONS["R >= 0, u >= 0"], 1, -1),
        "S4": ({}, 1, -1),
    }
    for name, (region, in_redundancy, in_value) in regions.items():
        formula = symbolic.PUBLISHED[name]
        assert symbolic.derivative_sign(formula, symbolic.R, region) == in_redundancy, name
        assert symbolic.derivative_sign(formula, symbolic.A, region) == in_value, name


def test_outside_their_domain_two_formulas_are_reversed():
    """Proposition 2.3: for R < 0, R/A and R(1 - alpha A) rise in A; for alpha A > 1, R(1 - alpha A) falls in R."""
    s2, s3, unlike = symbolic.PUBLISHED["S2"], symbolic.PUBLISHED["S3"], {symbolic.R: -symbolic.r}
    assert symbolic.derivative_sign(s2, symbolic.A, unlike) == 1
    assert symbolic.derivative_sign(s3, symbolic.A, unlike) == 1
    assert symbolic.derivative_sign(s3, symbolic.R, {symbolic.A: (1 + symbolic.v) / symbolic.alpha}) == -1


@given(st.floats(-1, -1e-3), st.floats(1e-3, 50), st.floats(1e-3, 50), st.floats(1e-3, 10))
def test_two_unlike_tokens_of_the_same_redundancy(redundancy, value, more, alpha):
    """Proposition 2.3: of equal R < 0, published S2 and S3 merge the attended token first, the code the other one."""
    attended = value + more
    for name, strategy, fields in (("S2", S2(), {}), ("S3", S3(alpha), {"alpha": alpha})):
        formula = symbolic.PUBLISHED[name]
        ignored, listened = (symbolic.exactly(formula, redundancy, a, **fields) for a in (value, attended))
        assert listened > ignored, name
        first, second = judged(strategy, [redundancy] * 2, [value, attended]).tolist()
        assert second < first, name


@given(st.floats(0, 0.999), st.floats(1e-3, 1), st.floats(1.001, 50), st.floats(1e-2, 10))
def test_two_tokens_that_are_attended_much(redundancy, more, excess, alpha):
    """Proposition 2.3: where alpha A > 1, published S3 merges the less redundant first, the code the other."""
    alike, value = min(redundancy + more, 1.0), excess / alpha
    assume(alpha * value > 1.0001)
    distinct, similar = (symbolic.exactly(symbolic.PUBLISHED["S3"], r, value, alpha=alpha) for r in (redundancy, alike))
    assert distinct > similar
    first, second = judged(S3(alpha), [redundancy, alike], [value, value]).tolist()
    assert second > first


def test_nobody_attends():
    """Proposition 2.3: R/A has no value at A = 0; the code's S2 has that of A = 1e-6, S1, S3 and S4 have R."""
    assert symbolic.PUBLISHED["S2"].subs({symbolic.A: 0, symbolic.R: sp.Rational(1, 2)}) == sp.zoo
    redundancy = [-1.0, -0.5, 0.0, 0.25, 1.0]
    assert torch.equal(judged(S2(), redundancy, [0.0] * 5), judged(S2(), redundancy, [TINY] * 5))
    for strategy in (S1(3.0), S3(3.0), S4(3.0, 1.5, 2)):
        assert judged(strategy, redundancy, [0.0] * 5).tolist() == redundancy


# The continuation


@given(paper_strategies, candidates())
def test_everywhere_strategies_are_the_continued_formulas(strategy, c):
    """Proposition 2.4: on all of R in [-1, 1] and A >= 0 the code computes the continued formulas."""
    assert_is(symbolic.CONTINUED, strategy, c)


def test_the_pieces_rise_in_redundancy_and_fall_in_value():
    """Proposition 2.5: by the signs of the derivatives of each piece of the continued S2 and S3."""
    pieces = [(symbolic.S2_PIECES, symbolic.S2_REGIONS), (symbolic.S3_PIECES, symbolic.S3_REGIONS)]
    for formulas, regions in pieces:
        assert formulas.keys() == regions.keys()
        for name, formula in formulas.items():
            assert symbolic.derivative_sign(formula, symbolic.R, regions[name]) == 1, name
            assert symbolic.derivative_sign(formula, symbolic.A, regions[name]) == -1, name


def test_the_pieces_meet():
    """Proposition 2.6: neighbouring pieces agree on their common edge, so the continued formulas have no jump."""
    at_zero, at_one = {symbolic.R: 0}, {symbolic.A: 1 / symbolic.alpha}
    s2, s3 = symbolic.S2_PIECES, symbolic.S3_PIECES
    joints = [
        (s2["R >= 0"], s2["R < 0"], at_zero),
        (s3["R >= 0, u >= 0"], s3["R < 0, u >= 0"], at_zero),
        (s3["R >= 0, u < 0"], s3["R < 0, u < 0"], at_zero),
        (s3["R >= 0, u >= 0"], s3["R >= 0, u < 0"], at_one),
        (s3["R < 0, u >= 0"], s3["R < 0, u < 0"], at_one),
    ]
    for one, other, edge in joints:
        assert sp.simplify((one - other).subs(edge)) == 0


steps = st.one_of(st.just(0.0), st.floats(1e-9, 1e-3))


@given(st.floats(1e-3, 50), st.floats(-1, 1), st.booleans(), st.floats(1e-3, 50), steps, steps)
def test_no_jump(alpha, redundancy, at_zero, value, in_redundancy, in_value):
    """Proposition 2.6: a small step in R and A, across a joint or not, is a small step in E."""
    redundancy = 0.0 if at_zero else redundancy
    value = value if at_zero else 1 / alpha
    r = [max(redundancy - in_redundancy, -1.0), min(redundancy + in_redundancy, 1.0)]
    a = [value * (1 - in_value), value * (1 + in_value)]
    moved_r, moved_a = r[1] - r[0], a[1] - a[0]
    # The steepest slopes that the pieces have between the two points.
    slopes = {
        S3(alpha): (1 + alpha * a[1], 2 * alpha),
        S2(): (max(a[1], 1 / a[0]), max(1.0, 1 / a[0] ** 2)),
    }
    for strategy, (slope_r, slope_a) in slopes.items():
        for redundancies in (r, r[::-1]):
            before, after = judged(strategy, redundancies, a).tolist()
            bound = slope_r * moved_r + slope_a * moved_a
            assert abs(after - before) <= bound * (1 + 1e-9) + 16 * EPS * (slope_r + slope_a)


# Every strategy


@given(per_token_strategies, candidates(), st.floats(0, 2))
def test_rises_in_redundancy(strategy, c, step):
    """Proposition 2.7: a more redundant token never merges later, anywhere in the range: not by one rounding."""
    higher = replaced(c, redundancy=(c.redundancy + step).clamp_max(1))
    assert (strategy(higher) >= strategy(c)).all()


@given(per_token_strategies, candidates(), st.floats(0, 10))
def test_falls_in_value(strategy, c, step):
    """Proposition 2.7: a token that is attended more never merges earlier; Ward, a quotient of A, up to rounding."""
    attended = replaced(c, value=c.value + step)
    rounding = 8 * EPS * strategy(c).abs() if isinstance(strategy, Ward) else 0
    assert (strategy(attended) <= strategy(c) + rounding).all()


@given(st.builds(Ward, floor=weights), candidates(), st.floats(0, 10), st.floats(0, 10))
def test_ward_falls_in_the_partners_value_and_in_its_floor(strategy, c, step, more):
    """Proposition 2.7: Ward falls in the partner's A and in the floor, too, up to rounding."""
    rounding = 8 * EPS * strategy(c).abs()
    assert (strategy(replaced(c, partner_value=c.partner_value + step)) <= strategy(c) + rounding).all()
    assert (Ward(strategy.floor + more)(c) <= strategy(c) + rounding).all()


@given(per_token_strategies, candidates())
def test_finite(strategy, c):
    """Proposition 2.8: every priority is a finite number, one per source, in the redundancy's precision."""
    for example in (c, map_fields(c, torch.Tensor.float)):
        priority = strategy(example)
        assert priority.isfinite().all()
        assert priority.shape == example.redundancy.shape
        assert priority.dtype == example.redundancy.dtype


@given(per_token_strategies, candidates(), st.randoms(use_true_random=False))
def test_permuting_the_tokens_permutes_the_priorities(strategy, c, random):
    """Proposition 2.9: a strategy judges each token by itself: order does not matter."""
    order = random.sample(range(c.redundancy.shape[1]), c.redundancy.shape[1])
    assert torch.equal(strategy(map_fields(c, lambda t: t[:, order])), strategy(c)[:, order])


@given(per_token_strategies, candidates())
def test_images_of_a_batch_do_not_see_each_other(strategy, c):
    """Proposition 2.9: judging a batch is judging each image alone."""
    for b in range(len(c.redundancy)):
        assert torch.equal(strategy(map_fields(c, lambda t, b=b: t[b : b + 1]))[0], strategy(c)[b])


@given(per_token_strategies, candidates())
def test_candidates_are_left_as_they_are(strategy, c):
    """Proposition 2.9: a strategy is pure: it changes nothing that it is given, and twice gives the same."""
    before = map_fields(c, torch.Tensor.clone)
    first = strategy(c).clone()
    assert torch.equal(strategy(c), first)
    for field in dataclasses.fields(c)[:-1]:
        assert torch.equal(getattr(c, field.name), getattr(before, field.name))


@given(st.one_of(paper_strategies, st.builds(ToMe), st.builds(Attention)), candidates(), seeds)
def test_what_the_published_strategies_read(strategy, c, seed):
    """Proposition 2.9: S1-S4 see R, A and (S4) the block; not the partner's A and not sizes."""
    other = [normal(seed + i, *c.value.shape).abs() for i in range(3)]
    changed = replaced(c, partner_value=other[0], size=other[1], partner_size=other[2])
    assert torch.equal(strategy(changed), strategy(c))
    if not isinstance(strategy, S4):
        assert torch.equal(strategy(replaced(c, depth=c.depth + 1)), strategy(c))


@given(per_token_strategies, candidates(), st.sampled_from([1, 100, 10000]))
def test_single_precision_agrees_with_double(strategy, c, larger):
    """Proposition 2.10: single precision changes a priority by its rounding only."""
    single = map_fields(replaced(c, size=c.size * larger), torch.Tensor.float)
    exact = strategy(map_fields(single, torch.Tensor.double))
    found = strategy(single)
    assert found.dtype == torch.float32
    if isinstance(strategy, S1 | S3 | S4):  # differences: rounding is on the scale of what is subtracted
        weight = strategy.alpha * (strategy.beta ** abs(strategy.gamma - c.depth) if isinstance(strategy, S4) else 1)
        scale = 1 + weight * c.value
    else:
        scale = exact.abs().clamp_min(1e-30)
    assert ((found - exact).abs() <= 1e-6 * scale).all()


# Relations


@given(candidates(), weights, st.floats(0.5, 2), st.integers(-3, 30))
def test_the_family_relations(c, alpha, beta, gamma):
    """Proposition 2.11: S4 with beta = 1, or in block gamma, is S1; S1 and S3 with alpha = 0 are ToMe; bit for bit."""
    assert torch.equal(S4(alpha, beta=1, gamma=gamma)(c), S1(alpha)(c))
    assert torch.equal(S4(alpha, beta, gamma=c.depth)(c), S1(alpha)(c))
    assert torch.equal(S1(0)(c), ToMe()(c))
    assert torch.equal(S3(0)(c), ToMe()(c))


def test_the_family_relations_in_symbols():
    """Proposition 2.11: as formulas, Eq. (6) with beta = 1 or block = gamma is Eq. (3); alpha = 0 leaves R."""
    s1, s3, s4 = (symbolic.PUBLISHED[name] for name in ("S1", "S3", "S4"))
    assert s4.subs(symbolic.beta, 1) == s1
    assert s4.subs(symbolic.block, symbolic.gamma) == s1
    assert s1.subs(symbolic.alpha, 0) == symbolic.R
    assert s3.subs(symbolic.alpha, 0) == symbolic.R


@given(st.integers(2, 24), st.data(), st.floats(1.01, 2), st.floats(0.1, 10))
def test_beta_above_one_weighs_value_least_at_gamma(blocks, data, beta, alpha):
    """Proposition 2.12: the weight of A grows away from block gamma for beta > 1 and shrinks for beta < 1."""
    gamma = data.draw(st.integers(0, blocks - 1))

    def weight(strategy, depth):
        return float(judged(strategy, [0.0], [0.0], depth) - judged(strategy, [0.0], [1.0], depth))

    for base, sign in ((beta, 1), (1 / beta, -1)):
        found = [sign * weight(S4(alpha, base, gamma), depth) for depth in range(blocks)]
        assert found[gamma] == sign * alpha
        assert all(a > b for a, b in pairwise(found[: gamma + 1]))  # falls towards gamma
        assert all(a < b for a, b in pairwise(found[gamma:]))  # rises after it


def test_the_sign_of_the_weight_in_depth():
    """Proposition 2.12: by the sign of the derivative of beta^x in the distance x, for beta above and below 1."""
    x, excess = sp.symbols("x excess", positive=True)
    slope = sp.diff(symbolic.beta**x, x)
    assert slope.subs(symbolic.beta, 1 + excess).is_positive
    assert sp.expand_log(slope.subs(symbolic.beta, 1 / (1 + excess)), force=True).simplify().is_negative


@given(candidates(), st.integers(-10, 10))
def test_the_units_of_value_do_not_move_these_rankings(c, power):
    """Proposition 2.13: a factor on A leaves the ranking of S2 (A >= 1e-6 before and after) and of Attention."""
    factor = 2.0**power  # so that products are exact
    c = replaced(c, value=c.value.clamp_min(TINY * 2**10))
    scaled = replaced(c, value=c.value * factor)
    wanted = torch.where(c.redundancy >= 0, S2()(c) / factor, S2()(c) * factor)
    assert torch.equal(S2()(scaled), wanted)
    for strategy in (S2(), Attention(), ToMe()):
        first, second = strategy(c), strategy(scaled)
        assert torch.equal(first[:, :, None] > first[:, None, :], second[:, :, None] > second[:, None, :])


@given(candidates(), weights, st.integers(-10, 10))
def test_alpha_takes_up_the_units_of_value(c, alpha, power):
    """Proposition 2.13: S1, S3 and S4 depend on alpha A alone: alpha / c with A c is the same, bit for bit."""
    factor = 2.0**power
    alpha = round(alpha, 6)  # far from numbers whose fraction would be cut off
    scaled = replaced(c, value=c.value * factor)
    assert torch.equal(S1(alpha / factor)(scaled), S1(alpha)(c))
    assert torch.equal(S3(alpha / factor)(scaled), S3(alpha)(c))
    assert torch.equal(S4(alpha / factor)(scaled), S4(alpha)(c))


def test_the_units_of_value_move_s1_s3_and_s2s_clamp():
    """Proposition 2.13: a factor on A turns S1's and S3's ranking, and S2's where a value falls below 1e-6."""
    redundancy, value = [0.9, 0.8], [0.5, 0.1]
    for strategy in (S1(0.5), S3(0.5), S4(0.5)):
        a, b = judged(strategy, redundancy, value).tolist()
        assert a < b
        a, b = judged(strategy, redundancy, [x / 8 for x in value]).tolist()
        assert a > b
    a, b = judged(S2(), redundancy, value).tolist()
    assert a < b
    a, b = judged(S2(), redundancy, [x * 1e-6 for x in value]).tolist()
    assert a > b


@given(
    st.lists(st.tuples(st.integers(-64, 32), st.integers(0, 640)), min_size=2, max_size=8),
    st.integers(0, 40),
    st.integers(0, 32),
)
def test_an_offset_of_redundancy_does_not_move_s1_and_s4(tokens, alpha, offset):
    """Proposition 2.14: a number added to every R is added to every S1 and S4 priority: the ranking stays."""
    redundancy, value = ([x / 64 for x in column] for column in zip(*tokens, strict=True))  # exact in binary
    shifted = [x + offset / 64 for x in redundancy]
    for strategy in (S1(alpha / 8), S4(alpha / 8, beta=0.5, gamma=3), ToMe()):
        before, after = judged(strategy, redundancy, value), judged(strategy, shifted, value)
        assert torch.equal(after, before + offset / 64)


def test_an_offset_of_redundancy_moves_s2_and_s3():
    """Proposition 2.14: S2 and S3 scale R, so the same offset of R does turn their ranking."""
    for strategy in (S2(), S3(0.5)):
        a, b = judged(strategy, [0.4, 0.0], [1.5, 0.5]).tolist()
        assert a > b
        a, b = judged(strategy, [0.4 + 0.6, 0.0 + 0.6], [1.5, 0.5]).tolist()
        assert a < b


def on_the_matrix(strategy, cosines, value, depth):
    """The strategy on the whole similarity matrix ``m k``: each source with each destination."""
    value = value[:, None].expand_as(cosines)
    one = torch.ones_like(cosines)
    return strategy(Candidates(cosines, value, one, one, one, depth))


@given(st.one_of(paper_strategies, st.just(ToMe()), st.just(Attention())), seeds, st.integers(1, 6), st.integers(1, 6))
def test_fusing_after_the_maximum_loses_nothing(strategy, seed, sources, destinations):
    """Proposition 2.15: the best pairwise priority is the priority of the most similar partner, bit for bit."""
    cosines = normal(seed, sources, destinations).clamp(-1, 1)
    value = normal(seed + 1, sources).abs()
    best = on_the_matrix(strategy, cosines, value, 3).max(dim=1).values
    assert torch.equal(best, on_the_matrix(strategy, cosines.max(dim=1, keepdim=True).values, value, 3)[:, 0])


@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(0, 100))
def test_s1_and_s4_choose_the_same_partner_on_the_whole_matrix(seed, sources, destinations, alpha):
    """Proposition 2.15: fused pairwise, S1 and S4 choose the most similar partner, as after the maximum."""
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.randint(-64, 65, (sources, destinations), generator=generator).double() / 64  # exact in binary
    value = torch.randint(0, 640, (sources,), generator=generator).double() / 64
    for strategy in (S1(alpha / 8), S4(alpha / 8, beta=0.5, gamma=5)):
        assert torch.equal(on_the_matrix(strategy, cosines, value, 3).argmax(dim=1), cosines.argmax(dim=1))


@given(seeds, st.integers(2, 6), st.floats(1.01, 10), st.floats(0.01, 10))
def test_published_s3_on_the_whole_matrix_takes_the_least_similar_partner(seed, destinations, excess, alpha):
    """Proposition 2.15: where alpha A > 1, published S3 fused pairwise chooses the least similar partner."""
    cosines = (torch.randperm(100, generator=torch.Generator().manual_seed(seed))[:destinations] / 128).double()
    value = excess / alpha
    published = [symbolic.exactly(symbolic.PUBLISHED["S3"], r, value, alpha=alpha) for r in cosines.tolist()]
    assert published.index(max(published)) == int(cosines.argmin())
    found = on_the_matrix(S3(alpha), cosines[None], torch.tensor([value], dtype=torch.float64), 0)
    assert int(found.argmax()) == int(cosines.argmax())


# Random


@given(seeds, st.integers(0, 40), st.integers(1, 3), st.integers(1, 64))
def test_random_is_a_function_of_seed_depth_and_position(seed, depth, batch, m):
    """Proposition 2.16: Random is in [0, 1), the same for the same seed, depth and position; no global state."""
    before = torch.get_rng_state()
    tensors = [normal(seed + i, batch, m) for i in range(5)]
    first = Random(seed)(Candidates(*tensors, depth=depth))
    again = Random(seed)(Candidates(*(t[:1] * 2 for t in tensors), depth=depth))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again.expand_as(first))
    assert first.min() >= 0
    assert first.max() < 1
    longer = Random(seed)(Candidates(*(normal(i, 1, m + 5) for i in range(5)), depth=depth))
    assert torch.equal(longer[:, :m], again)
    if m >= 32:
        for other in (
            Random(seed + 1)(Candidates(*tensors, depth=depth)),
            Random(seed)(Candidates(*tensors, depth + 1)),
        ):
            assert not torch.equal(other.argsort(dim=1), first.argsort(dim=1))
