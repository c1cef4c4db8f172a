"""What holds for every strategy that judges a token by what is known of it."""

import dataclasses

import torch
from generators import candidates, normal, per_token_strategies, seeds
from hypothesis import given
from hypothesis import strategies as st

from turbo.fusion import S1, S3, S4, Attention, Bound, Candidates, Random, ToMe, Ward
from turbo.information import mutual_redundancy, semantic_value, token_metric


def replaced(c, **fields):
    return dataclasses.replace(c, **fields)


def map_fields(c, function):
    return Candidates(*(function(getattr(c, f.name)) for f in dataclasses.fields(c)[:-1]), depth=c.depth)


@given(per_token_strategies, candidates())
def test_finite(strategy, c):
    """Every priority is a finite number, one per source, of the redundancy's precision."""
    priority = strategy(c)
    assert priority.isfinite().all()
    assert priority.shape == c.redundancy.shape
    assert priority.dtype == c.redundancy.dtype


@given(per_token_strategies, candidates(), st.floats(0, 2))
def test_rises_in_redundancy(strategy, c, step):
    """A more redundant token never merges later, anywhere in R's and A's range."""
    higher = replaced(c, redundancy=(c.redundancy + step).clamp_max(1))
    assert (strategy(higher) - strategy(c) >= -1e-12 * strategy(c).abs()).all()


@given(per_token_strategies, candidates(), st.floats(0, 10))
def test_falls_in_value(strategy, c, step):
    """A token that is attended more never merges earlier, anywhere in R's and A's range."""
    attended = replaced(c, value=c.value + step)
    assert (strategy(attended) - strategy(c) <= 1e-12 * strategy(c).abs()).all()


@given(per_token_strategies, candidates(), st.randoms(use_true_random=False))
def test_permuting_the_tokens_permutes_the_priorities(strategy, c, random):
    """A strategy judges each token by itself: order does not matter."""
    order = list(range(c.redundancy.shape[1]))
    random.shuffle(order)
    assert torch.equal(strategy(map_fields(c, lambda t: t[:, order])), strategy(c)[:, order])


@given(per_token_strategies, candidates())
def test_images_of_a_batch_do_not_see_each_other(strategy, c):
    """Judging a batch is judging each image alone."""
    for b in range(len(c.redundancy)):
        assert torch.equal(strategy(map_fields(c, lambda t, b=b: t[b : b + 1]))[0], strategy(c)[b])


@given(per_token_strategies, candidates())
def test_single_precision_agrees_with_double(strategy, c):
    """Single precision changes a priority by its rounding only."""
    single = map_fields(c, torch.Tensor.float)
    exact = strategy(map_fields(single, torch.Tensor.double))
    found = strategy(single)
    assert found.dtype == torch.float32
    if isinstance(strategy, S1 | S3 | S4):  # differences: rounding is on the scale of what is subtracted
        weight = strategy.alpha * (strategy.beta ** abs(strategy.gamma - c.depth) if isinstance(strategy, S4) else 1)
        scale = 1 + weight * c.value
    else:
        scale = exact.abs().clamp_min(1e-30)
    assert ((found - exact).abs() <= 1e-6 * scale).all()


@given(st.sampled_from([Bound(), Ward(), Attention()]), candidates(), st.integers(-40, 40))
def test_scale_free(strategy, c, power):
    """Bound, Ward and Attention rank alike in any units of A: a factor on A is the same factor on E."""
    factor = 2.0**power
    scaled = replaced(c, value=c.value * factor, partner_value=c.partner_value * factor)
    torch.testing.assert_close(strategy(scaled), strategy(c) * factor, atol=0, rtol=1e-12)


@given(candidates(), st.floats(0, 50), st.integers(-3, 30))
def test_the_family_relations(c, alpha, gamma):
    """S4 with beta = 1 is S1; S1 and S3 with alpha = 0 are ToMe."""
    assert torch.equal(S4(alpha, beta=1, gamma=gamma)(c), S1(alpha)(c))
    assert torch.equal(S1(0)(c), ToMe()(c))
    assert torch.equal(S3(0)(c), ToMe()(c))


@given(seeds, st.integers(0, 40), st.integers(1, 3), st.integers(1, 64))
def test_random_is_a_function_of_seed_depth_and_position(seed, depth, batch, m):
    """Random gives the same for the same seed and depth, in [0, 1), and leaves the global generator alone."""
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


@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(2, 20), st.floats(0.01, 30))
def test_redundancy_and_value_are_what_strategies_count_on(seed, batch, heads, n, loudness):
    """R lies in [-1, 1] and its partner exists; A is a share: not negative, 1 in sum; all finite."""
    keys = normal(seed, batch, heads, n, 4) * loudness
    keys[:, :, 0] = 0
    metric = token_metric(keys)
    redundancy, partner = mutual_redundancy(metric[:, ::2], metric[:, 1::2])
    assert redundancy.isfinite().all()
    assert redundancy.abs().max() <= 1
    assert partner.min() >= 0
    assert partner.max() < n // 2
    value = semantic_value(normal(seed + 1, batch, heads, 1, 4) * loudness, keys, None)
    assert (value >= 0).all()
    torch.testing.assert_close(value.sum(1), torch.ones(batch, dtype=torch.float64))
