"""How much one attention layer's output, and a network's, changes when tokens merge. Theory: error bounds."""

import dataclasses
import math

import pytest
import sympy
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from turbo.attention import proportional_attention
from turbo.fusion import Attention, Bound, Candidates, Distortion, Ward
from turbo.information import token_metric
from turbo.matching import select
from turbo.merging import merge, unmerge
from turbo.partition import parity
from turbo.testing.generators import candidates, matchings, normal, seeds, sizes_of, weights

ROUNDING = 1e-9
"""Everything here runs in double precision; values are of order 1 to 100."""

loudness = st.sampled_from([0.1, 1.0, 5.0])
differences = st.floats(-30, 30)
shares = st.floats(0.01, 0.99)
floors = weights.map(lambda x: round(x, 12))
wards = st.builds(Ward, floor=floors)


class Layer:
    """One head, one query, before and after a merge; all ``b n``, groups spread back over their members."""

    def __init__(self, seed, matching, loud, closeness=1.0, closeness_of_values=None):
        batch, n = matching.assignment.shape
        self.assignment, self.left = matching.assignment, matching.kept.shape[1]
        self.size = sizes_of(seed, batch, n).double()
        self.query = normal(seed + 1, batch, 1, 4)
        self.key = self.near(normal(seed + 2, batch, n, 4), closeness) * loud
        closeness_of_values = closeness if closeness_of_values is None else closeness_of_values
        self.value = self.near(normal(seed + 3, batch, n, 4), closeness_of_values)
        self.logits = (self.key @ self.query.transpose(1, 2))[..., 0] / 2
        self.attention = (self.logits + self.size.log()).softmax(dim=1)
        self.output = self.attend(self.key, self.value, self.size)
        self.merged_key, self.merged_size = merge(self.key, matching, self.size)
        self.merged_value, _ = merge(self.value, matching, self.size)
        self.merged_output = self.attend(self.merged_key, self.merged_value, self.merged_size)
        self.change = (self.merged_output - self.output).norm(dim=-1)

    def near(self, x, closeness):
        """Tokens of a group drawn towards one point, so that distances within groups shrink."""
        centre = unmerge(self.sums(x), self.assignment)
        return centre + closeness * (x - centre)

    def attend(self, key, value, size):
        query, key, value = self.query[:, None], key[:, None], value[:, None]
        return proportional_attention(query, key, value, size)[:, 0, 0]

    def sum_of(self, x):
        """``b n`` -> ``b m``, summed over groups."""
        return torch.zeros(len(x), self.left, dtype=x.dtype).scatter_add(1, self.assignment, x)

    def sums(self, x):
        """``b n d`` -> ``b m d``, summed over groups."""
        return torch.stack([self.sum_of(x[..., i]) for i in range(x.shape[2])], dim=-1)

    def back(self, x):
        return x.gather(1, self.assignment)

    @property
    def mass(self):
        """m: the attention on each group."""
        return self.sum_of(self.attention)

    @property
    def share(self):
        """w: each token's share of its group's size."""
        return self.size / self.back(self.merged_size)

    @property
    def kept_weight(self):
        """ρ: the part of a group's softmax weight that its merged token keeps."""
        mean = self.sum_of(self.share * self.logits)
        return 1 / self.sum_of(self.share * (self.logits - self.back(mean)).exp())

    @property
    def value_shift(self):
        """v̄ - u: the merged value minus the attention's own mean of the group."""
        return self.merged_value - self.sums(self.attention[..., None] * self.value) / self.mass[..., None]

    @property
    def diameter(self):
        """D: the largest distance of two values."""
        return torch.cdist(self.value, self.value).amax(dim=(1, 2))

    def largest_within(self, distance):
        """``b n n`` pairwise distances -> ``b m``, the largest within each group."""
        together = self.assignment[:, :, None] == self.assignment[:, None, :]
        most = (distance * together).amax(dim=2)
        return torch.zeros_like(self.merged_size).scatter_reduce(1, self.assignment, most, "amax", include_self=True)

    @property
    def spread(self):
        """Δ: the range of the logits within each group."""
        return self.largest_within((self.logits[:, :, None] - self.logits[:, None, :]).abs())


