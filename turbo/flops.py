"""What a block costs, as a function of its tokens. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlockFlops:
    """A FLOPs model of one pre-norm transformer block whose tokens merge between attention and MLP.

    A multiplication and an addition count as two, as in torch's FLOP counter.

    Attributes:
        attention_per_token: of the q, k, v and output projections.
        mlp_per_token: of the MLP.
        width: heads times head width, h·e.
        metric_width: width of the vectors that tokens are compared by, e.
        queries: whose attention is the semantic value, where there are as many tokens.

    Examples:
        >>> BlockFlops(attention_per_token=8, mlp_per_token=16, width=1, metric_width=1)(2, 2)
        64
    """

    attention_per_token: int
    mlp_per_token: int
    width: int
    metric_width: int
    queries: int = 1

    def __call__(self, before: int, after: int) -> int:
        """FLOPs for one sequence: `before` tokens in attention, `after` in the MLP, scoring included."""
        attention = before * self.attention_per_token + 4 * before**2 * self.width
        scoring = 0
        if after < before:
            scoring = 2 * (before // 2) ** 2 * self.metric_width + 2 * before * self.width * min(self.queries, before)
        return attention + scoring + after * self.mlp_per_token
