"""The generators reach the corners that the properties are about: each search below fails if it finds none."""

import pytest
from hypothesis import find, settings

from turbo import fusion
from turbo.testing.generators import (
    candidates,
    chains,
    grid_merges,
    grids,
    matchings,
    merges,
    per_token_strategies,
    sequences,
)

SEARCH = settings(max_examples=2000, derandomize=True, deadline=None)

CORNERS = {
    "two merges in a row": (chains(), lambda c: sum(m.merged.shape[1] > 0 for m in c[2]) > 1),
    "a chain down to one pair": (chains(), lambda c: c[2][-1].kept.shape[1] == c[1] + 1),
    "an odd sequence": (sequences(), lambda s: s[0] % 2 == 1),
    "an even sequence": (sequences(), lambda s: s[0] % 2 == 0 and s[0] > 0),
    "a sequence of one token": (sequences(), lambda s: s[0] == 1),
    "half of the unprotected tokens": (sequences(1), lambda s: s[2] == (s[0] - s[1]) // 2 and s[2] > 2),
    "distillation and class token": (sequences(1), lambda s: s[1] == 2 and s[2] > 0),
    "nothing merges": (matchings(), lambda m: m[3] == 0 and m[0].merged.shape[1] == 0),
    "one token left": (matchings(), lambda m: m[1] - m[3] == 1),
    "a destination of several sources": (
        matchings(),
        lambda m: m[0].destination[0].unique().numel() < m[0].destination[0].numel(),
    ),
    "sizes above 1": (merges(), lambda m: m[1].max() > 1),
    "no sizes": (merges(), lambda m: m[1].max() == 1),
    "a grid cut at both edges": (grids(), lambda g: g[0] % g[2] > 0 and g[1] % g[2] > 0 and min(g[:2]) > g[2]),
    "a grid of whole cells": (grids(), lambda g: g[2] > 1 and not g[0] % g[2] and not g[1] % g[2] and g[0] > g[2]),
    "a grid without sources": (grids(), lambda g: g[3].sources == 0),
    "all sources of a grid merge": (grid_merges(), lambda m: m[2] > 4 and m[1].merged.shape[1] == m[2]),
    "no source of a grid merges": (grid_merges(), lambda m: m[2] == 0),
    "negative redundancy, attended": (candidates(), lambda c: ((c.redundancy < 0) & (c.value > 1)).any()),
    "nobody attends": (candidates(), lambda c: (c.value == 0).any()),
    "neither end attended": (candidates(), lambda c: ((c.value == 0) & (c.partner_value == 0)).any()),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_reaches(corner):
    """Every corner is found."""
    strategy, condition = CORNERS[corner]
    assert find(strategy, condition, settings=SEARCH) is not None


@pytest.mark.parametrize("name", sorted(set(fusion.__all__) - {"Candidates", "Strategy", "Random"}))
def test_reaches_every_strategy(name):
    """Every strategy that turbo exports, but Random, is among the ones that the properties are searched over."""
    assert find(per_token_strategies, lambda s: type(s).__name__ == name, settings=SEARCH) is not None