@st.composite
def layers(draw, closeness=(0.0, 0.01, 0.5, 1.0), closeness_of_values=(None,)):
    """A layer with any matching (several sources may share a destination), any sizes, calm or loud queries."""
    matching, *_ = draw(matchings())
    near = draw(st.sampled_from(closeness)), draw(st.sampled_from(closeness_of_values))
    return Layer(draw(seeds), matching, draw(loudness), *near)


@st.composite
def pairs(draw):
    """A layer in which just one pair merges, and the pair's positions."""
    n, seed = draw(st.integers(2, 12)), draw(seeds)
    partition = parity(n)
    partner = draw(st.integers(0, partition.destinations - 1))
    source = draw(st.integers(0, partition.sources - 1))
    priority = torch.nn.functional.one_hot(torch.tensor([source]), partition.sources).double()
    matching = select(priority, torch.full((1, partition.sources), partner), 1, partition)
    layer = Layer(seed, matching, draw(loudness), draw(st.sampled_from([0.01, 0.5, 1.0])))
    return layer, int(matching.merged[0, 0]), int(matching.destination[0, 0])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def pair_weight(layer, i, j):
    """W = p_i·p_j / (p_i + p_j)."""
    p = layer.attention[0]
    return float(p[i] * p[j] / (p[i] + p[j]))


def difference(layer, i, j):
    """δ: the difference of the pair's logits."""
    return float(layer.logits[0, i] - layer.logits[0, j])


def distance(x, i, j):
    return float((x[0, i] - x[0, j]).norm())


# --- The weight that is lost


@given(layers())
def test_a_merged_token_keeps_a_part_rho_of_its_groups_weight(layer):
    """Proposition 9.1: the merged token's softmax weight, unnormalised, is ρ times its group's."""
    merged_logits = (layer.merged_key @ layer.query.transpose(1, 2))[..., 0] / 2
    found = layer.merged_size * merged_logits.exp()
    group = layer.sum_of(layer.size * layer.logits.exp())
    torch.testing.assert_close(found / group, layer.kept_weight, atol=0, rtol=1e-9)


@given(layers())
def test_weight_is_only_lost_and_only_to_second_order(layer):
    """Proposition 9.1: exp(-Δ²/8) <= ρ <= 1 for any group."""
    rho, spread = layer.kept_weight, layer.spread
    assert (rho <= 1 + ROUNDING).all()
    assert (rho >= (-(spread**2) / 8).exp() * (1 - ROUNDING)).all()


def test_a_pair_of_equal_sizes_keeps_sech_of_half_the_difference():
    """Proposition 9.1: for a pair of equal sizes ρ = sech(δ/2), proved by sympy."""
    delta, w = sympy.symbols("delta w", real=True)
    rho = 1 / (w * sympy.exp((1 - w) * delta) + (1 - w) * sympy.exp(-w * delta))
    equal = rho.subs(w, sympy.Rational(1, 2)).rewrite(sympy.exp)
    assert sympy.simplify(equal - sympy.sech(delta / 2).rewrite(sympy.exp)) == 0
    # The first term that is lost, at any sizes: w(1-w)δ²/2.
    series = sympy.series(sympy.log(1 / rho), delta, 0, 3).removeO()
    assert sympy.simplify(series - w * (1 - w) * delta**2 / 2) == 0


# --- The value that shifts


@given(layers())
def test_the_value_of_a_group_shifts_by_at_most_tanh(layer):
    """Proposition 9.2: the merged value is at most tanh(Δ/4)·diam(V) from the attention's own mean of the group."""
    shift = layer.value_shift.norm(dim=-1)
    within = layer.largest_within(torch.cdist(layer.value, layer.value, compute_mode="donot_use_mm_for_euclid_dist"))
    assert (shift <= (layer.spread / 4).tanh() * within + ROUNDING).all()


