"""Fusion strategies: the supplement's formulas on their domain, and good behaviour at its edges."""

import dataclasses
import itertools

import pytest
import torch

from turbo.engine.score import check_strategy
from turbo.errors import TurboError
from turbo.fusion import S1, S2, S3, S4, Attention, Bound, Candidates, Distortion, Random, ToMe, Ward

ALL = [S1(0.3), S2(), S3(0.3), S4(0.3, 1.3, 2), Attention(), Bound(), Distortion(), Random(), ToMe(), Ward(), Ward(0)]
each = pytest.mark.parametrize("strategy", ALL, ids=repr)

# Every pair of a redundancy and a value; αA reaches 30, far beyond the domain of S3.
REDUNDANCY = torch.linspace(-1, 1, 41, dtype=torch.float64)
VALUE = torch.cat([torch.tensor([0.0, 1e-9, 1e-6]), torch.linspace(0.05, 100, 40)]).double()
GRID = torch.meshgrid(REDUNDANCY, VALUE, indexing="ij")


def candidates(redundancy, value, partner_value=None, depth=0):
    one = torch.ones_like(redundancy)
    partner_value = one if partner_value is None else partner_value
    return Candidates(redundancy, value, partner_value, size=one, partner_size=one, depth=depth)


def inside(n=40, depth=0, seed=0):
    """Candidates on the domain that all four formulas share: R >= 0, A >= 1e-6, αA <= 1 for α up to 0.3."""
    draw = torch.rand(3, 2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return candidates(draw[0], draw[1] * 3 + 1e-6, draw[2] * 3, depth)


@pytest.mark.parametrize("depth", [0, 5, 11])
@pytest.mark.parametrize("alpha", [0, 0.1, 0.3])
def test_on_their_domain_the_four_are_the_supplements_formulas(alpha, depth):
    c = inside(depth=depth)
    r, a = c.redundancy, c.value
    formulas = {
        S1(alpha): r - alpha * a,
        S2(): r / a,
        S3(alpha): r * (1 - alpha * a),
        S4(alpha, beta=1.1, gamma=5): r - 1.1 ** abs(5 - depth) * alpha * a,
        S4(alpha, beta=0.9, gamma=0): r - 0.9**depth * alpha * a,
    }
    for strategy, expected in formulas.items():
        torch.testing.assert_close(strategy(c), expected, atol=0, rtol=1e-14)


def test_the_differences_are_literal_everywhere():
    r, a = GRID
    torch.testing.assert_close(S1(0.3)(candidates(r, a)), r - 0.3 * a, atol=0, rtol=0)
    torch.testing.assert_close(S4(0.3, 1.5, 4)(candidates(r, a, depth=1)), r - 1.5**3 * 0.3 * a, atol=0, rtol=1e-14)


@pytest.mark.parametrize("alpha", [0, 0.1, 7])
@pytest.mark.parametrize("gamma", [0, 5, 100])
def test_s4_with_beta_1_is_s1(alpha, gamma):
    for depth in (0, 5, 23):
        c = inside(depth=depth)
        assert torch.equal(S4(alpha, beta=1, gamma=gamma)(c), S1(alpha)(c))


def test_s1_with_alpha_0_is_tome():
    c = candidates(*GRID)
    assert torch.equal(S1(alpha=0)(c), ToMe()(c))
    assert torch.equal(ToMe()(c), c.redundancy)


def test_s3_with_alpha_0_is_tome():
    c = candidates(*GRID)
    torch.testing.assert_close(S3(alpha=0)(c), c.redundancy, atol=0, rtol=0)


def test_beta_above_1_weighs_attention_most_far_from_gamma():
    """The formula, against the supplement's own sentence about it."""
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)

    def weight_of_value(strategy, depth):
        return float(strategy(candidates(zero, zero, depth=depth)) - strategy(candidates(zero, one, depth=depth)))

    depths = (0, 4, 5, 6, 10)
    assert [weight_of_value(S4(1.0, 2.0, 5), depth) for depth in depths] == [32.0, 2.0, 1.0, 2.0, 32.0]
    assert [weight_of_value(S4(1.0, 0.5, 5), depth) for depth in depths] == [1 / 32, 0.5, 1.0, 0.5, 1 / 32]


def test_the_defaults_are_the_measured_and_documented_ones():
    assert S1() == S1(alpha=0.25)  # docs/benchmarks/choices.md
    assert S3() == S3(alpha=0.25)
    assert S4() == S4(alpha=0.25, beta=1.1, gamma=5)
    assert Ward() == Ward(floor=0.3)
    assert Random() == Random(seed=0)


@each
def test_finite_at_every_edge(strategy):
    r, a = GRID
    for partner in (torch.zeros_like(a), a, a.flip(1)):
        assert strategy(candidates(r, a, partner)).isfinite().all()
        assert strategy(candidates(r.float(), a.float(), partner.float())).isfinite().all()
    check_strategy(strategy, "it")


