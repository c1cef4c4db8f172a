"""Metric, mutual redundancy R and semantic value A: docs/theory/information-degree.md."""

import reference_scores as reference
import sympy as sp
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from turbo.adapters import RoundTrip, split_heads
from turbo.attention import proportional_attention
from turbo.engine.acceleration import Settings
from turbo.engine.round_trip.scores import attention_of_query, score_tokens
from turbo.engine.round_trip.settings import RoundTripSettings
from turbo.engine.score import match_tokens
from turbo.fusion import S1, S2, Candidates
from turbo.information import mutual_redundancy, running_value, semantic_value, token_metric
from turbo.merging import add_up, merge, unmerge
from turbo.partition import parity
from turbo.ratios import Ratios
from turbo.schedule import Schedule, most_mergeable
from turbo.testing.generators import chains, merges, normal, seeds, sizes_of

EPS = torch.finfo(torch.float64).eps
COSINE = 32 * EPS
"""Rounding of a cosine of `whole_keys`: their head means are exact; then a length, a quotient, at most 6 products."""


def whole(seed, *shape, top=4):
    """Whole numbers from -top to top: sums and products of them are exact."""
    return torch.randint(-top, top + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


@st.composite
def whole_keys(draw, least=2):
    """Keys ``b h n e`` of whole numbers; 1, 2 or 4 heads: their mean is exact. Duplicates and zeros among them."""
    batch, heads, n = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 4])), draw(st.integers(least, 10))
    width, different, seed = draw(st.integers(1, 6)), draw(st.integers(1, 10)), draw(seeds)
    choice = torch.randint(different, (n,), generator=torch.Generator().manual_seed(seed))
    keys = whole(seed, batch, heads, different, width)[:, :, choice]
    keys[:, :, draw(st.lists(st.integers(0, n - 1), max_size=2))] = 0
    return keys


@st.composite
def attentions(draw, loudness=(0.0, 0.1, 1.0, 5.0)):
    """A query ``b h 1 e``, keys ``b h n e``, sizes ``b n``; the louder the query, the more uneven its attention."""
    batch, heads, n = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 10))
    width, seed = draw(st.integers(1, 6)), draw(seeds)
    query = normal(seed, batch, heads, 1, width) * draw(st.sampled_from(loudness))
    return query, normal(seed + 1, batch, heads, n, width), sizes_of(seed, batch, n).double()


def split(keys):
    """The redundancy of every second token, its partner, and what they were computed from."""
    tokens = token_metric(keys)
    source, destination = tokens[:, ::2], tokens[:, 1::2]
    return *mutual_redundancy(source, destination), source, destination


def slack(query, keys, size=None):
    """How far two computations of A may differ: each score's rounding, twice (numerator and sum), and softmax's own."""
    width, n = keys.shape[3], keys.shape[2]
    loudest = float((query.abs() @ keys.abs().transpose(2, 3)).max()) + (0 if size is None else float(size.max().log()))
    return 2 * (2 * (width + 5) * EPS * (loudest + 1) + (n + 20) * EPS)


def agree(found, wanted, atol):
    torch.testing.assert_close(found, wanted, atol=atol, rtol=0)


def by_head(query, keys, size):
    """The semantic value of each head alone, ``b h n``."""
    heads = range(keys.shape[1])
    return torch.stack([semantic_value(query[:, h : h + 1], keys[:, h : h + 1], size) for h in heads], dim=1)


def scored(keys, query, size, strategy, units="relative", protected=0, scale=1.0, queries=None):
    """The candidates and the priority with which the engine scores these tokens."""
    settings_ = Settings(strategy, "it", Schedule(), "keys" if queries is None else "queries", units)
    arguments = {"drop": 0, "depth": 0, "protected": protected, "scale": scale, "settings": settings_}
    return match_tokens(keys if queries is None else queries, keys, query, size, **arguments)[1:3]


# Redundancy


@given(whole_keys())
def test_redundancy_is_the_highest_cosine(keys):
    """Proposition 1.1: R is the largest cosine of a source to a destination, and the partner's cosine is R."""
    redundancy, partner, source, destination = split(keys)
    for b in range(len(keys)):
        vectors = reference.metric(keys[b].tolist())
        matches = reference.redundancy(vectors[::2], vectors[1::2])
        for i, (highest, _) in enumerate(matches):
            assert abs(float(redundancy[b, i]) - highest) <= COSINE
            assert abs(reference.dot(vectors[2 * i], vectors[2 * int(partner[b, i]) + 1]) - highest) <= 2 * COSINE
    cosines = source @ destination.transpose(1, 2)
    assert torch.equal(cosines.gather(2, partner[..., None])[..., 0].clamp(-1, 1), redundancy)


