"""The cost of a block, against torch's own counter."""

from dataclasses import replace

import pytest
import torch
from families import family
from torch.utils.flop_counter import FlopCounterMode

import turbo
from turbo.attention import proportional_attention
from turbo.engine.install import require_acceleration
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


@pytest.mark.parametrize(("n", "asking"), [(8, 3), (8, 8), (8, 20)])
def test_each_query_that_the_value_averages_costs_a_row(n, asking):
    q, k = torch.randn(1, 3, min(n, asking), 4), torch.randn(1, 3, n, 4)
    block = replace(BLOCK, queries=asking)
    one, rows = (counted(lambda query=query: semantic_value(query, k, None)) for query in (q[:, :, :1], q))
    assert block(n, n - 1) == BLOCK(n, n - 1) - one + rows
    assert block(n, n) == BLOCK(n, n)


def test_size_bias_costs_no_counted_flops():
    q, size = torch.randn(1, 3, 8, 4), torch.full((1, 8), 2.0)
    plain = counted(lambda: proportional_attention(q, q, q))
    assert counted(lambda: proportional_attention(q, q, q, size)) == plain


def test_the_model_is_for_one_sequence_and_whole_numbers():
    assert isinstance(BLOCK(7, 5), int)
    assert BLOCK(0, 0) == 0


@pytest.mark.parametrize("name", ["timm-no-class-avg", "timm-attention-pool"])
def test_without_a_class_token_all_that_ask_are_counted(name):
    chosen = family(name)
    model = turbo.accelerate(chosen.model(), drop=[4, 0, 2, 2])
    acceleration = require_acceleration(model)
    pixels = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        model(pixels)
        found = counted(lambda: model.forward_features(pixels))
        embedding = counted(lambda: model.patch_embed(pixels))
    plan = acceleration.plan(chosen.n)
    assert found == embedding + sum(plan.flops(acceleration.flops))
