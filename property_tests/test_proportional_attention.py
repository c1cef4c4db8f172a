"""Proportional attention, for any sizes. Theory: proportional attention."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import turbo
from turbo.attention import proportional_attention
from turbo.information import semantic_value
from turbo.merging import merge, unmerge
from turbo.testing.generators import matchings, normal, seeds, sizes_of

fewer = settings(max_examples=settings.default.max_examples // 4)
"""For tests that loop or run a model: a quarter of the profile's examples."""

shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 5))


def draw(seed, shape, loudness=1.0):
    """q, k and v, ``b h n e``, and sizes."""
    batch, _, n, _ = shape
    q, k, v = (normal(seed + i, *shape) for i in range(3))
    return q * loudness, k, v, sizes_of(seed, batch, n).double()


def plain(q, k, v):
    return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v


def slow(q, k, v, size):
    """One query at a time, by the definition: Σ s·exp(l)·v / Σ s·exp(l)."""
    out = torch.zeros_like(q)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).view(-1, 3).tolist():
        logits = [float(q[b, h, i] @ key) / q.shape[-1] ** 0.5 for key in k[b, h]]
        weight = [float(s) * math.exp(x - max(logits)) for s, x in zip(size[b], logits, strict=True)]
        out[b, h, i] = sum(w * value for w, value in zip(weight, v[b, h], strict=True)) / sum(weight)
    return out


@fewer
@given(seeds, shapes, st.floats(0, 10))
def test_it_is_what_the_definition_says(seed, shape, loudness):
    """Proposition 5.1: softmax(qk/√e + log s) gives each token the weight s·exp(qk/√e), summed in a plain loop."""
    q, k, v, size = draw(seed, shape, loudness)
    torch.testing.assert_close(proportional_attention(q, k, v, size), slow(q, k, v, size), atol=1e-9, rtol=0)


@given(seeds, shapes, st.floats(0, 10))
def test_a_token_of_size_s_counts_as_s_patches(seed, shape, loudness):
    """Proposition 5.2: it equals plain attention on the sequence in which each token is repeated s times."""
    q, k, v, size = draw(seed, shape, loudness)
    found = proportional_attention(q, k, v, size)
    for b, repeats in enumerate(size.long()):
        repeated = (t[b : b + 1].repeat_interleave(repeats, dim=2) for t in (k, v))
        torch.testing.assert_close(found[b : b + 1], plain(q[b : b + 1], *repeated), atol=1e-9, rtol=0)


@st.composite
def duplicates(draw_):
    """A matching, and q, k, v ``b h n e`` whose keys are alike within each group of it, and sizes."""
    matching, n, *_ = draw_(matchings())
    seed, heads = draw_(seeds), draw_(st.integers(1, 3))
    batch, m = matching.kept.shape
    keys = normal(seed, batch, m, heads * 4) * draw_(st.sampled_from([1.0, 5.0]))
    keys = unmerge(keys, matching.assignment).unflatten(2, (heads, 4)).transpose(1, 2)
    q, v = normal(seed + 1, batch, heads, n, 4), normal(seed + 2, batch, heads, n, 4)
    size = sizes_of(seed, batch, n).double() if draw_(st.booleans()) else torch.ones(batch, n, dtype=torch.float64)
    return matching, q, keys, v, size


def merge_heads(x, matching, size):
    """Merge ``b h n e`` along n."""
    merged, merged_size = merge(x.transpose(1, 2).flatten(2), matching, size)
    return merged.unflatten(2, (x.shape[1], -1)).transpose(1, 2), merged_size


@given(duplicates())
def test_merging_tokens_of_identical_keys_changes_nothing(example):
    """Proposition 5.3: where the keys of each group are alike every query gets the same output; values may differ."""
    matching, q, k, v, size = example
    merged_keys, merged_size = merge_heads(k, matching, size)
    merged_values, _ = merge_heads(v, matching, size)
    found = proportional_attention(q, merged_keys, merged_values, merged_size)
    torch.testing.assert_close(found, proportional_attention(q, k, v, size), atol=1e-9, rtol=0)


