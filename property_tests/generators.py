"""What the properties are searched over."""

import torch
from hypothesis import strategies as st

from turbo.fusion import S1, S2, S3, S4, Attention, Bound, Candidates, ToMe, Ward
from turbo.matching import parity, select
from turbo.schedule import most_mergeable

seeds = st.integers(0, 2**31 - 1)
weights = st.floats(0, 50)

per_token_strategies = st.one_of(
    st.builds(S1, alpha=weights),
    st.builds(S2),
    st.builds(S3, alpha=weights),
    st.builds(S4, alpha=weights, beta=st.floats(0.5, 2), gamma=st.integers(-3, 12)),
    st.builds(ToMe),
    st.builds(Attention),
    st.builds(Bound),
    st.builds(Ward),
)
"""Every strategy that judges a token by what is known of it; Random goes by position."""


def normal(seed, *shape):
    """Gaussian noise, in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sizes_of(seed, batch, n):
    """Whole numbers of patches, 1 to 6."""
    return torch.randint(1, 7, (batch, n), generator=torch.Generator().manual_seed(seed)).float()


@st.composite
def sequences(draw, min_pairs=0):
    """Tokens n, protected ones among them, and a drop that this sequence can do."""
    protected = draw(st.integers(0, 3))
    n = protected + draw(st.integers(2 * min_pairs, 24))
    drop = draw(st.integers(min(min_pairs, 1), most_mergeable(n, protected)))
    return n, protected, drop


@st.composite
def matchings(draw):
    """Any matching that `select` can return, n, protected and drop: partners may repeat, priorities may tie."""
    n, protected, drop = draw(sequences(min_pairs=1))
    batch = draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(seeds))
    partition = parity(n, protected)
    shape = (batch, partition.sources)
    levels = draw(st.sampled_from([2, 1000]))
    priority = torch.randint(levels, shape, generator=generator).double() / levels
    partner = torch.randint(partition.destinations, shape, generator=generator)
    return select(priority, partner, drop, partition), n, protected, drop


@st.composite
def merges(draw):
    """Tokens ``b n d``, their sizes and a matching of them."""
    matching, n, *_ = draw(matchings())
    seed, batch = draw(seeds), len(matching.assignment)
    x = normal(seed, batch, n, draw(st.integers(1, 5))) * draw(st.sampled_from([1e-3, 1.0, 1e3]))
    size = sizes_of(seed, batch, n) if draw(st.booleans()) else torch.ones(batch, n)
    return x, size, matching


@st.composite
def candidates(draw):
    """Candidates anywhere in their range, the edges R in {-1, 0, 1} and A = 0 included; no A below 1e-12 but 0."""
    batch, m = draw(st.integers(1, 2)), draw(st.integers(1, 8))

    def numbers(low, high, edges):
        one = st.one_of(st.sampled_from(edges), st.floats(low, high).map(lambda x: round(x, 12)))
        values = draw(st.lists(one, min_size=batch * m, max_size=batch * m))
        return torch.tensor(values, dtype=torch.float64).view(batch, m)

    values = [numbers(0, 100, [0.0, 1e-9, 1e-6, 1.0]) for _ in range(2)]
    sizes = [sizes_of(draw(seeds), batch, m) for _ in range(2)]
    return Candidates(numbers(-1, 1, [-1.0, 0.0, 1.0]), *values, *sizes, depth=draw(st.integers(0, 12)))