@given(pairs())
def test_the_value_of_a_pair_shifts_along_its_difference(pair):
    """Proposition 9.2: for a pair the shift is -τ(v_i - v_j) with τ = σ(x + δ) - σ(x), x = log(w_i/w_j)."""
    layer, i, j = pair
    x = math.log(layer.size[0, i] / layer.size[0, j])
    tau = sigmoid(x + difference(layer, i, j)) - sigmoid(x)
    group = layer.assignment[0, i]
    wanted = -tau * (layer.value[0, i] - layer.value[0, j])
    torch.testing.assert_close(layer.value_shift[0, group], wanted, atol=ROUNDING, rtol=1e-7)


@given(differences, shares)
@example(2.0, sigmoid(-1.0))
def test_tau_is_at_most_tanh_of_a_quarter(delta, w):
    """Proposition 9.2: |σ(x + δ) - σ(x)| <= tanh(|δ|/4) for any sizes, and the bound is reached at x = -δ/2."""
    x = math.log(w / (1 - w))
    most = math.tanh(abs(delta) / 4)
    assert abs(sigmoid(x + delta) - sigmoid(x)) <= most + 1e-15
    assert sigmoid(delta / 2) - sigmoid(-delta / 2) == pytest.approx(math.copysign(most, delta), abs=1e-15)
    # Equal sizes, x = 0: half of tanh(δ/2).
    assert sigmoid(delta) - 0.5 == pytest.approx(math.tanh(delta / 2) / 2, abs=1e-15)


# --- The output


@given(pairs())
def test_the_change_of_the_output_is_known_exactly(pair):
    """Proposition 9.3: for one pair, o' - o = -m'τ(v_i - v_j) - (m - m')(u - r)."""
    layer, i, j = pair
    n, group = layer.size.shape[1], int(layer.assignment[0, i])
    p, v, m = layer.attention[0], layer.value[0], float(layer.mass[0, group])
    rho = float(layer.kept_weight[0, group])
    others = [a for a in range(n) if a not in (i, j)]
    rest = sum((p[a] * v[a] for a in others), torch.zeros(4, dtype=p.dtype)) / (1 - m if others else 1)
    own = (p[i] * v[i] + p[j] * v[j]) / m
    kept = rho * m / (1 - (1 - rho) * m) if others else 1.0
    x = math.log(layer.size[0, i] / layer.size[0, j])
    tau = sigmoid(x + difference(layer, i, j)) - sigmoid(x)
    wanted = -kept * tau * (v[i] - v[j]) - (m - kept) * (own - rest)
    found = layer.merged_output[0] - layer.output[0]
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)  # 1 - m may cancel
    assert -ROUNDING <= m - kept <= m * (1 - rho) + ROUNDING


@given(layers())
def test_the_change_of_the_output_is_bounded_group_by_group(layer):
    """Proposition 9.4: the change is at most Σ m(‖v̄ - u‖ + (1 - ρ)D), a sum over groups of any size."""
    shift = layer.value_shift.norm(dim=-1)
    bound = (layer.mass * (shift + (1 - layer.kept_weight) * layer.diameter[:, None])).sum(dim=1)
    assert (layer.change <= bound + ROUNDING).all()


@given(layers())
def test_the_bound_needs_only_mass_and_distances(layer):
    """Proposition 9.4: the change is at most Σ m(tanh(Δ/4)·diam(V) + (1 - exp(-Δ²/8))·D), Δ <= ‖q‖·diam(K)/√e."""
    within = layer.largest_within(torch.cdist(layer.value, layer.value, compute_mode="donot_use_mm_for_euclid_dist"))
    keys = layer.largest_within(torch.cdist(layer.key, layer.key, compute_mode="donot_use_mm_for_euclid_dist"))
    most = layer.query.norm(dim=-1) * keys / 2
    assert (layer.spread <= most + ROUNDING).all()
    terms = (most / 4).tanh() * within + (1 - (-(most**2) / 8).exp()) * layer.diameter[:, None]
    assert (layer.change <= (layer.mass * terms).sum(dim=1) + ROUNDING).all()


