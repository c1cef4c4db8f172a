"""Redundancy and semantic value against their definitions."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from turbo import information
from turbo.information import mutual_redundancy, semantic_value, spread_queries, token_metric


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_metric_is_the_head_mean_of_unit_length():
    keys = draw(2, 3, 5, 4)
    expected = keys.sum(dim=1) / 3
    expected = expected / expected.square().sum(-1, keepdim=True).sqrt()
    torch.testing.assert_close(token_metric(keys), expected, atol=1e-12, rtol=0)


def test_metric_averages_before_it_normalises():
    long, short = torch.tensor([10.0, 0.0]), torch.tensor([0.0, 1.0])
    metric = token_metric(torch.stack([long, short])[None, :, None])
    torch.testing.assert_close(metric[0, 0], torch.tensor([10.0, 1.0]) / 101**0.5)


def test_a_zero_vector_stays_zero_and_is_like_nothing():
    keys = torch.zeros(1, 2, 4, 3)
    keys[0, :, 1] = torch.tensor([1.0, 2.0, 3.0])
    keys[0, 0, 2], keys[0, 1, 2] = torch.tensor([1.0, 0, 0]), torch.tensor([-1.0, 0, 0])  # heads that cancel
    metric = token_metric(keys)
    assert metric.isfinite().all()
    assert (metric[0, [0, 2, 3]] == 0).all()
    redundancy, partner = mutual_redundancy(metric[:, ::2], metric[:, 1::2])
    assert torch.equal(redundancy, torch.zeros(1, 2))
    assert partner.min() >= 0
    assert partner.max() < 2


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_scores_have_at_least_single_precision(given, computed):
    q, k, size = draw(1, 2, 1, 4, dtype=given), draw(1, 2, 6, 4, seed=1, dtype=given), torch.full((1, 6), 2.0)
    assert token_metric(k).dtype == computed
    assert semantic_value(q, k, None).dtype == computed
    assert semantic_value(q, k, size).dtype == computed
    assert semantic_value(q, k, size.double()).dtype == computed  # whatever sizes are


def test_half_precision_does_not_tie_cosines_that_differ():
    keys = torch.tensor([[100.0, 1.0], [100.0, 1.5], [100.0, 2.0]], dtype=torch.float16)
    cosines = token_metric(keys[None, None])[0] @ token_metric(keys[None, None])[0, 0]
    assert cosines[0] > cosines[1] > cosines[2]


def test_redundancy_is_the_highest_cosine_and_partner_the_one_it_comes_from():
    metric = token_metric(draw(2, 2, 9, 4))
    source, destination = metric[:, 1::2], metric[:, ::2]
    redundancy, partner = mutual_redundancy(source, destination)
    assert partner.dtype == torch.int64
    for b in range(2):
        for i in range(4):
            cosines = [float(source[b, i] @ destination[b, j]) for j in range(5)]
            assert float(redundancy[b, i]) == pytest.approx(max(cosines), abs=1e-12)
            assert int(partner[b, i]) == cosines.index(max(cosines))


def test_redundancy_of_opposites_and_beyond_rounding_stays_in_range():
    source = torch.tensor([[[1.001, 0.0], [-1.001, 0.0]]])
    redundancy, _ = mutual_redundancy(source, torch.tensor([[[1.001, 0.0]]]))
    assert torch.equal(redundancy, torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("merged", [False, True])
def test_value_is_one_row_of_the_full_attention_map(scale, merged):
    q, k = draw(2, 3, 7, 4), draw(2, 3, 7, 4, seed=1)
    size = torch.tensor([[1.0, 1, 3, 1, 2, 1, 5], [1, 4, 1, 1, 1, 1, 1]], dtype=torch.float64) if merged else None
    scores = q @ k.transpose(2, 3) * (4**-0.5 if scale is None else scale)
    if size is not None:
        scores = scores + size.log()[:, None, None]
    whole = scores.softmax(dim=-1).mean(dim=1)
    value = semantic_value(q[:, :, :1], k, size, scale)
    torch.testing.assert_close(value, whole[:, 0], atol=1e-12, rtol=0)


def heads_outside(*shape, **options):
    """``b h n e`` as a batched product leaves it: each head's tokens lie together."""
    return draw(*shape, **options).contiguous()


def heads_inside(*shape, **options):
    """``b h n e`` as a projection leaves it: each token's heads lie together."""
    return draw(*shape, **options).transpose(1, 2).contiguous().transpose(1, 2)


layouts = pytest.mark.parametrize("layout", [heads_outside, heads_inside])


@layouts
@pytest.mark.parametrize("shape", [(2, 3, 7, 4), (1, 3, 5, 2), (3, 1, 6, 4), (2, 3, 1, 4), (2, 2, 2, 2), (2, 5, 4, 1)])
def test_value_does_not_depend_on_how_keys_lie_in_memory(layout, shape):
    b, h, n, e = shape
    q, k = draw(b, h, 1, e, seed=1), layout(*shape)
    for image in range(b):
        row = torch.zeros(n, dtype=torch.float64)
        for head in range(h):
            scores = torch.stack([(q[image, head, 0] * k[image, head, i]).sum() for i in range(n)])
            row += (scores / e**0.5).softmax(dim=0) / h
        torch.testing.assert_close(semantic_value(q, k, None)[image], row, atol=1e-12, rtol=0)