@each
def test_priority_keeps_shape_and_precision(strategy):
    for dtype, of_sizes in itertools.product((torch.float32, torch.float64), repeat=2):
        r, a = (x[:4, :6].to(dtype) for x in GRID)
        size = torch.ones_like(r, dtype=of_sizes)
        priority = strategy(dataclasses.replace(candidates(r, a), size=size, partner_size=size))
        assert priority.shape == (4, 6)
        assert priority.dtype == dtype


@pytest.mark.parametrize("strategy", [s for s in ALL if not isinstance(s, Random)], ids=repr)
def test_rises_in_redundancy_and_falls_in_value(strategy):
    priority = strategy(candidates(*GRID))
    slack = 1e-12 * priority.abs().max()
    assert (priority.diff(dim=0) >= -slack).all()
    assert (priority.diff(dim=1) <= slack).all()
    if not isinstance(strategy, Attention):
        assert priority[-1, 5] > priority[0, 5]  # not constant in R
    if not isinstance(strategy, ToMe):
        assert priority[30, 0] > priority[30, 20]  # not constant in A


@pytest.mark.parametrize("strategy", [S2(), S3(0.3), S3(5.0)], ids=repr)
def test_no_jump_where_the_domain_ends(strategy):
    """At R = 0 for every A, and at αA = 1 for every R."""
    step = 1e-9
    zero = torch.zeros_like(VALUE[1:])
    below, above = (strategy(candidates((zero + s)[None], VALUE[None, 1:])) for s in (-step, step))
    bound = 2 * step * (1 / 1e-6 + 200 * 5)  # the steepest slopes there: 1/A for S2, 1 + αA for S3
    assert (above - below).abs().max() < bound
    one = torch.full_like(REDUNDANCY, 1 / getattr(strategy, "alpha", 1.0))
    below, above = (strategy(candidates(REDUNDANCY[None], (one * (1 + s))[None])) for s in (-step, step))
    assert (above - below).abs().max() < 1e-7


def test_s2_holds_value_at_a_millionth():
    r, a = torch.tensor([[0.5, 0.5, -0.5, 0.0, -1.0]]), torch.tensor([[0.0, 1e-6, 0.0, 0.0, 3.0]])
    torch.testing.assert_close(S2()(candidates(r, a)), torch.tensor([[5e5, 5e5, -5e-7, 0.0, -3.0]]))


def test_s3_beyond_its_domain():
    """u = 1 - αA; u(1 - R) where u < 0 <= R, a further (2 - u)R where R < 0."""
    r = torch.tensor([[0.5, 1.0, 0.0, -0.5, -0.5]])
    a = torch.tensor([[3.0, 3.0, 3.0, 3.0, 0.5]])
    expected = torch.tensor([[-1.0, 0.0, -2.0, -2.0 - 2.0, -0.75]])
    torch.testing.assert_close(S3(1.0)(candidates(r, a)), expected)


def test_attention_bound_ward_and_distortion_are_their_formulas():
    c = inside()
    a, b, r = c.value, c.partner_value, c.redundancy
    torch.testing.assert_close(Attention()(c), -a, atol=0, rtol=0)
    torch.testing.assert_close(Bound()(c), -a * (1 - r))
    torch.testing.assert_close(Ward(0)(c), -a * b / (a + b) * (1 - r))
    torch.testing.assert_close(Ward(0.7)(c), -(a + 0.7) * (b + 0.7) / (a + b + 1.4) * (1 - r))
    c = dataclasses.replace(c, size=torch.full_like(r, 3), partner_size=torch.full_like(r, 5))
    torch.testing.assert_close(Distortion()(c), -(a * 25 + b * 9) / 64 * (1 - r))


@pytest.mark.parametrize("floor", [0, 0.3, 5.0])
def test_ward_treats_both_ends_alike_and_nobody_attended_costs_half_the_floor(floor):
    c = inside()
    swapped = candidates(c.redundancy, c.partner_value, c.value)
    torch.testing.assert_close(Ward(floor)(c), Ward(floor)(swapped))
    zero = torch.zeros(1, 1)
    assert float(Ward(floor)(candidates(zero - 1, zero, zero))) == pytest.approx(-floor / 2 * 2)


def test_a_floor_keeps_distinct_tokens_that_nobody_attends_apart():
    """Without one they merge before twins that are attended a little; with a high one R alone decides."""
    redundancy = torch.tensor([[-0.5, 0.9, 0.95]])
    value = torch.tensor([[0.0, 0.1, 3.0]])
    c = candidates(redundancy, value, value)
    orders = {floor: Ward(floor)(c).argsort(dim=1, descending=True)[0].tolist() for floor in (0, 0.3, 1e6)}
    assert orders == {0: [0, 1, 2], 0.3: [1, 2, 0], 1e6: [2, 1, 0]}
    assert orders[1e6] == ToMe()(c).argsort(dim=1, descending=True)[0].tolist()


