"""The cost of a block, against torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from turbo.attention import proportional_attention
from turbo.flops import BlockFlops
from turbo.information import mutual_redundancy, semantic_value

BLOCK = BlockFlops(attention_per_token=1000, mlp_per_token=10, width=12, metric_width=4)


def counted(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("n", [2, 7, 16])
def test_an_untouched_block_costs_projections_attention_and_mlp(n):
    q = torch.randn(1, 3, n, 4)
    # torch counts the two products, n x n for each of h*e channels.
    attention = counted(lambda: (q @ q.transpose(2, 3)) @ q)
    assert attention == 4 * n**2 * 12
    assert BLOCK(n, n) == 1000 * n + attention + 10 * n


@pytest.mark.parametrize(("n", "drop"), [(2, 1), (8, 3), (16, 8)])
def test_a_merging_block_pays_for_scoring_and_saves_in_the_mlp(n, drop):
    metric, q, k = torch.randn(1, n, 4), torch.randn(1, 3, 1, 4), torch.randn(1, 3, n, 4)

    def score():
        mutual_redundancy(metric[:, ::2], metric[:, 1::2])
        semantic_value(q, k, None)

    assert BLOCK(n, n - drop) == BLOCK(n, n) + counted(score) - 10 * drop


def test_size_bias_costs_no_counted_flops():
    q, size = torch.randn(1, 3, 8, 4), torch.full((1, 8), 2.0)
    plain = counted(lambda: proportional_attention(q, q, q))
    assert counted(lambda: proportional_attention(q, q, q, size)) == plain


def test_the_model_is_for_one_sequence_and_whole_numbers():
    assert isinstance(BLOCK(7, 5), int)
    assert BLOCK(0, 0) == 0
