"""Hypothesis generators: sequences, matchings, tokens to merge, candidates. Needs hypothesis (extra ``testing``).

turbo's own property tests draw from these; a plug-in's may as well. Names are the plural of what they produce.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from turbo.fusion import S1, S2, S3, S4, Attention, Bound, Candidates, Distortion, ToMe, Ward
from turbo.matching import Matching, select
from turbo.partition import Partition, grid, parity
from turbo.schedule import most_mergeable

seeds = st.integers(0, 2**31 - 1)
"""Seeds of a `torch.Generator`."""

weights = st.floats(0, 50)
"""Values of α, and of a floor."""

per_token_strategies = st.one_of(
    st.builds(S1, alpha=weights),
    st.builds(S2),
    st.builds(S3, alpha=weights),
    st.builds(S4, alpha=weights, beta=st.floats(0.5, 2), gamma=st.integers(-3, 12)),
    st.builds(ToMe),
    st.builds(Attention),
    st.builds(Bound),
    st.builds(Ward, floor=weights),
    st.builds(Distortion),
)
"""Every strategy that judges a token by what is known of it; Random goes by position."""


def normal(seed: int, *shape: int) -> Tensor:
    """Gaussian noise, in double precision.

    Examples:
        >>> normal(0, 2, 3).shape
        torch.Size([2, 3])
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sizes_of(seed: int, batch: int, n: int) -> Tensor:
    """Whole numbers of patches, 1 to 6: ``b n`` float32.

    Examples:
        >>> sizes_of(0, 1, 4).shape
        torch.Size([1, 4])
    """
    return torch.randint(1, 7, (batch, n), generator=torch.Generator().manual_seed(seed)).float()


@st.composite
def sequences(draw: st.DrawFn, min_pairs: int = 0) -> tuple[int, int, int]:
    """Tokens n, protected ones among them, and a drop that this sequence can do."""
    protected = draw(st.integers(0, 3))
    n = protected + draw(st.integers(2 * min_pairs, 24))
    drop = draw(st.integers(min(min_pairs, 1), most_mergeable(n, protected)))
    return n, protected, drop


@st.composite
def matchings(draw: st.DrawFn) -> tuple[Matching, int, int, int]:
    """Any matching that `select` can return, n, protected and drop: partners may repeat, priorities may tie.

    Now and then nothing merges, drop 0.
    """
    n, protected, drop = draw(sequences(min_pairs=1))
    drop = draw(st.sampled_from([drop] * 9 + [0]))
    batch = draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(seeds))
    partition = parity(n, protected)
    shape = (batch, partition.sources)
    levels = draw(st.sampled_from([2, 1000]))
    priority = torch.randint(levels, shape, generator=generator).double() / levels
    partner = torch.randint(partition.destinations, shape, generator=generator)
    return select(priority, partner, drop, partition), n, protected, drop


@st.composite
def merges(draw: st.DrawFn) -> tuple[Tensor, Tensor, Matching]:
    """Tokens ``b n d``, their sizes ``b n`` and a matching of them."""
    matching, n, *_ = draw(matchings())
    seed, batch = draw(seeds), len(matching.assignment)
    x = normal(seed, batch, n, draw(st.integers(1, 5))) * draw(st.sampled_from([1e-3, 1.0, 1e3]))
    size = sizes_of(seed, batch, n) if draw(st.booleans()) else torch.ones(batch, n)
    return x, size, matching


@st.composite
def chains(draw: st.DrawFn) -> tuple[Tensor, int, list[Matching]]:
    """Tokens ``b n d``, n protected, and up to four matchings: each of the tokens that the one before leaves."""
    protected, batch = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    left = n = protected + draw(st.integers(2, 24))
    generator = torch.Generator().manual_seed(draw(seeds))
    chain = []
    for _ in range(draw(st.integers(1, 4))):
        most = most_mergeable(left, protected)
        if not most:
            break
        partition, drop = parity(left, protected), draw(st.integers(0, most))
        priority = torch.rand(batch, partition.sources, generator=generator)
        partner = torch.randint(partition.destinations, (batch, partition.sources), generator=generator)
        chain.append(select(priority, partner, drop, partition))
        left -= drop
    return normal(draw(seeds), batch, n, draw(st.integers(1, 4))), protected, chain


@st.composite
def grids(draw: st.DrawFn, min_sources: int = 0) -> tuple[int, int, int, Partition]:
    """Height, width, stride, and a partition of the positions with one destination in each cell."""
    stride = draw(st.integers(1 if not min_sources else 2, 4))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1 + bool(min_sources), 9))
    cells = -(-height // stride) * -(-width // stride)
    generator = torch.Generator().manual_seed(draw(seeds))
    numbers = torch.randint(2**31, (cells,), generator=generator)
    return height, width, stride, grid(height, width, numbers, stride)


@st.composite
def grid_merges(draw: st.DrawFn) -> tuple[Tensor, Matching, int]:
    """Tokens ``b n d`` on a grid, a matching of them into its destinations, and how many merge; at times none."""
    height, width, _, partition = draw(grids(min_sources=1))
    batch, count = draw(st.integers(1, 3)), draw(st.integers(0, partition.sources))
    generator = torch.Generator().manual_seed(draw(seeds))
    priority = torch.rand(batch, partition.sources, generator=generator)
    partner = torch.randint(partition.destinations, (batch, partition.sources), generator=generator)
    x = normal(draw(seeds), batch, height * width, draw(st.integers(1, 5))) * draw(st.sampled_from([1e-3, 1.0, 1e3]))
    return x, select(priority, partner, count, partition), count


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    """Candidates anywhere in their range, the edges R in {-1, 0, 1} and A = 0 included; no A below 1e-12 but 0."""
    batch, m = draw(st.integers(1, 2)), draw(st.integers(1, 8))

    def numbers(low: float, high: float, edges: list[float]) -> Tensor:
        one = st.one_of(st.sampled_from(edges), st.floats(low, high).map(lambda x: round(x, 12)))
        drawn = draw(st.lists(one, min_size=batch * m, max_size=batch * m))
        return torch.tensor(drawn, dtype=torch.float64).view(batch, m)

    value, partner_value = (numbers(0, 100, [0.0, 1e-9, 1e-6, 1.0]) for _ in range(2))
    size, partner_size = (sizes_of(draw(seeds), batch, m) for _ in range(2))
    redundancy = numbers(-1, 1, [-1.0, 0.0, 1.0])
    return Candidates(redundancy, value, partner_value, size, partner_size, depth=draw(st.integers(0, 12)))