@given(duplicates())
def test_the_sizes_are_needed(example):
    """Proposition 5.4: without log s the largest token gets too little attention, unless all sizes are alike."""
    matching, q, k, _, size = example
    merged_keys, merged_size = merge_heads(k, matching, size)
    query = q[:, :, :1]
    # What the values of one group alone contribute is that group's attention mass.
    grows = int(merged_size[0].argmax())
    value = torch.nn.functional.one_hot(torch.tensor(grows), merged_keys.shape[2]).double()
    value = value[None, None, :, None].expand(*merged_keys.shape[:3], 1)
    right = proportional_attention(query, merged_keys, value, merged_size)[0]
    wrong = proportional_attention(query, merged_keys, value, None)[0]
    if merged_size[0].min() == merged_size[0].max():
        torch.testing.assert_close(wrong, right, atol=1e-9, rtol=0)
    else:
        assert ((wrong < right) | (right > 1 - 1e-9)).all()


@given(seeds, shapes)
def test_only_the_proportion_of_sizes_matters(seed, shape):
    """Proposition 5.5: a common factor on all sizes changes nothing; all sizes alike is plain attention."""
    q, k, v, size = draw(seed, shape)
    exact = plain(q, k, v)
    for common in (None, torch.ones_like(size), torch.full_like(size, 7.0)):
        torch.testing.assert_close(proportional_attention(q, k, v, common), exact, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        proportional_attention(q, k, v, size * 3), proportional_attention(q, k, v, size), atol=1e-9, rtol=0
    )


@given(seeds, shapes, st.randoms(use_true_random=False))
def test_order_of_keys_does_not_matter(seed, shape, random):
    """Proposition 5.6: permuting keys, values and sizes together changes nothing; permuting queries the output."""
    q, k, v, size = draw(seed, shape)
    order = list(range(shape[2]))
    random.shuffle(order)
    found = proportional_attention(q[:, :, order], k[:, :, order], v[:, :, order], size[:, order])
    torch.testing.assert_close(found, proportional_attention(q, k, v, size)[:, :, order], atol=1e-9, rtol=0)


@given(seeds, shapes)
def test_images_of_a_batch_do_not_see_each_other(seed, shape):
    """Proposition 5.6: attention in a batch is attention in each image alone."""
    q, k, v, size = draw(seed, shape)
    together = proportional_attention(q, k, v, size)
    for b in range(shape[0]):
        alone = proportional_attention(*(t[b : b + 1] for t in (q, k, v, size)))
        torch.testing.assert_close(alone[0], together[b], atol=1e-9, rtol=0)