@given(seeds, st.integers(2, 12), st.integers(1, 4))
def test_of_tied_destinations_the_first_is_the_partner(seed, n, width):
    """Proposition 1.1: where cosines are exact, as along the axes, the partner is the first of the best."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.randint(width, (n,), generator=generator)
    keys = torch.nn.functional.one_hot(axis, width) * whole(seed, n, 1)  # along an axis, against it, or zero
    redundancy, partner, *_ = split(keys[None, None])
    vectors = reference.metric([keys.tolist()])
    expected = reference.redundancy(vectors[::2], vectors[1::2])
    assert list(zip(redundancy[0].tolist(), partner[0].tolist(), strict=True)) == expected


@given(whole_keys())
def test_scores_repeat_bit_for_bit(keys):
    """Proposition 1.1: the same call gives the same R and the same partner, ties included."""
    first, again = split(keys), split(keys.clone())
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@given(whole_keys(), st.integers(-20, 10))
def test_the_metric_has_unit_length(keys, power):
    """Proposition 1.2: the metric has length 1 where the head mean is not shorter than 1e-12; zero stays zero."""
    length = token_metric(keys * 2.0**power).norm(dim=-1)
    zero = (keys.sum(1) == 0).all(-1)
    agree(length, (~zero).double(), COSINE)
    assert (length[zero] == 0).all()


@given(whole_keys())
def test_a_vanishing_vector_is_like_nothing(keys):
    """Proposition 1.2: a head mean below 1e-12 is divided by 1e-12, so it is short, and its cosines are near 0."""
    faint = keys * 2.0**-60
    agree(token_metric(faint), faint.mean(1) / 1e-12, COSINE)
    assert token_metric(faint).norm(dim=-1).max() <= 1e-5  # at most 4 sqrt(6) 2^-60 / 1e-12


@given(whole_keys(), st.floats(-300, 15))
def test_redundancy_lies_between_minus_one_and_one(keys, power):
    """Proposition 1.3: R is in [-1, 1], exactly, and the partner is a destination; no number is NaN."""
    redundancy, partner, _, destination = split(keys * 10.0**power)
    assert (redundancy >= -1).all()
    assert (redundancy <= 1).all()
    assert partner.min() >= 0
    assert partner.max() < destination.shape[1]


@given(whole_keys(), st.data())
def test_a_zero_vector_has_redundancy_zero(keys, data):
    """Proposition 1.3: a zero vector has R = 0 whatever the others are; with a zero destination no R is below 0."""
    position = data.draw(st.integers(0, keys.shape[2] - 1))
    keys[:, :, position] = 0
    redundancy, *_ = split(keys)
    if position % 2 == 0:
        assert (redundancy[:, position // 2] == 0).all()
    else:
        assert (redundancy >= 0).all()


@given(whole_keys(), st.data())
def test_a_power_of_two_on_a_token_changes_no_bit(keys, data):
    """Proposition 1.4: R and partners do not see the length of a token's keys: a power of 2 on a token is exact."""
    powers = data.draw(st.lists(st.integers(-20, 20), min_size=keys.shape[2], max_size=keys.shape[2]))
    factor = 2.0 ** torch.tensor(powers, dtype=torch.float64)
    first, scaled = split(keys), split(keys * factor[:, None])
    assert torch.equal(first[0], scaled[0])
    assert torch.equal(first[1], scaled[1])


@given(whole_keys(), seeds)
def test_the_length_of_keys_does_not_matter(keys, seed):
    """Proposition 1.4: any positive factor on a token, common to its heads, leaves the metric: up to rounding."""
    factor = normal(seed, keys.shape[0], 1, keys.shape[2], 1).exp()
    zero = (keys.sum(1) == 0).all(-1)  # heads that cancel exactly need not when they are rounded
    found, wanted = token_metric(keys * factor), token_metric(keys)
    cancelling = keys.abs().sum(1).norm(dim=-1) / keys.sum(1).norm(dim=-1).clamp_min(1)
    agree(found[~zero], wanted[~zero], COSINE * float(cancelling.max().clamp_min(1)))


@given(st.floats(1.001, 1e6))
def test_the_length_of_one_head_matters(factor):
    """Proposition 1.4: a factor on one head alone can move the metric: heads are averaged first."""
    keys = torch.eye(2, dtype=torch.float64)[None, :, None]  # two heads, at a right angle
    keys = keys * torch.tensor([factor, 1.0], dtype=torch.float64).view(1, 2, 1, 1)
    slope = token_metric(keys)[0, 0]
    assert slope[0] > slope[1]
    assert abs(float(slope[0] / slope[1]) / factor - 1) <= COSINE


@given(whole_keys(), seeds)
def test_redundancy_does_not_depend_on_the_axes(keys, seed):
    """Proposition 1.4: one orthogonal map in every head leaves R, up to rounding: here a reflection."""
    assume(not (keys.sum(1) == 0).all(-1).any())
    axis = torch.nn.functional.normalize(normal(seed, keys.shape[3]), dim=0)
    reflected = keys - 2 * (keys @ axis)[..., None] * axis
    cancelling = keys.norm(dim=-1).sum(1) / keys.sum(1).norm(dim=-1)
    agree(split(reflected)[0], split(keys)[0], 4 * COSINE * float(cancelling.max()))


@given(whole_keys(), st.randoms(use_true_random=False))
def test_permuting_sources_permutes_redundancy(keys, random):
    """Proposition 1.5: sources in another order have their R and their partners in that order."""
    redundancy, partner, source, destination = split(keys)
    order = random.sample(range(source.shape[1]), source.shape[1])
    found, its_partner = mutual_redundancy(source[:, order], destination)
    agree(found, redundancy[:, order], COSINE)
    clear = margin(source, destination)[:, order] > 4 * COSINE
    assert torch.equal(its_partner[clear], partner[:, order][clear])


@given(whole_keys(least=4), st.randoms(use_true_random=False))
def test_permuting_destinations_relabels_partners(keys, random):
    """Proposition 1.5: destinations in another order leave R; without ties the partner is the same token."""
    redundancy, partner, source, destination = split(keys)
    order = random.sample(range(destination.shape[1]), destination.shape[1])
    found, its_partner = mutual_redundancy(source, destination[:, order])
    agree(found, redundancy, COSINE)
    clear = margin(source, destination) > 4 * COSINE
    assert torch.equal(torch.tensor(order)[its_partner][clear], partner[clear])


