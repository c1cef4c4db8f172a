"""Proportional attention, for any sizes."""

import torch
from generators import normal, seeds, sizes_of
from hypothesis import given
from hypothesis import strategies as st

from turbo.attention import proportional_attention
from turbo.information import semantic_value

shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 5))


def draw(seed, shape, loudness=1.0):
    """q, k and v, ``b h n e``, and sizes."""
    batch, _, n, _ = shape
    q, k, v = (normal(seed + i, *shape) for i in range(3))
    return q * loudness, k, v, sizes_of(seed, batch, n)


def plain(q, k, v):
    return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v


@given(seeds, shapes, st.floats(0, 10))
def test_a_token_of_size_s_counts_as_s_patches(seed, shape, loudness):
    """It equals plain attention on the sequence in which each token is repeated as often as its size says."""
    q, k, v, size = draw(seed, shape, loudness)
    found = proportional_attention(q, k, v, size)
    for b, repeats in enumerate(size.long()):
        repeated = (t[b : b + 1].repeat_interleave(repeats, dim=2) for t in (k, v))
        torch.testing.assert_close(found[b : b + 1], plain(q[b : b + 1], *repeated), atol=1e-5, rtol=0)


@given(seeds, shapes)
def test_all_sizes_alike_is_plain_attention(seed, shape):
    """Only the proportion of sizes matters: a common size changes nothing."""
    q, k, v, size = draw(seed, shape)
    exact = plain(q, k, v)
    for common in (None, torch.ones_like(size), torch.full_like(size, 7.0)):
        torch.testing.assert_close(proportional_attention(q, k, v, common), exact, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        proportional_attention(q, k, v, size * 3), proportional_attention(q, k, v, size), atol=1e-6, rtol=0
    )


@given(seeds, shapes, st.randoms(use_true_random=False))
def test_order_of_keys_does_not_matter(seed, shape, random):
    """Permuting keys, values and sizes together changes nothing; permuting queries permutes the output."""
    q, k, v, size = draw(seed, shape)
    order = list(range(shape[2]))
    random.shuffle(order)
    found = proportional_attention(q[:, :, order], k[:, :, order], v[:, :, order], size[:, order])
    torch.testing.assert_close(found, proportional_attention(q, k, v, size)[:, :, order], atol=1e-9, rtol=0)


@given(seeds, shapes)
def test_images_of_a_batch_do_not_see_each_other(seed, shape):
    """Attention in a batch is attention in each image alone."""
    q, k, v, size = draw(seed, shape)
    together = proportional_attention(q, k, v, size)
    for b in range(shape[0]):
        alone = proportional_attention(*(t[b : b + 1] for t in (q, k, v, size)))
        torch.testing.assert_close(alone[0], together[b], atol=1e-9, rtol=0)


@given(seeds, shapes, st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_precision_changes_only_rounding_and_dtype_is_kept(seed, shape, dtype):
    """Every precision gives the double-precision result to its own rounding, in its own dtype."""
    q, k, v, size = draw(seed, shape)
    q, k, v = (t.to(dtype) for t in (q, k, v))
    found = proportional_attention(q, k, v, size)
    exact = proportional_attention(q.double(), k.double(), v.double(), size)
    assert found.dtype == dtype
    largest = 1 + float(v.abs().max())
    assert (found.double() - exact).abs().max() <= 20 * torch.finfo(dtype).eps * largest


@given(seeds, shapes)
def test_value_is_the_row_that_attention_uses(seed, shape):
    """A is what the class token's attention gives to each token: attention of one-hot values, mean over heads."""
    q, k, _, size = draw(seed, shape)
    batch, heads, n, _ = shape
    one_hot = torch.eye(n, dtype=torch.float64).expand(batch, heads, n, n)
    row = proportional_attention(q[:, :, :1], k, one_hot, size).mean(dim=1)[:, 0]
    torch.testing.assert_close(semantic_value(q[:, :, :1], k, size), row, atol=1e-6, rtol=0)
