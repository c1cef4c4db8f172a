"""Page 4, merging and sizes: what a merge keeps, what it loses, and how exact it is."""

from fractions import Fraction

import pytest
import reference_merging as reference
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo.matching import Matching
from turbo.merging import add_up, merge, unmerge
from turbo.testing.generators import chains, merges, normal, seeds, sizes_of

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SINGLE = torch.finfo(torch.float32).eps


def groups_of(assignment, places, size):
    """``b p n``: the size of each token, at the place it goes to."""
    member = torch.nn.functional.one_hot(assignment, places).double() * size.double()[..., None]
    return member.transpose(1, 2)


def exact_means(x, size, matching):
    """The size-weighted mean of each group, in double precision."""
    member = groups_of(matching.assignment, matching.kept.shape[1], size)
    return member @ x.double() / member.sum(2, keepdim=True)


def mean(x, size):
    return (x * size[..., None].double()).sum(1, keepdim=True) / size.double().sum(1)[:, None, None]


def scatter(x, centre, size):
    """The size-weighted sum of squared distances, per image."""
    return ((x - centre).square().sum(2) * size.double()).sum(1)


def square_slack(x, size, error):
    """How much `scatter` moves where a coordinate moves by `error`: (a + e)² - a² <= 4Xe + e² <= 5Xe."""
    return 5 * float(size.sum(1).max()) * x.shape[2] * float(x.abs().max()) * error


def merge_all(x, chain):
    """Merge by one matching after another; also the place of each first token at the end."""
    places = torch.arange(x.shape[1]).expand(len(x), -1)
    size = torch.ones(x.shape[:2])
    for matching in chain:
        x, size = merge(x, matching, size)
        places = matching.assignment.gather(1, places)
    return x, size, places


@given(merges())
def test_sizes_are_conserved(example):
    """Proposition 4.1: merged sizes are sums of what was assigned: no patch is lost, none counted twice."""
    x, size, matching = example
    _, merged_size = merge(x, matching, size)
    expected = torch.zeros_like(merged_size).scatter_add(1, matching.assignment, size)
    assert torch.equal(merged_size, expected)
    assert torch.equal(merged_size.sum(1), size.sum(1))


@given(chains())
def test_every_patch_belongs_to_one_token_after_any_number_of_merges(chain):
    """Proposition 4.1: following the assignments leads each patch to one token; sizes count these and sum to N."""
    x, protected, matchings = chain
    _, n, _ = x.shape
    for depth in range(len(matchings) + 1):
        tokens, size, places = merge_all(x, matchings[:depth])
        for row, sizes in zip(places, size, strict=True):
            assert torch.equal(row.bincount(minlength=tokens.shape[1]).float(), sizes)
            assert sizes.sum() == n
            assert (sizes[:protected] == 1).all()


@given(merges())
def test_merge_is_the_reference(example):
    """Proposition 4.2: every merged token is its group's mean in rational arithmetic, up to the rounding derived."""
    x, size, matching = example
    merged, merged_size = merge(x, matching, size)
    allowed = reference.rounding(x, matching.merged.shape[1])
    for b in range(len(x)):
        into = dict(zip(matching.merged[b].tolist(), matching.destination[b].tolist(), strict=True))
        wanted, sizes = reference.merge(x[b].tolist(), size[b].tolist(), matching.kept[b].tolist(), into)
        found = merged[b].tolist()
        assert merged_size[b].tolist() == sizes
        for row, exact in zip(found, wanted, strict=True):
            assert all(abs(value - target) <= allowed for value, target in zip(row, exact, strict=True))


@given(merges(), st.sampled_from(DTYPES))
def test_precision_changes_only_rounding_and_dtype_is_kept(example, dtype):
    """Proposition 4.2: in each precision the result is within its rounding, in its own dtype; sizes are float32."""
    x, size, matching = example
    x = x.to(dtype)
    merged, merged_size = merge(x, matching, size)
    assert merged.dtype == dtype
    assert merged_size.dtype == torch.float32
    error = (merged.double() - exact_means(x, size, matching)).abs().max()
    assert error <= reference.rounding(x, matching.merged.shape[1])


@given(chains())
def test_a_token_is_the_mean_of_all_its_patches(chain):
    """Proposition 4.3: after any merges a token is the plain mean of the original patches that it stands for."""
    x, _, matchings = chain
    tokens, _, places = merge_all(x, matchings)
    member = groups_of(places, tokens.shape[1], torch.ones(x.shape[:2]))
    wanted = member @ x / member.sum(2, keepdim=True)
    # Each merge adds its own rounding, and averages what was there before.
    allowed = sum(reference.rounding(x, matching.merged.shape[1]) for matching in matchings)
    torch.testing.assert_close(tokens, wanted, atol=2 * allowed + 1e-15, rtol=0)