@given(seeds, shapes, st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_precision_changes_only_rounding_and_dtype_is_kept(seed, shape, dtype):
    """Proposition 5.7: every precision gives the double-precision result to its own rounding, in its own dtype."""
    q, k, v, size = draw(seed, shape)
    q, k, v = (t.to(dtype) for t in (q, k, v))
    found = proportional_attention(q, k, v, size)
    logits = q.double() @ k.double().transpose(2, 3) * shape[3] ** -0.5 + size.log()[:, None, None]
    exact = logits.softmax(dim=-1) @ v.double()
    assert found.dtype == dtype
    # delta: log s is rounded to the dtype, the scores' sums to single precision (eps: twice the unit).
    unit, single, n, width = torch.finfo(dtype).eps / 2, torch.finfo(torch.float32).eps, shape[2], shape[3]
    loudest = float((q.double().abs() @ k.double().abs().transpose(2, 3)).max()) * width**-0.5
    delta = unit * float(size.max().log()) + (width + 5) * single * (loudest + 2)
    rounding = math.expm1(2 * delta) + 4 * unit + (n + 20) * single  # weights; those in the dtype; their sums
    longest = float(v.double().norm(dim=-1).max())
    assert (found.double() - exact).norm(dim=-1).max() <= rounding * longest


@given(seeds, shapes)
def test_memory_layout_does_not_matter(seed, shape):
    """Proposition 5.7: heads inside or outside tokens, expanded or sliced sizes: the same result."""
    q, k, v, size = draw(seed, shape)
    inside = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    sliced = torch.stack([size, size + 1], dim=-1)[..., 0]
    found = proportional_attention(*inside, sliced)
    torch.testing.assert_close(found, proportional_attention(q, k, v, size), atol=1e-9, rtol=0)


@given(seeds, shapes, st.floats(0.01, 3))
def test_scale_multiplies_the_scores(seed, shape, scale):
    """Proposition 5.1: a scale other than 1/√e is the same as queries multiplied by scale·√e."""
    q, k, v, size = draw(seed, shape)
    wanted = proportional_attention(q * (scale * shape[3] ** 0.5), k, v, size)
    torch.testing.assert_close(proportional_attention(q, k, v, size, scale=scale), wanted, atol=1e-9, rtol=0)


@given(seeds, shapes)
def test_value_is_the_row_that_attention_uses(seed, shape):
    """Proposition 5.8: A is what the query's attention gives to each token: its output on one-hot values."""
    q, k, _, size = draw(seed, shape)
    batch, heads, n, _ = shape
    one_hot = torch.eye(n, dtype=torch.float64).expand(batch, heads, n, n)
    row = proportional_attention(q[:, :, :1], k, one_hot, size).mean(dim=1)[:, 0]
    torch.testing.assert_close(semantic_value(q[:, :, :1], k, size), row, atol=1e-9, rtol=0)


def stack_of_blocks(seed, heads, blocks):
    """A real ViT in double precision, with random weights, whose positions are all alike."""
    from transformers import ViTConfig, ViTModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=8 * heads,
            intermediate_size=16,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            image_size=(16, 32),
            patch_size=4,
        )
        model = ViTModel(config).double().eval()
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.3)
        model.embeddings.position_embeddings.data.zero_()
    return model


def image_of_twins(seed, times):
    """An image, 4 x 8 patches of 4 px, in which each patch stands `times` times side by side."""
    patches = normal(seed, 1, 3, 4, 4, 8 // times, 4)  # b c rows y columns x
    return patches.repeat_interleave(times, dim=4).reshape(1, 3, 16, 32)


@fewer
@given(seeds, st.integers(1, 3), st.sampled_from([2, 4]), st.sampled_from(["tome", "bound", "ward", "distortion"]))
def test_a_whole_stack_fed_with_duplicated_patches_is_unchanged(seed, heads, times, strategy):
    """Proposition 5.9: merging every duplicate leaves each block's output, hence the model's, as it was."""
    model, image = stack_of_blocks(seed, heads, blocks=4), image_of_twins(seed + 1, times)
    with torch.no_grad():
        untouched = model(image)
        drop = [16, 0, 0, 0] if times == 2 else [16, 8, 0, 0]
        with turbo.accelerated(model, strategy, drop=drop), turbo.recording(model) as trace:
            fast = model(image)
    restored = unmerge(fast.last_hidden_state, trace.groups())
    torch.testing.assert_close(fast.pooler_output, untouched.pooler_output, atol=1e-5, rtol=0)
    torch.testing.assert_close(restored, untouched.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert trace.blocks[-1].size[0, 1:].eq(times).all()


def test_a_whole_stack_without_duplicates_does_change():
    """Proposition 5.9: the same merge of tokens that are no duplicates is seen in the output."""
    model, image = stack_of_blocks(3, 2, blocks=4), normal(4, 1, 3, 16, 32)
    with torch.no_grad():
        untouched = model(image).pooler_output
        with turbo.accelerated(model, "tome", drop=[16, 0, 0, 0]):
            fast = model(image).pooler_output
    with pytest.raises(AssertionError):
        torch.testing.assert_close(fast, untouched, atol=1e-3, rtol=0)
