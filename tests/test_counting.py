"""FLOPs of calls that torch's counter sees only in part."""

from __future__ import annotations

import torch
from torch import nn

from turbo.bench.counting import count_flops


def test_fused_attention_is_counted_and_left_on():
    n, d = 5, 16
    attention = nn.MultiheadAttention(d, 4, batch_first=True).eval()
    x = torch.randn(1, n, d)
    projections, scores = 4 * n * d * d, 2 * n * n * d
    with torch.inference_mode():
        assert count_flops(lambda: attention(x, x, x, need_weights=False)) == 2 * (projections + scores)
    assert torch.backends.mha.get_fastpath_enabled()