@given(merges())
def test_the_weighted_mean_is_conserved(example):
    """Proposition 4.4: the size-weighted mean of a sequence is what it was."""
    x, size, matching = example
    allowed = 2 * reference.rounding(x, matching.merged.shape[1])
    torch.testing.assert_close(mean(*merge(x, matching, size)), mean(x, size), atol=allowed, rtol=0)


@given(merges(), seeds)
def test_a_merged_token_lies_among_its_own(example, seed):
    """Proposition 4.5: no merged token leaves the range of its group, along the axes and along random directions."""
    x, size, matching = example
    width = x.shape[2]
    directions = torch.cat([torch.eye(width, dtype=x.dtype), normal(seed, width, 4)], dim=1)
    along, spread = x @ directions, unmerge(merge(x, matching, size)[0], matching.assignment) @ directions
    index = matching.assignment[..., None].expand_as(along)
    # Where each coordinate is off by e, the place along w is off by at most e times the sum of |w|.
    allowed = directions.abs().sum(0) * reference.rounding(x, matching.merged.shape[1])
    for reduce, sign in (("amax", 1), ("amin", -1)):
        bound = torch.zeros_like(along).scatter_reduce(1, index, along, reduce, include_self=False).gather(1, index)
        assert (sign * (spread - bound) <= allowed).all()


@given(merges(), st.sampled_from(DTYPES))
def test_tokens_that_do_not_merge_are_untouched(example, dtype):
    """Proposition 4.6: a kept token that receives nothing, protected ones included, stays bit for bit."""
    x, size, matching = example
    x = x.to(dtype)
    merged, _ = merge(x, matching, size)
    for b, kept in enumerate(matching.kept):
        alone = ~torch.isin(kept, matching.destination[b])
        assert torch.equal(merged[b][alone], x[b][kept[alone]])


