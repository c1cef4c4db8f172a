"""Merging and its inverse against a mean taken group by group."""

import pytest
import torch

from turbo.matching import select
from turbo.merging import group_means, merge, unmerge
from turbo.partition import parity


def example(n=11, drop=4, protected=1, batch=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    partition = parity(n, protected)
    priority = torch.rand(batch, partition.sources, generator=generator)
    partner = torch.randint(partition.destinations, (batch, partition.sources), generator=generator)
    x = torch.randn(batch, n, 5, generator=generator, dtype=torch.float64).to(dtype)
    size = torch.randint(1, 6, (batch, n), generator=generator).float()
    return x, size, select(priority, partner, drop, partition)


def by_hand(x, assignment, size):
    """For each token the size-weighted mean of the tokens assigned to it, and their number of patches."""
    merged, sizes = [], []
    for position in range(int(assignment.max()) + 1):
        group = (assignment == position).nonzero()[:, 0]
        weight = size[group, None].to(x.dtype)
        merged.append((x[group] * weight).sum(0) / weight.sum())
        sizes.append(size[group].sum())
    return torch.stack(merged), torch.stack(sizes)


@pytest.mark.parametrize("drop", [0, 1, 4, 5])
def test_merge_is_the_weighted_mean_of_each_group(drop):
    x, size, matching = example(drop=drop)
    merged, new_size = merge(x, matching, size)
    assert merged.shape == (3, 11 - drop, 5)
    for b in range(3):
        expected, expected_size = by_hand(x[b], matching.assignment[b], size[b])
        torch.testing.assert_close(merged[b], expected, atol=1e-6, rtol=0)
        assert torch.equal(new_size[b], expected_size)


def test_several_sources_may_share_one_destination():
    matching = select(torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.int64), 3, parity(6))
    x = torch.tensor([[[1.0], [2.0], [3.0], [10.0], [6.0], [20.0]]])
    merged, size = merge(x, matching)
    assert merged.flatten().tolist() == [3.0, 10.0, 20.0]
    assert size.tolist() == [[4.0, 1.0, 1.0]]


def test_no_size_means_one_patch_each():
    x, _, matching = example()
    by_default, by_ones = merge(x, matching), merge(x, matching, torch.ones(3, 11))
    assert torch.equal(by_default[0], by_ones[0])
    assert torch.equal(by_default[1], by_ones[1])
    assert by_default[1].dtype == torch.float32


def test_merging_exact_duplicates_is_exact():
    x, size, matching = example(dtype=torch.float32)
    y = unmerge(x[:, :7], matching.assignment)
    merged, _ = merge(y, matching, size)
    assert torch.equal(merged, x[:, :7])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_sizes_are_single_precision(dtype):
    x, size, matching = example(dtype=dtype)
    merged, new_size = merge(x, matching, size)
    assert merged.dtype == dtype
    assert new_size.dtype == torch.float32
    assert unmerge(merged, matching.assignment).dtype == dtype


def test_sizes_are_single_precision_whatever_the_default_is():
    x, _, matching = example()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert merge(x, matching)[1].dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


def test_results_stay_on_the_device_of_the_tokens():
    partition = parity(9, 1)
    priority = torch.zeros(2, partition.sources, device="meta")
    matching = select(priority, torch.zeros_like(priority, dtype=torch.int64), 3, partition)
    x = torch.zeros(2, 9, 5, device="meta")
    merged, size = merge(x, matching)
    assert merged.device == size.device == unmerge(merged, matching.assignment).device == x.device


def test_the_input_is_not_written_to():
    x, size, matching = example()
    before, size_before = x.clone(), size.clone()
    merge(x, matching, size)
    assert torch.equal(x, before)
    assert torch.equal(size, size_before)


def test_tensors_need_not_be_contiguous():
    x, size, matching = example()
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous()
    assert torch.equal(merge(strided, matching, size)[0], merge(x, matching, size)[0])
    tokens = torch.randn(5, 7, 3).transpose(0, 2)
    expected = torch.stack([tokens[b][matching.assignment[b]] for b in range(3)])
    assert torch.equal(unmerge(tokens, matching.assignment), expected)


def test_group_means_are_means():
    torch.manual_seed(0)
    x, assignment = torch.randn(2, 7, 3), torch.tensor([[0, 1, 1, 2, 2, 2, 3], [3, 2, 1, 0, 0, 1, 2]])
    size = torch.stack([row.bincount() for row in assignment]).float()
    found = group_means(x, assignment, size)
    for image in range(2):
        for token in range(4):
            torch.testing.assert_close(found[image, token], x[image, assignment[image] == token].mean(dim=0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_group_means_keep_the_dtype_and_add_in_the_sizes_own(dtype):
    ones = torch.ones(1, 5000, 1, dtype=dtype)
    found = group_means(ones, torch.zeros(1, 5000, dtype=torch.long), torch.tensor([[5000.0]]))
    assert (found.dtype, found.item()) == (dtype, 1.0)


def test_unmerge_gives_each_position_its_token():
    x, _, matching = example(drop=4)
    tokens = x[:, :7]
    full = unmerge(tokens, matching.assignment)
    for b in range(3):
        for i in range(11):
            assert torch.equal(full[b, i], tokens[b, matching.assignment[b, i]])


def test_gradients_of_both_are_right():
    x, size, matching = example()
    x.requires_grad_()
    # Weights are single precision, whatever x is: compare with the same weights taken by hand.
    merge(x, matching, size)[0].square().sum().backward()
    found, x.grad = x.grad, None
    sum(by_hand(x[b], matching.assignment[b], size[b])[0].square().sum() for b in range(3)).backward()
    torch.testing.assert_close(found, x.grad, atol=1e-5, rtol=0)
    tokens = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: unmerge(t, matching.assignment), tokens)