@given(layers(closeness=(0.0,), closeness_of_values=(0.0, 1.0)))
def test_identical_keys_change_nothing(layer):
    """Proposition 9.4: where the keys of each group are alike the bound is 0, and so is the change."""
    assert layer.spread.max() <= ROUNDING
    assert (1 - layer.kept_weight).abs().max() <= ROUNDING
    assert layer.change.max() <= ROUNDING


# --- Ward's weight


@given(pairs())
def test_the_leading_term_carries_wards_weight(pair):
    """Proposition 9.5: W(1 - e^-|δ|) <= m|τ| <= W(e^|δ| - 1) and m(1 - ρ) <= W((|δ| - 1)e^|δ| + 1)."""
    layer, i, j = pair
    delta, weight = abs(difference(layer, i, j)), pair_weight(layer, i, j)
    assume(delta < 30)
    group = int(layer.assignment[0, i])
    m, rho = float(layer.mass[0, group]), float(layer.kept_weight[0, group])
    x = math.log(layer.size[0, i] / layer.size[0, j])
    tau = abs(sigmoid(x + difference(layer, i, j)) - sigmoid(x))
    room = ROUNDING * m
    assert weight * -math.expm1(-delta) <= m * tau + room
    assert m * tau <= weight * math.expm1(delta) + room
    assert m * (1 - rho) <= weight * ((delta - 1) * math.exp(delta) + 1) + room


@given(pairs())
def test_the_change_of_the_output_is_bounded_by_wards_weight(pair):
    """Proposition 9.5: the change is at most W((e^|δ| - 1)‖v_i - v_j‖ + ((|δ| - 1)e^|δ| + 1)D)."""
    layer, i, j = pair
    delta = abs(difference(layer, i, j))
    assume(delta < 30)
    value = math.expm1(delta) * distance(layer.value, i, j)
    lost = ((delta - 1) * math.exp(delta) + 1) * float(layer.diameter[0])
    assert float(layer.change[0]) <= pair_weight(layer, i, j) * (value + lost) * (1 + ROUNDING) + ROUNDING


def test_wards_weight_is_the_leading_coefficient():
    """Proposition 9.5: m|τ| = W|δ| + O(δ²) and m(1 - ρ) = Wδ²/2 + O(δ³), proved by sympy at any sizes."""
    delta, w = sympy.symbols("delta w", positive=True)
    true_share = w * sympy.exp(delta) / (w * sympy.exp(delta) + 1 - w)
    weight = true_share * (1 - true_share)  # W/m
    tau = true_share - w
    rho = 1 / (w * sympy.exp((1 - w) * delta) + (1 - w) * sympy.exp(-w * delta))
    for term, lead in ((tau, weight * delta), (1 - rho, weight * delta**2 / 2)):
        assert sympy.simplify(sympy.limit(term / lead, delta, 0)) == 1


# --- Squared errors


@given(layers())
def test_the_shift_of_all_values_is_bounded_by_their_distortion(layer):
    """Proposition 9.6: ‖Σ m(v̄ - u)‖² <= Σ p‖v̄ - v‖², the attention-weighted distortion, over any groups."""
    shift = (layer.mass[..., None] * layer.value_shift).sum(dim=1).square().sum(dim=-1)
    moved = unmerge(layer.merged_value, layer.assignment) - layer.value
    distortion = (layer.attention * moved.square().sum(dim=-1)).sum(dim=1)
    assert (shift <= distortion * (1 + ROUNDING) + ROUNDING**2).all()