@given(merges(), st.sampled_from(DTYPES), seeds)
def test_exact_duplicates_merge_exactly(example, dtype, seed):
    """Proposition 4.6: where all tokens of a group are the same, the result is this token bit for bit."""
    x, size, matching = example
    x = x.to(dtype)
    owner = matching.kept.gather(1, matching.assignment)
    copies = x.gather(1, owner[..., None].expand_as(x))
    # Some groups hold copies of what stays, the others hold tokens of their own.
    chosen = torch.rand(matching.kept.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    copied = chosen.gather(1, matching.assignment)[..., None]
    merged, _ = merge(torch.where(copied, copies, x), matching, size)
    stays = x.gather(1, matching.kept[..., None].expand_as(merged))
    assert torch.equal(merged[chosen], stays[chosen])


def test_wards_identity_by_algebra():
    """Proposition 4.7: sizes p, q at x, y: their scatter about the mean is pq/(p+q) (x-y)² (sympy, one coordinate)."""
    p, q = sympy.symbols("p q", positive=True)
    x, y, c = sympy.symbols("x y c", real=True)
    m = (p * x + q * y) / (p + q)
    loss = p * (x - m) ** 2 + q * (y - m) ** 2
    assert sympy.simplify(loss - p * q / (p + q) * (x - y) ** 2) == 0
    # About any other point c it is more, by the total size times the squared distance.
    assert sympy.simplify(p * (x - c) ** 2 + q * (y - c) ** 2 - loss - (p + q) * (c - m) ** 2) == 0


@given(merges())
def test_scatter_is_between_plus_within(example):
    """Proposition 4.8: the total scatter is that of the merged tokens plus that inside the groups."""
    x, size, matching = example
    merged, merged_size = merge(x, matching, size)
    centre = mean(x, size)
    total, between = scatter(x, centre, size), scatter(merged, centre, merged_size)
    within = scatter(x, unmerge(merged, matching.assignment), size)
    allowed = 2 * square_slack(x, size, reference.rounding(x, matching.merged.shape[1]))
    torch.testing.assert_close(between + within, total, atol=allowed, rtol=0)
    # The loss of a group by its pairs: the sum of s_i s_j |x_i - x_j|² over its pairs, divided by its size.
    same = matching.assignment[:, :, None] == matching.assignment[:, None, :]
    group = merged_size.gather(1, matching.assignment).double()
    weights = same * size.double()[:, :, None] * size.double()[:, None, :] / group[..., None]
    gap = (x[:, :, None] - x[:, None, :]).square().sum(3)
    torch.testing.assert_close((weights * gap).sum((1, 2)) / 2, within, atol=allowed, rtol=0)


@given(chains())
def test_losses_add_up_merge_by_merge(chain):
    """Proposition 4.8: the scatter of all patches inside the final tokens is the sum of Ward's costs on the way."""
    x, _, matchings = chain
    lost = torch.zeros(len(x), dtype=torch.float64)
    tokens, size = x, torch.ones(x.shape[:2])
    for matching in matchings:
        now, weight = tokens.clone(), size.double()
        for step in range(matching.merged.shape[1]):  # one source after another: each meets what is there by then
            for b in range(len(x)):
                i, j = int(matching.merged[b, step]), int(matching.destination[b, step])
                p, q = weight[b, i].item(), weight[b, j].item()
                lost[b] += p * q / (p + q) * (now[b, i] - now[b, j]).square().sum()
                now[b, j] = (p * now[b, i] + q * now[b, j]) / (p + q)
                weight[b, j] = p + q
        tokens, size = merge(tokens, matching, size)
    _, _, places = merge_all(x, matchings)
    within = scatter(x, unmerge(tokens, places), torch.ones(x.shape[:2]))
    error = sum(reference.rounding(x, matching.merged.shape[1]) for matching in matchings)
    # The means that later costs start from carry the error too: at most once per merge.
    allowed = 2 * (1 + len(matchings)) * square_slack(x, torch.ones(x.shape[:2]), error) + 1e-15
    torch.testing.assert_close(lost, within, atol=allowed, rtol=0)


@given(merges(), seeds, st.sampled_from([0.01, 0.1, 1.0]))
def test_any_other_representative_is_worse(example, seed, far):
    """Proposition 4.9: moving a merged token by v adds S·|v|² to its group's scatter, so the mean is the best."""
    x, size, matching = example
    merged, merged_size = merge(x, matching, size)
    step = far * float(x.abs().max()) * normal(seed, *merged.shape).sign()
    best, other = (scatter(x, unmerge(y, matching.assignment), size) for y in (merged, merged + step))
    added = (merged_size.double() * step.square().sum(2)).sum(1)
    # The first-order term, 2·S·<v, error>, is no longer 0 once the mean is rounded.
    error = reference.rounding(x, matching.merged.shape[1])
    allowed = 4 * float(merged_size.sum(1).max() * step.abs().max()) * x.shape[2] * error
    torch.testing.assert_close(other - best, added, atol=allowed, rtol=1e-9)
    assert (other > best).all()


@given(merges(), st.floats(-3, 3))
def test_merging_is_linear(example, factor):
    """Proposition 4.10: merge(x + c·y) = merge(x) + c·merge(y), with one matching and the same sizes."""
    x, size, matching = example
    y = x.flip(1)
    together = x + factor * y
    found, _ = merge(together, matching, size)
    wanted = merge(x, matching, size)[0] + factor * merge(y, matching, size)[0]
    # The weights are the same numbers on both sides: only double precision's rounding is left, on |x| + |c|·|y|.
    steps = 8 * (matching.merged.shape[1] + 4)
    allowed = steps * torch.finfo(x.dtype).eps * (1 + abs(factor)) * float(x.abs().max())
    torch.testing.assert_close(found, wanted, atol=allowed, rtol=0)


@given(merges(), seeds)
def test_the_gradient_is_the_transpose(example, seed):
    """Proposition 4.11: <merge(x), y> = <x, mergeᵀ y>, and mergeᵀ gives each token its share of its group."""
    x, size, matching = example
    x.requires_grad_()
    merged, merged_size = merge(x, matching, size)
    y = normal(seed, *merged.shape)
    (gradient,) = torch.autograd.grad(merged, x, y)
    eps, largest = torch.finfo(torch.float64).eps, float(x.detach().abs().max() * y.abs().max())
    steps = 8 * x.numel() * x.shape[1]  # every product rounds, and a sum of m terms rounds m times
    torch.testing.assert_close((merged * y).sum(), (x * gradient).sum(), atol=steps * eps * largest, rtol=0)
    share = size.double() / merged_size.gather(1, matching.assignment).double()
    wanted = share[..., None] * unmerge(y, matching.assignment)
    # Shares are computed in single precision; a destination's is 1 minus those of its sources.
    torch.testing.assert_close(gradient, wanted, atol=SINGLE * float(y.abs().max()), rtol=0)
    assert torch.autograd.gradcheck(
        lambda x: merge(x, matching, size)[0],
        x,
        eps=float(x.detach().abs().max()),
        atol=1e-9,
        rtol=1e-9,
        fast_mode=True,
    )


@given(merges())
def test_images_of_a_batch_do_not_see_each_other(example):
    """Proposition 4.12: merging in a batch is merging in each image alone, bit for bit."""
    x, size, matching = example
    merged, merged_size = merge(x, matching, size)
    for b in range(len(x)):
        one = slice(b, b + 1)
        fields = (matching.kept, matching.merged, matching.receiver)
        alone, alone_size = merge(x[one], Matching(*(field[one] for field in fields)), size[one])
        assert torch.equal(alone[0], merged[b])
        assert torch.equal(alone_size[0], merged_size[b])


@pytest.mark.parametrize("layout", ["tokens outside images", "columns outside tokens", "every second", "expanded"])
@given(example=merges(), seed=seeds)
def test_layout_does_not_matter(layout, example, seed):
    """Proposition 4.12: tokens and sizes of any strides, shared ones (stride 0) too, give the same bits."""
    x, size, matching = example
    if layout == "expanded":
        x, size = x[:1].expand_as(x), sizes_of(seed, 1, 1).expand_as(size)
    wanted, wanted_size = merge(x.contiguous(), matching, size.contiguous())
    if layout == "tokens outside images":
        x, size = x.transpose(0, 1).contiguous().transpose(0, 1), size.t().contiguous().t()
    elif layout == "columns outside tokens":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    elif layout == "every second":
        x, size = (torch.stack([t, t + 1], dim=2)[:, :, 0] for t in (x, size))
    before, size_before = x.clone(), size.clone()
    found, found_size = merge(x, matching, size)
    assert torch.equal(found, wanted)
    assert torch.equal(found_size, wanted_size)
    assert torch.equal(x, before)
    assert torch.equal(size, size_before)


@given(merges())
def test_no_size_means_one_patch_each(example):
    """Proposition 4.12: leaving sizes out is giving ones, bit for bit."""
    x, _, matching = example
    by_default, by_ones = merge(x, matching), merge(x, matching, torch.ones(x.shape[:2]))
    assert torch.equal(by_default[0], by_ones[0])
    assert torch.equal(by_default[1], by_ones[1])


@given(merges(), seeds, st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_amounts_add_up(example, seed, dtype, whole):
    """Proposition 4.13: each place gets its group's sum: whole numbers exactly, others to a rounding per source."""
    x, size, matching = example
    shares = normal(seed, *x.shape[:2]).exp()
    amount = (size * shares.sub(1).sign() if whole else shares).to(dtype)  # some of the whole numbers are negative
    found = add_up(amount, matching)
    assert found.dtype == dtype
    unit = Fraction(torch.finfo(dtype).eps) / 2
    for b, row in enumerate(found.tolist()):
        groups = [[] for _ in row]
        for token, place in enumerate(matching.assignment[b].tolist()):
            groups[place].append(Fraction(amount[b, token].item()))
        for value, members in zip(row, groups, strict=True):
            exact, factor = sum(members), 1 if whole else (1 + unit) ** (len(members) - 1)
            assert exact * (2 - factor) <= value <= exact * factor  # (1-u)^k is at least 2 - (1+u)^k
        if whole:
            assert sum(row) == amount[b].sum()


@given(merges())
def test_sizes_are_amounts(example):
    """Proposition 4.13: the sizes that `merge` returns are those of its tokens, added up; one each by default."""
    x, size, matching = example
    assert torch.equal(merge(x, matching, size)[1], add_up(size, matching))
    assert torch.equal(merge(x, matching)[1], add_up(torch.ones(x.shape[:2]), matching))


@given(chains(), seeds)
def test_amounts_add_up_along_all_merges(chain, seed):
    """Proposition 4.13: after several matchings a token has the sum of the first tokens that are led to it."""
    x, _, matchings = chain
    amount = first = torch.randint(-99, 100, x.shape[:2], generator=torch.Generator().manual_seed(seed)).double()
    for matching in matchings:
        amount = add_up(amount, matching)
    _, _, places = merge_all(x, matchings)
    for b, row in enumerate(amount.tolist()):
        wanted = [0.0] * len(row)
        for token, place in enumerate(places[b].tolist()):
            wanted[place] += first[b, token].item()
        assert row == wanted
