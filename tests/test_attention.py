"""Proportional attention against plain attention on the sequence it stands for."""

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from turbo.attention import proportional_attention


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(q, k, v, scale):
    return (q @ k.transpose(2, 3) * scale).softmax(dim=-1) @ v


@pytest.mark.parametrize("scale", [None, 0.25])
def test_without_sizes_it_is_plain_attention(scale):
    q, k, v = (draw(2, 3, 6, 4, seed=i) for i in range(3))
    expected = plain(q, k, v, 0.5 if scale is None else scale)
    torch.testing.assert_close(proportional_attention(q, k, v, scale=scale), expected, atol=1e-6, rtol=0)
    ones = torch.ones(2, 6)
    torch.testing.assert_close(proportional_attention(q, k, v, ones, scale=scale), expected, atol=1e-6, rtol=0)


def test_it_equals_plain_attention_on_the_duplicated_sequence():
    """Keys are equal within a group; values need not be, since their mean is what a merged token carries."""
    sizes = torch.tensor([1, 3, 1, 2])
    q, k, every_value = draw(1, 2, 4, 4), draw(1, 2, 4, 4, seed=1), draw(1, 2, 7, 4, seed=2)
    groups = every_value.split(sizes.tolist(), dim=2)
    mean = torch.stack([group.mean(dim=2) for group in groups], dim=2)
    merged = proportional_attention(q, k, mean, sizes[None].float())
    duplicated = plain(q, k.repeat_interleave(sizes, dim=2), every_value, 0.5)
    torch.testing.assert_close(merged, duplicated, atol=1e-5, rtol=0)
    unweighted = proportional_attention(q, k, mean)
    assert (unweighted - duplicated).abs().max() > 1e-2  # so that sizes matter here


def test_sizes_belong_to_their_sequence_of_the_batch():
    q, k, v = (draw(2, 2, 5, 4, seed=i) for i in range(3))
    size = torch.tensor([[1.0, 1, 1, 1, 1], [5.0, 1, 1, 1, 2]])
    together = proportional_attention(q, k, v, size)
    for b in range(2):
        alone = proportional_attention(q[b : b + 1], k[b : b + 1], v[b : b + 1], size[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    q = draw(1, 2, 5, 4).to(dtype)
    size = torch.tensor([[1.0, 2.0, 1.0, 3.0, 1.0]])
    out = proportional_attention(q, q, q, size)
    assert out.dtype == dtype
    wide, repeats = q.double(), size[0].long()
    repeated = wide.repeat_interleave(repeats, dim=2)
    exact = plain(wide, repeated, repeated, 0.5)
    torch.testing.assert_close(out.double(), exact, atol=3e-2 if dtype.itemsize == 2 else 1e-5, rtol=0)


class Masks(TorchFunctionMode):
    """Notes the mask of every call of torch's fused attention, and lets it run."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            self.found.append(kwargs["attn_mask"])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_bias_is_one_row_in_the_precision_of_the_query(dtype):
    """What torch's fused kernels take; no map of the attention is made, and without sizes there is no bias."""
    q = draw(2, 3, 5, 4).to(dtype)
    with Masks() as masks:
        proportional_attention(q, q, q, torch.full((2, 5), 2.0))
        proportional_attention(q, q, q)
    bias, none = masks.found
    assert bias.shape == (2, 1, 1, 5)
    assert bias.dtype == dtype
    assert none is None


def test_dropout_drops():
    q, k, v = (draw(1, 2, 30, 4, seed=i) for i in range(3))
    size = torch.ones(1, 30)
    torch.manual_seed(0)
    first = proportional_attention(q, k, v, size, dropout=0.5)
    second = proportional_attention(q, k, v, size, dropout=0.5)
    assert not torch.equal(first, second)
    kept = proportional_attention(q, k, v, size, dropout=0.0)
    assert torch.equal(kept, proportional_attention(q, k, v, size))