@given(pairs())
def test_distortion_of_a_pair_is_least_at_the_attention_weighted_mean(pair):
    """Proposition 9.6: (p_i·w_j² + p_j·w_i²)‖v_i - v_j‖² is the pair's distortion; no representative is below W."""
    layer, i, j = pair
    p, w, v = layer.attention[0], layer.share[0], layer.value[0]
    squared = distance(layer.value, i, j) ** 2

    def cost(representative):
        return float(p[i] * (v[i] - representative).square().sum() + p[j] * (v[j] - representative).square().sum())

    merged = layer.merged_value[0, layer.assignment[0, i]]
    assert cost(merged) == pytest.approx(float(p[i] * w[j] ** 2 + p[j] * w[i] ** 2) * squared, rel=1e-7, abs=1e-12)
    least = pair_weight(layer, i, j) * squared
    assert cost((p[i] * v[i] + p[j] * v[j]) / (p[i] + p[j])) == pytest.approx(least, rel=1e-7, abs=1e-12)
    # What the size-weighted mean costs more: 0 only where attention is as size, or where the values agree.
    m, tau = float(p[i] + p[j]), float(p[i] / (p[i] + p[j]) - w[i])
    assert cost(merged) == pytest.approx(least + m * tau**2 * squared, rel=1e-7, abs=1e-12)
    assert cost(v[j]) == pytest.approx(float(p[i]) * squared, rel=1e-7, abs=1e-12)
    for representative in (merged, v[j], v[i], layer.output[0]):
        assert cost(representative) >= least * (1 - ROUNDING) - 1e-15


@given(candidates())
def test_ward_is_the_least_of_the_costs(c):
    """Proposition 9.6: the costs obey ward <= distortion and ward <= bound; ward = distortion where A is as size."""
    ward, bound, distortion = (-strategy(c) for strategy in (Ward(0), Bound(), Distortion()))
    room = 1 + 1e-6  # shares of size are single precision
    assert (ward <= distortion * room).all()
    assert (ward <= bound * room).all()
    assert (ward >= torch.minimum(c.value, c.partner_value) / 2 * (1 - c.redundancy) / room).all()
    alike = dataclasses.replace(c, value=c.size.double() * 0.3, partner_value=c.partner_size.double() * 0.3)
    torch.testing.assert_close(Distortion()(alike), Ward(0)(alike), atol=1e-12, rtol=1e-6)


# --- The strategies


