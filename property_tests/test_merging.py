"""What merging keeps, whatever merges."""

import torch
from generators import merges, normal, seeds
from hypothesis import given
from hypothesis import strategies as st

from turbo.matching import parity, select
from turbo.merging import merge, unmerge


def close(found, wanted, x, relative=1e-6):
    """Equal up to rounding, on the scale of x; weights are single precision."""
    torch.testing.assert_close(found, wanted, atol=relative * float(x.abs().max()), rtol=0)


@given(merges())
def test_sizes_are_conserved(example):
    """Merged sizes are sums of what was assigned: no patch is lost, none counted twice."""
    x, size, matching = example
    _, merged_size = merge(x, matching, size)
    expected = torch.zeros_like(merged_size).scatter_add(1, matching.assignment, size)
    assert torch.equal(merged_size, expected)
    assert torch.equal(merged_size.sum(1), size.sum(1))


@given(merges())
def test_the_weighted_mean_is_conserved(example):
    """The size-weighted mean of a sequence is what it was."""
    x, size, matching = example
    merged, merged_size = merge(x, matching, size)

    def mean(tokens, weight):
        return (tokens * weight[..., None].double()).sum(1) / weight.sum(1, keepdim=True)

    close(mean(merged, merged_size), mean(x, size), x)


@given(merges())
def test_a_merged_token_is_the_weighted_mean_of_its_own(example):
    """Each token of the merged sequence is the size-weighted mean of what was assigned to it."""
    x, size, matching = example
    merged, merged_size = merge(x, matching, size)
    member = torch.nn.functional.one_hot(matching.assignment, merged.shape[1]).double() * size[..., None]
    close(merged, member.transpose(1, 2) @ x / merged_size[..., None], x)


@given(merges())
def test_a_merged_token_lies_among_its_own(example):
    """No coordinate leaves the range of the tokens that merged."""
    x, size, matching = example
    spread = unmerge(merge(x, matching, size)[0], matching.assignment)
    index = matching.assignment[..., None].expand_as(x)
    for reduce, sign in (("amax", 1), ("amin", -1)):
        bound = torch.zeros_like(x).scatter_reduce(1, index, x, reduce, include_self=False).gather(1, index)
        assert (sign * (spread - bound) <= 1e-6 * x.abs().max()).all()


@given(st.integers(1, 30), st.integers(0, 2), st.lists(st.floats(0, 0.5), min_size=1, max_size=4), seeds)
def test_every_patch_belongs_to_one_token_after_any_number_of_merges(n, protected, shares, seed):
    """Following the assignments leads every patch to one token, and sizes count just these patches."""
    n += protected
    x, size, groups = normal(seed, 2, n, 3), None, torch.arange(n).expand(2, -1)
    generator = torch.Generator().manual_seed(seed)
    for share in shares:
        partition = parity(x.shape[1], protected)
        if not partition.sources or not partition.destinations:
            break
        drop = min(round(share * x.shape[1]), (x.shape[1] - protected) // 2)
        priority = torch.rand(2, partition.sources, generator=generator)
        partner = torch.randint(partition.destinations, (2, partition.sources), generator=generator)
        matching = select(priority, partner, drop, partition)
        x, size = merge(x, matching, size)
        groups = matching.assignment.gather(1, groups)
    for row, sizes in zip(groups, torch.ones(2, n) if size is None else size, strict=True):
        assert torch.equal(row.bincount(minlength=x.shape[1]).float(), sizes)


@given(merges())
def test_merge_after_unmerge_changes_nothing(example):
    """Tokens that are spread and merged again are the very same, bit for bit."""
    x, size, matching = example
    tokens = x[:, : matching.kept.shape[1]]
    assert torch.equal(merge(unmerge(tokens, matching.assignment), matching, size)[0], tokens)


@given(merges())
def test_unmerge_after_merge_is_a_projection(example):
    """Merging and spreading twice is doing so once, bit for bit."""
    x, size, matching = example

    def project(y):
        return unmerge(merge(y, matching, size)[0], matching.assignment)

    once = project(x)
    assert torch.equal(project(once), once)


@given(merges())
def test_tokens_that_do_not_merge_are_untouched(example):
    """A kept token that receives nothing, protected ones included, stays bit for bit."""
    x, size, matching = example
    merged, _ = merge(x, matching, size)
    for b, kept in enumerate(matching.kept):
        alone = ~torch.isin(kept, matching.destination[b])
        assert torch.equal(merged[b][alone], x[b][kept[alone]])


@given(merges())
def test_images_of_a_batch_do_not_see_each_other(example):
    """Replacing every image but the first by other tokens leaves the first as it was, bit for bit."""
    x, size, matching = example
    other, other_size = x + 1, size + 1
    other[0], other_size[0] = x[0], size[0]
    assert torch.equal(merge(other, matching, other_size)[0][0], merge(x, matching, size)[0][0])
    assert torch.equal(unmerge(other, matching.assignment)[0], unmerge(x, matching.assignment)[0])


@given(merges(), st.floats(-3, 3))
def test_merging_is_linear(example, factor):
    """merge(x + c·y) = merge(x) + c·merge(y)."""
    x, size, matching = example
    y = x.flip(1)
    found, _ = merge(x + factor * y, matching, size)
    close(found, merge(x, matching, size)[0] + factor * merge(y, matching, size)[0], x, 1e-5)


@given(merges(), st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_precision_changes_only_rounding_and_dtype_is_kept(example, dtype):
    """Every precision gives the double-precision result to its own rounding, in its own dtype."""
    x, size, matching = example
    x = x.to(dtype)
    merged, merged_size = merge(x, matching, size)
    exact, exact_size = merge(x.double(), matching, size)
    assert merged.dtype == dtype
    assert unmerge(merged, matching.assignment).dtype == dtype
    assert merged_size.dtype == torch.float32
    assert torch.equal(merged_size, exact_size)
    # A destination may receive from every source, and each addition rounds.
    steps = 2 * (1 + matching.merged.shape[1])
    close(merged.double(), exact, x, max(1e-6, steps * torch.finfo(dtype).eps))