@pytest.mark.parametrize("strategy", [Bound(), Ward(0), Distortion()], ids=repr)
@pytest.mark.parametrize("factor", [2.0**-20, 1 / 577, 30.0, 2.0**20])
def test_these_do_not_depend_on_the_units_of_value(strategy, factor):
    c = inside()
    scaled = candidates(c.redundancy, c.value * factor, c.partner_value * factor)
    torch.testing.assert_close(strategy(scaled), strategy(c) * factor, atol=0, rtol=1e-12)
    assert torch.equal(strategy(scaled).argsort(dim=1), strategy(c).argsort(dim=1))
    assert not torch.equal(S1(0.3)(scaled).argsort(dim=1), S1(0.3)(c).argsort(dim=1))  # unlike S1


def test_random_depends_on_seed_and_depth_alone():
    c = inside(n=64)
    first = Random(seed=3)(c)
    assert torch.equal(first, Random(seed=3)(inside(n=64, seed=9)))
    assert torch.equal(first[0], first[1])  # alike for a batch
    others = [Random(seed=4)(c), Random(seed=-3)(c), Random(seed=3)(inside(n=64, depth=1)), Random(seed=10**12)(c)]
    orders = {tuple(priority[0].argsort().tolist()) for priority in [first, *others]}
    assert len(orders) == 5


def random_by_hand(seed, depth, index):
    """The hash in whole numbers without bounds: the tensor arithmetic must not overflow anywhere."""
    bits = index * 2654435761 + (seed * 40503 + depth * 9973 + 1) * 2246822519 % 2**31
    for shift in (16, 15, 13):
        bits %= 2**32
        bits = (bits ^ bits // 2**shift) * 73244475
    return bits // 2**8 % 2**24 / 2**24


@pytest.mark.parametrize("seed", [0, 7, -3, 2**31 - 1, 10**12])
@pytest.mark.parametrize("depth", [0, 47])
def test_random_draws_the_same_on_every_machine_and_in_every_version(seed, depth):
    expected = [random_by_hand(seed, depth, index) for index in range(600)]
    for dtype in (torch.float32, torch.float64):  # 24 bits are exact in both
        zeros = torch.zeros(2, 600, dtype=dtype)
        assert Random(seed)(candidates(zeros, zeros, depth=depth)).tolist() == [expected, expected]


@each
def test_priority_stays_on_the_device_of_the_candidates(strategy):
    r = torch.zeros(2, 6, device="meta")
    assert strategy(candidates(r, r)).device == r.device


def test_random_is_spread_evenly():
    priority = Random()(inside(n=2000))[0]
    assert priority.min() >= 0
    assert priority.max() < 1
    assert priority.unique().numel() > 1990
    counts = torch.histc(priority, bins=10, min=0, max=1)
    assert ((counts - 200).abs() < 70).all()  # five standard deviations
    assert abs(float(torch.corrcoef(torch.stack([priority[:-1], priority[1:]]))[0, 1])) < 0.1


def test_random_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    Random(seed=1)(inside())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [1.0, "1", None, True])
def test_random_needs_a_whole_seed(seed):
    with pytest.raises(TurboError) as caught:
        Random(seed=seed)
    assert str(caught.value) == f"seed={seed!r}: seed must be an int"


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda x, s=s: s(alpha=x), "alpha") for s in (S1, S3, S4)]
    + [(lambda x: S4(beta=x), "beta"), (lambda x: Ward(floor=x), "floor")],
)
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "1", None])
def test_weights_must_be_finite_and_not_negative(make, name, value):
    with pytest.raises(TurboError) as caught:
        make(value)
    wanted = "a finite number above 0" if name == "beta" else "a finite number, 0 or more"
    assert str(caught.value) == f"{name}={value!r}: {name} must be {wanted}"


def test_beta_must_be_above_0():
    with pytest.raises(TurboError, match="beta=0: beta must be a finite number above 0"):
        S4(beta=0)


@pytest.mark.parametrize("gamma", [float("nan"), float("inf"), True, "5", None])
def test_gamma_must_be_a_number(gamma):
    with pytest.raises(TurboError) as caught:
        S4(gamma=gamma)
    assert str(caught.value) == f"gamma={gamma!r}: gamma must be a block's index, counted from 0 at the input"


@each
def test_strategies_are_frozen_values(strategy):
    assert strategy == type(strategy)(**dataclasses.asdict(strategy))
    assert hash(strategy) == hash(dataclasses.replace(strategy))
    with pytest.raises(dataclasses.FrozenInstanceError):
        strategy.alpha = 2