def margin(source, destination):
    """How far the best destination is ahead of the second; infinite where there is one destination."""
    cosines = (source @ destination.transpose(1, 2)).sort(dim=-1, descending=True).values
    if cosines.shape[-1] == 1:
        return torch.full(cosines.shape[:2], torch.inf, dtype=cosines.dtype)
    return cosines[..., 0] - cosines[..., 1]


# Semantic value


@given(attentions(loudness=(0.0, 1.0, 30.0, 1000.0)), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_value_is_a_share(example, dtype, merged):
    """Proposition 1.6: A is not negative and sums to 1 over the tokens."""
    query, keys, size = (x.to(dtype) for x in example)
    value = semantic_value(query, keys, size if merged else None)
    assert value.dtype == dtype
    assert (value >= 0).all()
    agree(value.sum(1), torch.ones(len(keys), dtype=dtype), 4 * (keys.shape[2] + 3) * torch.finfo(dtype).eps)


@given(attentions(), st.sampled_from([None, 0.3, 1.0]))
def test_value_is_the_row_of_proportional_attention(example, scale):
    """Proposition 1.7: A is what one query gives to each token in Eq. (2), averaged over heads."""
    query, keys, size = example
    batch, heads, n, _ = keys.shape
    each_token = torch.eye(n, dtype=keys.dtype).expand(batch, heads, n, n)
    rows = proportional_attention(query, keys, each_token, size, scale=scale)
    agree(semantic_value(query, keys, size, scale), rows[:, :, 0].mean(1), slack(query, keys, size))
    agree(semantic_value(query, keys, size, scale), by_head_at(query, keys, size, scale), slack(query, keys, size))


def by_head_at(query, keys, size, scale):
    """The reference, image by image."""
    scale = keys.shape[-1] ** -0.5 if scale is None else scale
    rows = [
        reference.value(q[:, 0].tolist(), k.tolist(), s.tolist(), scale)
        for q, k, s in zip(query, keys, size, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@given(attentions(), seeds, st.floats(1e-3, 1e3))
def test_a_common_shift_changes_no_value(example, seed, factor):
    """Proposition 1.8: a vector added to all keys of a head, or a factor on all sizes, leaves A."""
    query, keys, size = example
    shifted = keys + normal(seed, keys.shape[0], keys.shape[1], 1, keys.shape[3])
    wanted = semantic_value(query, keys, size)
    agree(semantic_value(query, shifted, size), wanted, slack(query, keys, size) + slack(query, shifted, size))
    agree(semantic_value(query, keys, size * factor), wanted, slack(query, keys, size) + 16 * EPS)


@given(attentions())
def test_no_sizes_are_sizes_of_one(example):
    """Proposition 1.8: without sizes A is, bit for bit, what sizes of 1 give."""
    query, keys, size = example
    assert torch.equal(semantic_value(query, keys, None), semantic_value(query, keys, torch.ones_like(size)))


@given(attentions(), st.randoms(use_true_random=False))
def test_permuting_tokens_permutes_values(example, random):
    """Proposition 1.9: tokens in another order have their A in that order; the order of heads does not matter."""
    query, keys, size = example
    tokens = random.sample(range(keys.shape[2]), keys.shape[2])
    heads = random.sample(range(keys.shape[1]), keys.shape[1])
    found = semantic_value(query[:, heads], keys[:, heads][:, :, tokens], size[:, tokens])
    agree(found, semantic_value(query, keys, size)[:, tokens], slack(query, keys, size))


@given(attentions(), st.data())
def test_a_larger_token_is_valued_more(example, data):
    """Proposition 1.10: f times a token's size turns its share a of a head into fa / (1 + (f-1)a)."""
    query, keys, size = example
    token, factor = data.draw(st.integers(0, keys.shape[2] - 1)), data.draw(st.floats(1, 100))
    larger = size.clone()
    larger[:, token] *= factor
    before = by_head(query, keys, size)
    wanted = before / (1 + (factor - 1) * before[:, :, token : token + 1])
    wanted[:, :, token] *= factor
    atol = slack(query, keys, larger) * 4 * factor  # the formula multiplies the rounding of its input by f
    agree(semantic_value(query, keys, larger), wanted.mean(1), atol)


@given(merges(), seeds)
def test_merging_duplicates_adds_their_values(example, seed):
    """Proposition 1.11: tokens with equal keys that merge get, as one, the sum of their A; no other A changes."""
    x, size, matching = example
    keys, size = x / x.abs().max(), size.double()
    merged, merged_size = merge(keys, matching, size)
    same = unmerge(merged, matching.assignment)  # equal keys wherever tokens merge
    after, before = torch.stack([merged, merged.flip(2)], 1), torch.stack([same, same.flip(2)], 1)
    query = normal(seed, len(x), 2, 1, x.shape[2])
    one_by_one = semantic_value(query, before, size)
    wanted = torch.zeros_like(merged_size).scatter_add(1, matching.assignment, one_by_one)
    agree(semantic_value(query, after, merged_size), wanted, 2 * slack(query, before, merged_size))


# What neither half depends on


@given(whole_keys(), seeds, st.booleans())
def test_images_of_a_batch_do_not_see_each_other(keys, seed, broken):
    """Proposition 1.12: other images, even NaN ones, change no bit of an image's R and A; alone it scores the same."""
    query = whole(seed, len(keys), keys.shape[1], 1, keys.shape[3])
    others = torch.full_like(keys, torch.nan) if broken else normal(seed, *keys.shape)
    for b in range(len(keys)):
        mixed = others.clone()
        mixed[b] = keys[b]
        for i in (0, 1):
            assert torch.equal(split(mixed)[i][b], split(keys)[i][b])
        assert torch.equal(semantic_value(query, mixed, None)[b], semantic_value(query, keys, None)[b])
        alone = slice(b, b + 1)
        agree(split(keys[alone])[0][0], split(keys)[0][b], COSINE)
        atol = slack(query, keys)
        agree(semantic_value(query[alone], keys[alone], None)[0], semantic_value(query, keys, None)[b], atol)


def laid_out(keys):
    """The same numbers at other places in memory."""
    batch, heads, n, width = keys.shape
    qkv = keys.new_zeros(batch, n, 3, heads, width)
    qkv[:, :, 1] = keys.transpose(1, 2)
    longer = keys.new_zeros(batch, heads, 2 * n, width)
    longer[:, :, ::2] = keys
    yield qkv[:, :, 1].transpose(1, 2)  # as a projection leaves them
    yield longer[:, :, ::2]
    yield keys.transpose(1, 2).contiguous().transpose(1, 2)  # tokens outside heads
    yield keys.transpose(2, 3).contiguous().transpose(2, 3)  # width outside tokens
    yield keys.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


@given(whole_keys(), seeds)
def test_memory_layout_does_not_matter(keys, seed):
    """Proposition 1.13: strides change no bit of the metric and of A where products are exact, and R by rounding."""
    batch, heads, n, width = keys.shape
    query, size = whole(seed, batch, heads, 1, width), sizes_of(seed, batch, n).double()
    value, redundancy = semantic_value(query, keys, size, scale=0.25), split(keys)[0]
    for other in laid_out(keys):
        assert torch.equal(token_metric(other), token_metric(keys))
        assert torch.equal(semantic_value(query, other, size, scale=0.25), value)
        agree(split(other)[0], redundancy, COSINE)
    expanded = keys[:1].expand_as(keys)
    found = semantic_value(query[:1].expand_as(query), expanded, size[:1].expand_as(size), scale=0.25)
    assert torch.equal(found, value[:1].expand_as(found))
    assert torch.equal(token_metric(expanded), token_metric(keys[:1]).expand(batch, n, width))


@given(whole_keys(), st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_keys_are_compared_in_single(keys, dtype):
    """Proposition 1.14: the metric of half-precision keys is that of the same numbers in float32, bit for bit."""
    half = (keys / 3).to(dtype)
    assert token_metric(half).dtype == torch.float32
    assert torch.equal(token_metric(half), token_metric(half.float()))


@given(seeds, st.integers(1, 10), st.floats(0, 3))
def test_an_error_in_the_scores_moves_a_value_by_twice_as_much(seed, n, error):
    """Proposition 1.14: scores off by at most delta put each A off by a factor of at most exp(2 delta)."""
    each_token = torch.eye(n, dtype=torch.float64)[None, None]  # so that the query is the list of scores
    scores = normal(seed, 1, 1, 1, n)
    off = scores + error * normal(seed + 1, 1, 1, 1, n).clamp(-1, 1)
    before, after = (semantic_value(x, each_token, None, scale=1.0) for x in (scores, off))
    assert ((after / before).log().abs() <= 2 * error + 100 * EPS).all()


@given(attentions(loudness=(0.0, 0.1, 1.0)), st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_changes_a_value_by_rounding(example, dtype):
    """Proposition 1.14: with half-precision q and k, A is off by the rounding of its scores, and still sums to 1."""
    query, keys = (x.to(dtype) for x in example[:2])
    exact = semantic_value(query.double(), keys.double(), None)
    found = semantic_value(query, keys, None)
    assert found.dtype == torch.float32
    width = keys.shape[3]
    info = torch.finfo(dtype)
    loudest = float((query.double().abs() @ keys.double().abs().transpose(2, 3)).max()) * width**-0.5
    delta = (width + 3) * (info.eps * loudest + info.tiny)  # tiny: products that underflow
    assert ((found / exact).log().abs() <= 2 * delta + 1e-5).all()
    agree(found.sum(1), torch.ones(len(keys)), 1e-5)


# Units


@given(attentions(), st.floats(0, 5))
def test_relative_values_average_one(example, alpha):
    """Proposition 1.15: n A has mean 1 over the n tokens, whatever n is; the engine's relative units are n A."""
    query, keys, size = example
    n = keys.shape[2]
    assume(n > 1)
    value = semantic_value(query, keys, size, 1.0)
    agree((n * value).mean(1), torch.ones(len(keys), dtype=torch.float64), 4 * (n + 3) * EPS)
    relative, _ = scored(keys, query, size, S1(alpha))
    probability, _ = scored(keys, query, size, S1(alpha), units="probability")
    assert torch.equal(probability.value, value[:, ::2])
    assert torch.equal(probability.partner_value, value[:, 1::2].gather(1, split(keys)[1]))
    assert torch.equal(relative.value, n * value[:, ::2])
    assert torch.equal(relative.partner_value, n * probability.partner_value)


@given(merges(), seeds)
def test_the_mean_share_grows_as_tokens_merge(example, seed):
    """Proposition 1.15: after r of n tokens merged, A averages 1/(n-r) and relative A still averages 1."""
    x, size, matching = example
    merged, merged_size = merge(x / x.abs().max(), matching, size)
    left = merged.shape[1]
    assert left < x.shape[1] or matching.merged.shape[1] == 0
    value = semantic_value(normal(seed, len(x), 1, 1, x.shape[2]), merged[:, None], merged_size.double())
    agree(value.mean(1), torch.full((len(x),), 1 / left, dtype=torch.float64), 4 * (left + 3) * EPS)


@given(attentions(), st.integers(1, 6))
def test_duplicating_every_token_leaves_relative_values(example, copies):
    """Proposition 1.16: k copies of every token: each copy has A / k, and the same A in relative units."""
    query, keys, size = example
    n = keys.shape[2]
    many = semantic_value(query, keys.repeat_interleave(copies, 2), size.repeat_interleave(copies, 1))
    once = semantic_value(query, keys, size).repeat_interleave(copies, 1)
    atol = slack(query, keys, size) + copies * n * EPS
    agree(many, once / copies, atol)
    agree(many * (n * copies), once * n, atol * n * copies)


@given(attentions(), st.integers(1, 1000), st.integers(1, 9))
def test_duplicating_patches_around_one_class_token(example, copies, patches):
    """Proposition 1.17: with one class token of share a, a head's A becomes A / (k - (k-1)a), in probability units."""
    query, keys, _ = example
    assume(keys.shape[2] > 1)
    keys = keys[:, :, : 1 + patches]
    n = keys.shape[2]
    counts = torch.full((len(keys), n), float(copies), dtype=torch.float64)
    counts[:, 0] = 1
    once = by_head(query, keys, None)
    factor = 1 / (copies - (copies - 1) * once[:, :, :1])
    # A copy's share: laid out one by one where that is short, else as a token of size k that is shared out.
    if copies <= 8:
        order = [0] + [i for i in range(1, n) for _ in range(copies)]
        many = semantic_value(query, keys[:, :, order], None)[:, [0, *range(1, 1 + (n - 1) * copies, copies)]]
    else:
        many = semantic_value(query, keys, counts) / counts
    atol = slack(query, keys, counts) * 4 + 8 * copies * n * EPS
    agree(many, (once * factor).mean(1), atol)


def test_the_factor_around_one_class_token_in_symbols():
    """Proposition 1.17: f - 1 = (k-1)(na-1) / (n D), f - limit = (1-na) / (n(1-a)D), and the limit, by sympy."""
    k, p, a = sp.symbols("k p a", positive=True)
    n, divisor = 1 + p, k - (k - 1) * a
    factor = (1 + k * p) / (n * divisor)
    limit = p / (n * (1 - a))
    assert sp.limit(factor, k, sp.oo).equals(limit)
    assert sp.simplify(factor - 1 - (k - 1) * (n * a - 1) / (n * divisor)) == 0
    assert sp.simplify(factor - limit - (1 - n * a) / (n * (1 - a) * divisor)) == 0
    # D is the new sum of weights over the old one, and the factor on probabilities is 1/D.
    assert sp.simplify((a + k * (1 - a)) - divisor) == 0


@given(st.integers(1, 9), st.integers(1, 8), seeds)
def test_an_average_class_token_keeps_relative_values_exactly(patches, copies, seed):
    """Proposition 1.17: relative A is unchanged if and only if the class token's own share is 1/n, where k > 1."""
    counts = torch.tensor([[1.0] + [float(copies)] * patches], dtype=torch.float64)
    keys = torch.cat([torch.zeros(1, 1, 1, 1), normal(seed, 1, 1, patches, 1)], dim=2)
    n, query = 1 + patches, torch.ones(1, 1, 1, 1, dtype=torch.float64)
    average = keys[:, :, 1:].exp().mean().log()
    for score in (average, average + 1):
        keys[:, :, 0] = score
        once = n * semantic_value(query, keys, None)
        many = (1 + copies * patches) * semantic_value(query, keys, counts) / counts
        if score == average:
            agree(many, once, 100 * EPS * n * copies)
        elif copies > 1:
            assert (many > once * (1 + 1e-3)).all()  # a louder class token leaves the patches relatively more


@given(seeds, st.integers(1, 5), st.integers(1, 6), st.floats(0, 5))
def test_relative_units_keep_the_order_when_all_is_duplicated(seed, pairs, copies, alpha):
    """Proposition 1.18: with every pair of neighbours laid out k times, R and S1's relative priority stay."""
    keys, query = normal(seed, 1, 2, 2 * pairs, 4), normal(seed + 1, 1, 2, 1, 4)
    order = torch.arange(2 * pairs).view(pairs, 2).repeat_interleave(copies, 0).flatten()
    source = order[::2] // 2  # which source each copy is a copy of
    size, many_size = torch.ones(1, 2 * pairs, dtype=torch.float64), torch.ones(1, len(order), dtype=torch.float64)
    for units, shared in (("relative", 1), ("probability", copies)):
        one, priority = scored(keys, query, size, S1(alpha), units)
        _, found = scored(keys[:, :, order], query, many_size, S1(alpha), units)
        wanted = one.redundancy - alpha * one.value / shared
        agree(found, wanted[:, source], 100 * COSINE + 10 * alpha * len(order) * slack(query, keys))
        if units == "relative":
            agree(wanted, priority, 0)


def test_probability_units_can_turn_the_order_around():
    """Proposition 1.18: two sources whose S1 order in probability units turns when every token is laid out 4 times."""
    first, its_partner = [1.0, 0.0, 0.0, 0.0], [0.9, 0.19**0.5, 0.0, 0.0]  # R = 0.9
    second, other_partner = [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.8, 0.6]  # R = 0.8
    keys = torch.tensor([[[first, its_partner, second, other_partner]]], dtype=torch.float64)
    size = torch.tensor([[5.0, 1.0, 1.0, 3.0]], dtype=torch.float64)
    query = torch.zeros(1, 1, 1, 4, dtype=torch.float64)  # all scores alike: A is the share of the patches

    def priorities(copies, strategy, units):
        many = keys.repeat(1, 1, copies, 1), query, size.repeat(1, copies)
        return scored(*many, strategy, units)[1][0, :2].tolist()

    for copies, expected in ((1, [0.9 - 0.5 * 0.5, 0.8 - 0.5 * 0.1]), (4, [0.9 - 0.5 * 0.125, 0.8 - 0.5 * 0.025])):
        assert torch.allclose(torch.tensor(priorities(copies, S1(0.5), "probability")), torch.tensor(expected))
    (a, b), (a4, b4) = (priorities(copies, S1(0.5), "probability") for copies in (1, 4))
    assert a < b
    assert a4 > b4
    for copies in (1, 4):
        a, b = priorities(copies, S1(0.5 / 4), "relative")
        assert a < b


@given(st.integers(0, 62), st.integers(1, 64), st.integers(0, 64), st.integers(1, 64), st.integers(1, 8))
def test_where_probability_units_turn_the_order(low, ahead, value, more, alpha):
    """Proposition 1.18: of R1 > R2 and A1 > A2, the first comes first if and only if k > alpha (A1-A2) / (R1-R2)."""
    for power in range(12):
        copies = 2**power  # dyadic numbers: the priorities are exact
        numbers = ([low + ahead, low], [value + more, value])
        redundancy, share = (torch.tensor([x], dtype=torch.float64) / 128 for x in numbers)
        one = torch.ones_like(share)
        priority = S1(alpha)(Candidates(redundancy, share / copies, one, one, one, depth=0))
        assert bool(priority[0, 0] > priority[0, 1]) == (copies * ahead > alpha * more)


@given(attentions(), st.floats(0, 10))
def test_a_published_alpha_carries_over(example, alpha):
    """Proposition 1.19: R - 30 alpha A is S1(30 alpha) in probability units, and S1(30 alpha / n) in relative units."""
    query, keys, size = example
    n = keys.shape[2]
    assume(n > 1)
    published, priority = scored(keys, query, size, S1(30 * alpha), "probability")
    assert torch.equal(priority, published.redundancy - 30 * alpha * published.value)
    _, relative = scored(keys, query, size, S1(30 * alpha / n))
    agree(relative, priority, 8 * EPS * (1 + 30 * alpha))


@given(seeds, st.integers(1, 3), st.integers(4, 12), st.integers(2, 5), st.integers(0, 2), st.booleans(), st.booleans())
def test_one_block_scores_as_defined(seed, heads, n, width, protected, queries, relative):
    """Proposition 1.20: R, A, partners and Eq. (1) of a whole block are those of a reference that loops over tokens."""
    batch, scale = 2, width**-0.5
    q, k = normal(seed, batch, heads, n, width), normal(seed + 1, batch, heads, n, width)
    size = sizes_of(seed, batch, n).double()
    size[:, :protected] = 1
    for strategy, fuse in ((S1(0.3), lambda r, a: r - 0.3 * a), (S2(), None)):
        units = "relative" if relative else "probability"
        found, priority = scored(k, q[:, :, :1], size, strategy, units, protected, scale, q if queries else None)
        for b in range(batch):
            compared = (q if queries else k)[b].tolist()
            wanted = reference.score_block(
                compared,
                k[b].tolist(),
                q[b, :, 0].tolist(),
                size[b].tolist(),
                protected=protected,
                scale=scale,
                relative=relative,
                fuse=fuse or (lambda r, a: r / a if r >= 0 else r * a),
            )
            # Head means of Gaussian numbers may cancel: a thousand times the rounding of one product allows for it.
            close = {"atol": 1e-11 * n, "rtol": 1e-9}
            for name in ("redundancy", "value", "partner_value"):
                torch.testing.assert_close(getattr(found, name)[b].tolist(), getattr(wanted, name), **close)
            assert found.partner_size[b].tolist() == [float(size[b, j]) for j in wanted.partners]
            assert found.size[b].tolist() == [float(size[b, i]) for i in wanted.sources]
            torch.testing.assert_close(priority[b].tolist(), wanted.priority, **close)


# Without mapping the tokens


class Called(torch.nn.Linear):
    """A linear layer that is called: its class might do anything, so nobody reads its weights."""


@st.composite
def layers(draw):
    """A linear layer d -> heads·e, the same as a layer that is called, but for the bias; tokens ``b n d``; heads."""
    batch, heads, n = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(2, 9))
    width, size, seed, bias = draw(st.integers(2, 5)), draw(st.integers(1, 7)), draw(seeds), draw(st.booleans())
    made = [kind(size, heads * width, bias=bias).double().requires_grad_(False) for kind in (torch.nn.Linear, Called)]
    for layer in made:
        layer.weight.copy_(normal(seed, heads * width, size))
        if bias:
            layer.bias.copy_(normal(seed + 1, heads * width))
    return *made, normal(seed + 2, batch, n, size), heads


@given(layers(), seeds, st.sampled_from([0.0, 0.1, 1.0, 5.0]), st.booleans())
def test_value_is_read_through_the_weights(example, seed, loudness, scaled):
    """Proposition 1.21: A of keys that a linear layer makes is the softmax of (Wᵀq)·x; the bias drops out."""
    layer, called, x, heads = example
    width, n = layer.out_features // heads, x.shape[1]
    query, scale = normal(seed, len(x), heads, 1, width) * loudness, 0.3 if scaled else None
    found = attention_of_query(query, layer, x, scale)
    wanted = semantic_value(query, split_heads(layer(x), heads), None, scale)
    # Scores are rounded to single precision, then the softmax is; bias or not, they are at most this large.
    loudest = float((query.abs() @ split_heads(x.abs() @ layer.weight.abs().T, heads).transpose(2, 3)).max())
    single = torch.finfo(torch.float32).eps
    agree(found.double(), wanted, 2 * single * loudest + (n + 20) * single)
    agree(attention_of_query(query, called, x, scale), wanted, 0)
    if layer.bias is not None:
        layer.bias.mul_(-3).add_(1)
        assert torch.equal(attention_of_query(query, layer, x, scale), found)


@given(layers(), seeds)
def test_reading_through_the_weights_maps_no_token(example, seed):
    """Proposition 1.21: a query's scores take Hed + nHd multiplications for an image; calling the layer takes more."""
    layer, called, x, heads = example
    batch, n, size = x.shape
    width = layer.out_features // heads
    query = normal(seed, batch, heads, 1, width)
    counts = []
    for each in (layer, called):
        with FlopCounterMode(display=False) as counter:
            attention_of_query(query, each, x, None)
        counts.append(counter.get_total_flops() // 2)  # a multiplication and an addition
    assert counts[0] == batch * (heads * width * size + n * heads * size)
    assert counts[1] >= batch * n * heads * (width * size + width) > counts[0]


class Scored(RoundTrip):
    """A block of one layer, which is scored and never run."""

    def keys(self):
        return self.module

    def queries(self):
        return self.module

    def text_query(self):
        raise AssertionError("no part with text is scored here")

    def self_attention_bias(self, bias):
        raise AssertionError("nothing runs here")


@given(layers())
def test_the_mean_key_is_one_linear_map(example):
    """Proposition 1.21: R and the partners of averaged weights are those of keys that are made and then averaged."""
    layer, called, x, heads = example
    part = parity(x.shape[1])
    settings_ = RoundTripSettings(
        strategy=S1(),
        strategy_name="s1",
        semantic_units="relative",
        metric="keys",
        ratios=Ratios({"self_attention": 0.5}),
        max_downsample=1,
        refresh_every=1,
        destinations="parity",
        seed=0,
    )
    found, wanted = (
        score_tokens(Scored(each, parts={"self_attention": each}, downsample=1, heads=heads), x, part, False, settings_)
        for each in (layer, called)
    )
    mean = split_heads(layer(x), heads).mean(dim=1)
    shortest = float(mean.norm(dim=-1).min())
    assume(shortest > 1e-3)
    largest = float((x.abs() @ layer.weight.abs().T).max()) + (
        0 if layer.bias is None else float(layer.bias.abs().max())
    )
    off = 8 * (x.shape[2] + heads + 8) * EPS * (1 + layer.out_features * largest / shortest)
    agree(found.redundancy, wanted.redundancy, off)
    tokens = token_metric(mean[:, None])
    best = (tokens[:, part.source] @ tokens[:, part.destination].transpose(1, 2)).gather(2, found.partner[..., None])
    agree(best[..., 0], wanted.redundancy, 2 * off)


# Along depth

momenta = st.one_of(st.sampled_from([0.0, 0.5]), st.floats(0, 1, exclude_max=True))


@st.composite
def journeys(draw):
    """Each block's own values ``b n``, rows that sum to 1, at times nearly all on one token; the matchings between."""
    x, _, chain = draw(chains())
    loudness, seed = draw(st.sampled_from([0.0, 1.0, 30.0])), draw(seeds)
    seen = [x.shape[1], *(matching.kept.shape[1] for matching in chain)]
    return [(loudness * normal(seed + block, len(x), n)).softmax(1) for block, n in enumerate(seen)], chain


def carried(own, chain, momentum):
    """The running value in each block."""
    values = [running_value(own[0], None, momentum)]
    for value, matching in zip(own[1:], chain, strict=True):
        values.append(running_value(value, add_up(values[-1], matching), momentum))
    return values


@given(journeys(), momenta, st.sampled_from([torch.float32, torch.float64]))
def test_the_running_value_is_a_share(example, momentum, dtype):
    """Proposition 1.22: V is not negative and sums to 1 in every block, and is at least (1-m) A after the first."""
    own, chain = example
    own = [value.to(dtype) for value in own]
    roundings = 0
    for block, value in enumerate(carried(own, chain, momentum)):
        assert value.dtype == dtype
        assert (value >= 0).all()
        assert block == 0 or (value >= (1 - momentum) * own[block]).all()
        roundings += own[0].shape[1] + 6  # of the softmax or the sums, the products and their sum
        agree(value.sum(1), torch.ones(len(value), dtype=dtype), roundings * torch.finfo(dtype).eps)


@given(journeys(), st.sampled_from([torch.float32, torch.float64]))
def test_without_momentum_it_is_the_blocks_own(example, dtype):
    """Proposition 1.22: with momentum 0, V is A bit for bit, whatever came before."""
    own, chain = example
    own = [value.to(dtype) for value in own]
    for value, wanted in zip(carried(own, chain, 0.0), own, strict=True):
        assert torch.equal(value, wanted)


@given(journeys(), momenta)
def test_each_block_counts_by_its_distance(example, momentum):
    """Proposition 1.23: V in block l is what the tokens it consists of got in block j, times (1-m) m^(l-j), or m^l."""
    own, chain = example
    for block, value in enumerate(carried(own, chain, momentum)):
        weights = [momentum**block] + [(1 - momentum) * momentum ** (block - j) for j in range(1, block + 1)]
        assert abs(sum(weights) - 1) <= 8 * EPS
        for b in range(len(value)):
            assignments = [matching.assignment[b].tolist() for matching in chain]
            wanted = reference.running_value([each[b].tolist() for each in own[: block + 1]], assignments, momentum)
            # All terms are positive, so every rounding is relative to the sum; what underflows is lost.
            rtol = 2 * (block + 1) * (own[0].shape[1] + 8) * EPS
            torch.testing.assert_close(value[b].tolist(), wanted, rtol=rtol, atol=1e-300)


@given(journeys(), momenta, st.data())
def test_attention_once_given_is_not_forgotten_at_once(example, momentum, data):
    """Proposition 1.23: a token that gets all attention in block j keeps (1-m) m^(l-j) of it in block l, or m^l."""
    own, chain = example
    block = data.draw(st.integers(0, len(own) - 1))
    place = torch.full((len(own[0]), 1), data.draw(st.integers(0, own[block].shape[1] - 1)))
    own[block] = torch.zeros_like(own[block]).scatter(1, place, 1.0)
    kept = 1.0 if block == 0 else 1 - momentum
    values = carried(own, chain, momentum)
    for later in range(block, len(own)):
        assert (values[later].gather(1, place) >= kept * (1 - 16 * (later + 1) * EPS) - 1e-300).all()
        kept *= momentum
        if later < len(chain):
            place = chain[later].assignment.gather(1, place)


@given(merges(), seeds, st.integers(1, 3), momenta)
def test_when_duplicates_merge_does_not_matter(example, seed, blocks, momentum):
    """Proposition 1.24: tokens with equal keys have, merged early, the sum of the V that they have until they merge."""
    x, size, matching = example
    batch, n, width = x.shape
    late = (x / x.abs().max()).sum(2).softmax(1)  # V as it was before the two ways part
    early = add_up(late, matching)
    size, merged_size = size.double(), add_up(size.double(), matching)
    allowed = 4 * n * EPS
    for block in range(blocks):
        merged = normal(seed + 2 * block, batch, 2, matching.kept.shape[1], width)
        keys = torch.stack([unmerge(head, matching.assignment) for head in merged.unbind(1)], 1)
        query = normal(seed + 2 * block + 1, batch, 2, 1, width)
        late = running_value(semantic_value(query, keys, size), late, momentum)
        early = running_value(semantic_value(query, merged, merged_size), early, momentum)
        allowed += 2 * slack(query, keys, merged_size) * n
        agree(early, add_up(late, matching), allowed)


@given(seeds, st.integers(5, 14), st.integers(0, 2), momenta, st.booleans(), st.data())
def test_several_blocks_score_as_defined(seed, n, protected, momentum, relative, data):
    """Proposition 1.25: in each of several blocks, A of both ends is that of a reference that follows every token."""
    batch, heads, width, scale = 2, 2, 3, 0.7
    halves = data.draw(st.sampled_from(["parity", "ordered", "alternating"]))
    units = "relative" if relative else "probability"
    settings_ = Settings(S1(0.3), "it", Schedule(), "keys", units, halves, momentum)
    size = before = None
    own, assignments = [[] for _ in range(batch)], [[] for _ in range(batch)]
    for depth in range(3):
        if not most_mergeable(n, protected):
            break
        k, query = normal(seed + depth, batch, heads, n, width), normal(seed + depth + 9, batch, heads, 1, width)
        drop = data.draw(st.integers(1, most_mergeable(n, protected)))
        found = match_tokens(
            k, k, query, size, before, drop=drop, depth=depth, protected=protected, scale=scale, settings=settings_
        )
        odd = halves == "alternating" and depth % 2 == 1
        sources = [i for i in range(protected, n) if i % 2 == odd]
        destinations = [i for i in range(protected, n) if i % 2 != odd]
        for b in range(batch):
            sizes = [1.0] * n if size is None else size[b].tolist()
            own[b].append(reference.value(query[b, :, 0].tolist(), k[b].tolist(), sizes, scale))
            wanted = reference.running_value(own[b], assignments[b], momentum)
            given_ = [n * share if relative else share for share in wanted]
            vectors = reference.metric(k[b].tolist())
            best = reference.redundancy([vectors[i] for i in sources], [vectors[j] for j in destinations])
            close = {"atol": 1e-12 * n, "rtol": 1e-10}
            torch.testing.assert_close(found.value[b].tolist(), wanted, **close)
            torch.testing.assert_close(found.candidates.value[b].tolist(), [given_[i] for i in sources], **close)
            partners = [given_[destinations[j]] for _, j in best]
            torch.testing.assert_close(found.candidates.partner_value[b].tolist(), partners, **close)
            assignments[b].append(found.matching.assignment[b].tolist())
        before = add_up(found.value, found.matching)
        size = add_up(torch.ones(batch, n, dtype=torch.float64) if size is None else size, found.matching)
        n -= drop