@given(seeds, st.integers(1, 3), st.integers(2, 12))
def test_squared_distance_of_unit_metrics_is_two_minus_two_r(seed, heads, n):
    """Proposition 9.7: tokens whose metrics have cosine R are √(2(1 - R)) apart."""
    metric = token_metric(normal(seed, 1, heads, n, 4))
    cosine = metric @ metric.transpose(1, 2)
    squared = torch.cdist(metric, metric, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(squared, 2 * (1 - cosine), atol=1e-12, rtol=0)


@given(st.sampled_from([Bound(), Ward(0), Distortion(), Attention()]), candidates(), st.integers(-40, 40))
def test_scale_free(strategy, c, power):
    """Proposition 9.7: a factor on A is the same factor on E, so that the ranking does not know the units of A."""
    factor = 2.0**power
    scaled = dataclasses.replace(c, value=c.value * factor, partner_value=c.partner_value * factor)
    torch.testing.assert_close(strategy(scaled), strategy(c) * factor, atol=0, rtol=1e-12)


@given(st.one_of(wards, st.just(Ward(0)), st.just(Distortion())), candidates())
def test_both_ends_are_judged_alike(strategy, c):
    """Proposition 9.7: ward and distortion are symmetric: exchanging source and partner changes nothing."""
    swapped = dataclasses.replace(
        c, value=c.partner_value, partner_value=c.value, size=c.partner_size, partner_size=c.size
    )
    torch.testing.assert_close(strategy(swapped), strategy(c), atol=1e-300, rtol=1e-6)


@given(candidates())
def test_bound_judges_the_source_alone(c):
    """Proposition 9.7: bound is not symmetric: it is ward in the limit of a partner attended without end."""
    swapped = dataclasses.replace(c, value=c.partner_value, partner_value=c.value)
    seen = ((c.value - c.partner_value) * (1 - c.redundancy)).abs() > 1e-9 * c.value.maximum(c.partner_value)
    assert (Bound()(swapped) != Bound()(c))[seen].all()
    heavy = dataclasses.replace(c, partner_value=torch.full_like(c.value, 1e15))
    torch.testing.assert_close(Ward(0)(heavy), Bound()(c), atol=0, rtol=1e-9)


@given(st.one_of(wards, st.sampled_from([Bound(), Ward(0), Distortion()])), candidates(), st.floats(0.1, 10))
def test_only_the_order_of_distances_counts_where_attention_is_even(strategy, c, level):
    """Proposition 9.7: with one size and one A for all, the three rank as R alone does."""
    even = torch.full_like(c.value, level)
    one = torch.ones_like(c.value)
    flat = dataclasses.replace(c, value=even, partner_value=even, size=one, partner_size=one)
    priority = strategy(flat)
    higher = c.redundancy[:, :, None] > c.redundancy[:, None, :]
    assert (priority[:, :, None] > priority[:, None, :])[higher].all()  # R is drawn with 12 decimals


# --- A whole network


class Network:
    """Two pre-norm blocks of proportional attention and a smooth MLP, read at token 0, in double precision."""

    def __init__(self, seed, width=6):
        self.weights = [normal(seed + i, width, width) / width**0.5 for i in range(10)]

    def __call__(self, x, size):
        for q, k, v, up, down in (self.weights[:5], self.weights[5:]):
            y = torch.nn.functional.layer_norm(x, x.shape[-1:])
            x = x + proportional_attention(*((y @ w)[:, None] for w in (q, k, v)), size)[:, 0]
            x = x + torch.tanh(torch.nn.functional.layer_norm(x, x.shape[-1:]) @ up) @ down
        return x[:, 0]


def change_of_network(seed, n, sizes, step, share=None):
    """How far token 0 ends from where it was when tokens 1 and 2, `step` apart, become their mean, or λ = share."""
    network, x = Network(seed), normal(seed + 20, 1, n, 6)
    x[:, 2] = x[:, 1] + step * normal(seed + 21, 1, 6)
    size = torch.ones(1, n, dtype=x.dtype)
    size[0, 1:3] = torch.tensor(sizes, dtype=x.dtype)
    partition = parity(n, protected=1)
    priority = torch.zeros(1, partition.sources, dtype=x.dtype)
    priority[0, 0] = 1.0  # source 0 is token 2, destination 0 is token 1
    matching = select(priority, torch.zeros(1, partition.sources, dtype=torch.int64), 1, partition)
    merged, merged_size = merge(x, matching, size)
    if share is not None:
        merged[:, matching.assignment[0, 1]] = share * x[:, 2] + (1 - share) * x[:, 1]
    return float((network(merged, merged_size) - network(x, size)).norm())


@given(seeds, st.integers(3, 9), st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_merging_into_the_weighted_mean_is_a_second_order_change_of_the_whole_network(seed, n, sizes):
    """Proposition 9.8: halving the distance of the pair quarters the change, whatever the two sizes."""
    far, near = (change_of_network(seed, n, sizes, step) for step in (2e-3, 1e-3))
    assert near <= 0.3 * far + 1e-12


@given(seeds, st.integers(3, 9), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.sampled_from([0.0, 0.5, 1.0]))
def test_any_other_representative_is_a_first_order_change(seed, n, sizes, share):
    """Proposition 9.8: another representative, the destination or the midpoint: half the distance, half the change."""
    assume(share != sizes[1] / sum(sizes))  # the midpoint is the mean where sizes are equal
    far, near = (change_of_network(seed, n, sizes, step, share) for step in (2e-5, 1e-5))
    assert 0.4 * far <= near <= 0.6 * far


# --- The floor


def even_on_average(seed, queries, n):
    """Attention of queries, ``queries n``, each with its own preferences, whose mean is 1/n for every token."""
    shift = torch.rand(queries, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    shift = shift - shift.mean(dim=0)  # over the queries, so that their mean stays even
    shift = shift - shift.mean(dim=1, keepdim=True)  # over the tokens, so that each query's sum stays 1
    return (1 + shift / shift.abs().max().clamp_min(1e-9)) / n


def pair_cost(strategy, source, partner, redundancy=0.0):
    """What a strategy asks for merging pairs of these attentions, two tensors ``m``."""
    one = torch.ones(1, len(source), dtype=torch.float64)
    return -strategy(Candidates(redundancy * one, source[None], partner[None], one, one, 0))[0]


def squared_error(p, value, vector):
    """Of the pair, tokens 0 and 1, if one vector stands for both: summed over queries ``q n``."""
    return (p[:, :2] * (value[:2] - vector).square().sum(dim=1)).sum()


def best_vector(p, value):
    """Where that is least: the mean weighted by the attention of all queries."""
    both = p[:, :2].sum(dim=0)
    return (both[0] * value[0] + both[1] * value[1]) / both.sum()


@given(layers(), st.integers(1, 5), seeds)
def test_distortions_of_many_queries_are_that_of_their_summed_attention(layer, queries, seed):
    """Proposition 9.9: Σ λ Σ p‖v̄ - v‖² is Σ P‖v̄ - v‖², and W(P)‖v_i - v_j‖² is the least for one vector."""
    value = layer.value[0]
    moved = (unmerge(layer.merged_value, layer.assignment)[0] - value).square().sum(dim=1)
    p = normal(seed, queries, 1).abs() * normal(seed + 1, queries, len(value)).softmax(dim=1)  # λ is in it
    together = p.sum(dim=0)
    torch.testing.assert_close((together * moved).sum(), sum((each * moved).sum() for each in p))
    least = squared_error(p, value, best_vector(p, value))
    wanted = pair_cost(Ward(0), together[:1], together[1:2])[0] * (value[0] - value[1]).square().sum()
    torch.testing.assert_close(wanted, least, atol=1e-12, rtol=1e-9)
    for share in (0.0, 0.3, 1.0):  # no other vector does better
        assert squared_error(p, value, share * value[0] + (1 - share) * value[1]) >= wanted * (1 - ROUNDING) - 1e-12


@given(seeds, st.integers(1, 5), shares)
def test_wards_weight_of_a_sum_is_at_least_the_sum_of_weights(seed, queries, share):
    """Proposition 9.9: W(Σ λp) >= Σ λW(p); equal where every query sees the two ends in one proportion."""
    factor = normal(seed, queries).abs()
    source, partner = (normal(seed + i, queries).clamp_min(0) for i in (1, 2))  # 0 for half of them

    def whole(a, b):
        return pair_cost(Ward(0), (factor * a).sum()[None], (factor * b).sum()[None])[0]

    def parts(a, b):
        return (factor * pair_cost(Ward(0), a, b)).sum()

    assert whole(source, partner) >= parts(source, partner) * (1 - ROUNDING)
    seen = source + partner
    torch.testing.assert_close(whole(share * seen, (1 - share) * seen), parts(share * seen, (1 - share) * seen))


@given(seeds, st.integers(1, 5), st.integers(2, 12), floors)
def test_a_floor_is_the_weight_of_queries_that_are_even_on_average(seed, queries, n, floor):
    """Proposition 9.9: the class token and others of weight c, even on average: n·P = A + c, and n·W(P) is the cost."""
    own = normal(seed, n).softmax(dim=0)  # the class token's
    others = even_on_average(seed + 1, queries, n)
    assert (others >= -1e-12).all()
    p = torch.cat([own[None], floor / queries * others])
    value = n * own  # relative units
    torch.testing.assert_close(n * p.sum(dim=0), value + floor, atol=1e-9, rtol=1e-9)
    x = normal(seed + 2, n, 4)
    squared = (x[0] - x[1]).square().sum()
    found = 2 * pair_cost(Ward(floor), value[:1], value[1:2], redundancy=1 - squared / 2)[0]
    torch.testing.assert_close(found, n * squared_error(p, x, best_vector(p, x)), atol=1e-9, rtol=1e-9)


@given(candidates(), floors, floors)
def test_a_floor_adds_between_half_of_itself_and_all(c, floor, more):
    """Proposition 9.10: W_c rises by between half of what the floor rises and all of it; A = 0 costs c/2·(1 - R)."""
    low, high = -Ward(floor)(c), -Ward(floor + more)(c)
    far, room = 1 - c.redundancy, 1e-12 * (1 + low + high)
    assert (high - low >= more / 2 * far - room).all()
    assert (high - low <= more * far + room).all()
    nobody = dataclasses.replace(c, value=torch.zeros_like(far), partner_value=torch.zeros_like(far))
    torch.testing.assert_close(-Ward(floor)(nobody), floor / 2 * far, atol=1e-300, rtol=1e-12)


@given(candidates(), floors, st.floats(0, 10))
def test_the_cost_rises_with_the_attention_of_either_end(c, floor, step):
    """Proposition 9.10: a step of A at one end adds between 0 and the step to W_c, at the source and the partner."""
    far = 1 - c.redundancy
    for end in ("value", "partner_value"):
        attended = dataclasses.replace(c, **{end: getattr(c, end) + step})
        gained = Ward(floor)(c) - Ward(floor)(attended)
        room = 1e-12 * (1 + Ward(floor)(attended).abs())
        assert (gained >= -room).all()
        assert (gained <= step * far + room).all()


@given(candidates(), st.floats(0.01, 1e4))
def test_a_high_floor_ranks_as_redundancy_alone(c, floor):
    """Proposition 9.10: c/2 <= W_c <= (c + M)/2; R > R' decides as soon as c(R - R') > M(1 - R)."""
    cost, far = -Ward(floor)(c), 1 - c.redundancy
    most = torch.maximum(c.value, c.partner_value).amax(dim=1, keepdim=True)
    assert (cost >= floor / 2 * far * (1 - ROUNDING)).all()
    assert (cost <= (floor + most) / 2 * far * (1 + ROUNDING)).all()
    gap = c.redundancy[:, :, None] - c.redundancy[:, None, :]
    decided = floor * gap > most[:, :, None] * far[:, :, None] * (1 + ROUNDING) + 1e-6
    assert (cost[:, :, None] < cost[:, None, :])[decided].all()
    limit = -Ward(1e16)(c)  # R is drawn with 12 decimals and A below 110, so that any two R are decided
    assert (limit[:, :, None] < limit[:, None, :])[gap > 0].all()


@given(candidates(), floors, st.integers(-40, 40))
def test_the_floor_is_in_the_units_of_value(c, floor, power):
    """Proposition 9.10: a factor on A and on the floor multiplies the cost; on A alone it may turn the ranking."""
    factor = 2.0**power
    scaled = dataclasses.replace(c, value=c.value * factor, partner_value=c.partner_value * factor)
    torch.testing.assert_close(Ward(floor * factor)(scaled), Ward(floor)(c) * factor, atol=1e-300, rtol=1e-12)
    value, redundancy = torch.tensor([[1.0, 0.0], [0.8, 0.2]], dtype=torch.float64)
    assert pair_cost(Ward(0.3), value, value, redundancy).tolist() == pytest.approx([0.13, 0.12])
    assert pair_cost(Ward(0.3), value / 8, value / 8, redundancy).tolist() == pytest.approx([0.0425, 0.12])