@layouts
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("merged", [False, True])
def test_value_of_several_queries_is_the_mean_of_what_each_of_them_gives(layout, scale, merged):
    q, k = layout(2, 3, 5, 4), layout(2, 3, 7, 4, seed=1)
    size = draw(2, 7, seed=2).abs() + 0.1 if merged else None
    each = [semantic_value(q[:, :, [row]], k, size, scale) for row in range(5)]
    torch.testing.assert_close(semantic_value(q, k, size, scale), sum(each) / 5, atol=1e-12, rtol=0)


class Largest(TorchDispatchMode):
    """The most elements that any kernel wrote; a view writes none."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.elements = max(self.elements, out.numel())
        return out


@layouts
def test_keys_are_never_copied(layout):
    """Nothing larger than the scores is written: not the keys, which are e times as large, nor an n x n map."""
    q, k = draw(2, 3, 1, 32, seed=1), layout(2, 3, 50, 32)
    with Largest() as largest:
        semantic_value(q, k, None)
    assert largest.elements <= max(2 * 3 * 50, 2 * 3 * 3 * 32)  # b h n, or the block-diagonal query b h (h e)
    with Largest() as largest:
        semantic_value(q.expand(-1, -1, 8, -1), k, None)
    assert largest.elements <= 2 * 3 * 8 * 50  # b h m n


def test_value_is_a_share():
    value = semantic_value(draw(3, 2, 1, 4) * 20, draw(3, 2, 11, 4, seed=1), None)
    assert (value >= 0).all()
    torch.testing.assert_close(value.sum(dim=1), torch.ones(3, dtype=torch.float64))


def test_a_token_of_size_s_is_valued_as_s_patches():
    key = draw(1, 2, 2, 4)
    query = draw(1, 2, 1, 4, seed=1)
    merged = semantic_value(query, key, torch.tensor([[3.0, 1.0]], dtype=torch.float64))
    single = semantic_value(query, key[:, :, [0, 0, 0, 1]], None)
    torch.testing.assert_close(merged[0, 0], single[0, :3].sum())
    torch.testing.assert_close(merged[0, 1], single[0, 3])


@pytest.mark.parametrize("n", [1, 2, 31, 32])
def test_all_tokens_ask_where_they_are_few(n):
    q = draw(2, 3, n, 4)
    assert spread_queries(q, 32) is q


def test_who_asks_is_spread_over_the_sequence_and_asks_once():
    for n in [*range(33, 400), 577, 1024, 4097]:
        found = spread_queries(torch.arange(n).view(1, 1, n, 1), 32).flatten()
        assert found.shape == (32,)
        # One in each of 32 equal stretches.
        assert ((found >= torch.arange(32) * n // 32) & (found < torch.arange(1, 33) * n / 32)).all()
        assert found.diff().min() > 0


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_who_asks_is_spread_over_the_columns_of_a_grid(prefix):
    """Even steps would not do: of 16 x 16 patches every eighth is in one of two columns."""
    for side in range(7, 65):
        places = torch.arange(side**2 + prefix).view(1, 1, -1, 1)
        patches = spread_queries(places, 32).flatten() - prefix
        for line in (patches % side, patches // side):
            asking = line[patches >= 0].unique()
            gaps = torch.cat([torch.tensor([-1]), asking, torch.tensor([side])]).diff() - 1
            assert gaps.max() <= 0.6 * side


def spy_on_similarities(monkeypatch, limit, device="cpu"):
    """The shapes of the similarities that are made at once, with a smaller limit."""
    monkeypatch.setattr(information, "_SIMILARITIES_AT_ONCE", {True: limit, False: 10 * limit})
    shapes = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            if function is torch.ops.aten.bmm.default:
                shapes.append(tuple(result.shape))
            return result

    source, destination = draw(2, 11, 4).to(device), draw(2, 5, 4, seed=1).to(device)
    with Spy():
        found = mutual_redundancy(source, destination)
    return shapes, found


def test_similarities_made_part_by_part_are_the_same(monkeypatch):
    whole, expected = spy_on_similarities(monkeypatch, 10**6)
    parts, found = spy_on_similarities(monkeypatch, 30)
    assert whole == [(2, 11, 5)]
    assert parts == [(2, 3, 5), (2, 3, 5), (2, 3, 5), (2, 2, 5)]  # 3 rows of 2 x 5 are 30
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_limit_that_is_met_needs_one_part(monkeypatch):
    assert spy_on_similarities(monkeypatch, 110)[0] == [(2, 11, 5)]
    assert len(spy_on_similarities(monkeypatch, 109)[0]) == 2


def test_at_least_one_row_is_made_at_a_time(monkeypatch):
    assert spy_on_similarities(monkeypatch, 1)[0] == [(2, 1, 5)] * 11


def test_other_devices_have_a_limit_of_their_own(monkeypatch):
    assert spy_on_similarities(monkeypatch, 3, device="meta")[0] == [(2, 3, 5)] * 3 + [(2, 2, 5)]


def test_an_empty_batch_has_no_redundancy():
    redundancy, partner = mutual_redundancy(torch.zeros(0, 3, 4), torch.zeros(0, 2, 4))
    assert redundancy.shape == partner.shape == (0, 3)
