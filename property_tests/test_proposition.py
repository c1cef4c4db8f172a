"""Continuity of informativity (the supplement's section 3), as statements that a computer can check."""

import itertools
import math

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from turbo.attention import proportional_attention
from turbo.matching import select
from turbo.merging import merge
from turbo.partition import parity
from turbo.testing.generators import normal, seeds, sizes_of

points = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=4)
"""Points of the plane; equal ones are different elements at distance 0."""


class Space:
    """A finite pseudometric space: elements 0, 1, ..., the distance of their points in the plane."""

    def __init__(self, found):
        self.points = found
        self.elements = frozenset(range(len(found)))

    def ball(self, centre, radius):
        """B(a, ε) of Eq. (7)."""
        return frozenset(x for x in self.elements if math.dist(self.points[centre], self.points[x]) < radius)

    @property
    def radii(self):
        """One radius between each two distances, and one beyond all: no other radius gives another ball."""
        return (0.5, 1.2, 1.7, 2.1, 2.5, 3.0)

    def neighbourhoods(self, a):
        """Definition 2: every set that contains an open ball around a."""
        subsets = itertools.chain.from_iterable(
            itertools.combinations(self.elements, k) for k in range(len(self.elements) + 1)
        )
        balls = [self.ball(a, radius) for radius in self.radii]
        return {frozenset(subset) for subset in subsets if any(ball <= frozenset(subset) for ball in balls)}


@st.composite
def functions(draw):
    """Two finite spaces, a function between them as a tuple of images, and an element."""
    source, target = Space(draw(points)), Space(draw(points))
    images = tuple(draw(st.sampled_from(sorted(target.elements))) for _ in source.points)
    return source, target, images, draw(st.sampled_from(sorted(source.elements)))


def continuous(source, target, f, a):
    """For every η there is an ε with f(B(a, ε)) inside B(f(a), η)."""
    return all(
        any({f[x] for x in source.ball(a, epsilon)} <= target.ball(f[a], eta) for epsilon in source.radii)
        for eta in target.radii
    )


def preimage(f, subset):
    return frozenset(x for x, image in enumerate(f) if image in subset)


@given(functions())
def test_continuity_is_that_preimages_of_neighbourhoods_are_neighbourhoods(function):
    """Proposition 8.1: f is continuous at a if and only if f⁻¹(V) is a neighbourhood of a for every V of f(a)."""
    source, target, f, a = function
    around = source.neighbourhoods(a)
    assert continuous(source, target, f, a) == all(preimage(f, v) in around for v in target.neighbourhoods(f[a]))


def test_both_answers_occur():
    """Proposition 8.1: continuity fails where points that cannot be told apart have images that can."""
    source, target = Space([(0, 0), (0, 0)]), Space([(0, 0), (1, 0)])
    assert continuous(source, target, (0, 0), 0)
    assert not continuous(source, target, (0, 1), 0)


@given(functions())
def test_informativity_of_a_ball_lies_in_a_ball(function):
    """Proposition 8.2: continuous at a, I maps some B(a, ε) into B(I(a), η0), and one into a B(I(a), η) with η < η0."""
    source, target, f, a = function
    around = source.neighbourhoods(a)  # continuity as Proposition 8.1 has it, the conclusion in balls
    assume(all(preimage(f, v) in around for v in target.neighbourhoods(f[a])))
    for eta in target.radii:  # each η0 > 0.5 and, below it, an η
        inside = [epsilon for epsilon in source.radii if source.ball(a, epsilon) <= preimage(f, target.ball(f[a], eta))]
        assert inside
        assert {f[x] for x in source.ball(a, max(inside))} <= target.ball(f[a], eta)


class Readout:
    """Informativity as a Lipschitz function of the class token: log-sum-exp of a linear layer of a tanh."""

    def __init__(self, seed, width):
        self.first, self.second = normal(seed, width, 8), normal(seed + 1, 8, 5)
        # log-sum-exp is 1-Lipschitz (its gradient is a softmax, of norm at most 1), and so is tanh.
        self.lipschitz = float(torch.linalg.matrix_norm(self.first, 2) * torch.linalg.matrix_norm(self.second, 2))

    def __call__(self, y):
        return (torch.tanh(y @ self.first) @ self.second).logsumexp(dim=-1)


class MergeOfTwo:
    """The class token's attention when tokens 1 and 2 merge, their keys and values `step` times a direction apart."""

    def __init__(self, seed, n, step):
        self.query, key, value = normal(seed, 1, 1, 1, 4), normal(seed + 1, 1, n, 4), normal(seed + 2, 1, n, 4)
        for x, i in ((key, 3), (value, 4)):
            x[:, 2] = x[:, 1] + step * normal(seed + i, 1, 4)
        size = sizes_of(seed, 1, n).double()
        partition = parity(n, protected=1)
        priority = torch.zeros(1, partition.sources)
        priority[0, 0] = 1
        matching = select(priority, torch.zeros(1, partition.sources, dtype=torch.int64), 1, partition)
        merged_key, merged_size = merge(key, matching, size)
        self.untouched = self.attend(key, value, size)
        self.merged = self.attend(merged_key, merge(value, matching, size)[0], merged_size)
        self.keys, self.values = (float((x[0, 1] - x[0, 2]).norm()) for x in (key, value))
        self.diameter = float(torch.cdist(value, value).max())

    def attend(self, key, value, size):
        return proportional_attention(self.query, key[:, None], value[:, None], size)[0, 0, 0]

    @property
    def bound(self):
        """Proposition 9.4, with a mass of at most 1 on the pair."""
        spread = float(self.query.norm()) * self.keys / 2
        return math.tanh(spread / 4) * self.values + -math.expm1(-(spread**2) / 8) * self.diameter


@given(seeds, st.integers(3, 10), st.floats(0, 3))
def test_informativity_changes_no_more_than_the_merged_distance_allows(seed, n, step):
    """Proposition 8.3: with an L-Lipschitz readout, |I(y') - I(y)| <= L times the bound on the layer's change."""
    example, readout = MergeOfTwo(seed, n, step), Readout(seed + 10, 4)
    change = float((readout(example.merged) - readout(example.untouched)).abs())
    assert change <= readout.lipschitz * example.bound + 1e-9


def curvature(seed, n):
    """C of Proposition 8.3, from tanh x <= x, 1 - exp(-x) <= x and a diameter of at most D0 + ‖b‖."""
    query, a, b = (float(normal(seed + i, 1, 4).norm()) for i in (0, 3, 4))
    widest = MergeOfTwo(seed, n, 0.0).diameter + b
    return query * a * b / 8 + (query * a) ** 2 / 32 * widest


@given(seeds, st.integers(3, 10), st.floats(0, 1))
def test_informativity_converges_quadratically_as_the_tokens_meet(seed, n, step):
    """Proposition 8.3: the bound is at most C·t², with C known before the merge: it goes to 0 with the distance t."""
    assert MergeOfTwo(seed, n, step).bound <= curvature(seed, n) * step**2 * (1 + 1e-9) + 1e-12


@given(seeds, st.integers(3, 10), st.floats(1e-6, 10))
def test_a_distance_that_is_small_enough_is_known_in_advance(seed, n, eta):
    """Proposition 8.4: t <= √(η/(LC)) and t <= 1 keep the change of informativity within η, for every η > 0."""
    readout = Readout(seed + 10, 4)
    step = min(1.0, math.sqrt(eta / (readout.lipschitz * curvature(seed, n))))
    example = MergeOfTwo(seed, n, step)
    change = float((readout(example.merged) - readout(example.untouched)).abs())
    assert change <= eta * (1 + 1e-9) + 1e-9
