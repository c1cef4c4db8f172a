"""Partition, selection, merging and planning, the slow way: one sequence, one token at a time, plain Python.

Written from the supplement, to be read and to be compared with. It shares no code with turbo. Means are taken in
rational arithmetic, hence exact. Only `rounding` is about tensors: how far from exact turbo's `merge` may be.
"""

from fractions import Fraction

import torch


def roles(n, protected):
    """The positions of the sources and those of the destinations: even and odd, protected ones left out."""
    sources, destinations = [], []
    for position in range(protected, n):
        if position % 2 == 0:
            sources.append(position)
        else:
            destinations.append(position)
    return sources, destinations


def select(priority, partner, drop, n, protected):
    """The order of the merged sequence (which token stays where), and for each token that goes its receiver.

    Priorities must be distinct: which of two equal ones goes is nobody's promise.
    """
    sources, destinations = roles(n, protected)
    staying, into = list(sources), {}
    for _ in range(drop):
        best = staying[0]
        for source in staying:
            if priority[sources.index(source)] > priority[sources.index(best)]:
                best = source
        staying.remove(best)
        into[best] = destinations[partner[sources.index(best)]]
    return [*range(protected), *staying, *destinations], into


def assignment(kept, into, n):
    """For each token its place in the merged sequence."""
    return [kept.index(into.get(token, token)) for token in range(n)]


def merge(tokens, sizes, kept, into):
    """The size-weighted mean of each group, and the size of each, as exact fractions."""
    merged, merged_sizes = [], []
    for token in kept:
        group = [token] + [source for source, receiver in into.items() if receiver == token]
        size = sum(Fraction(sizes[member]) for member in group)
        columns = range(len(tokens[0]))
        total = [sum(Fraction(sizes[member]) * Fraction(tokens[member][c]) for member in group) for c in columns]
        merged.append([value / size for value in total])
        merged_sizes.append(size)
    return merged, merged_sizes


def plan(asked, n, blocks, protected=0, threshold=0, min_tokens=0):
    """The token counts before the first block and after each.

    Args:
        asked: how many tokens a block should merge, from its depth and the tokens that it sees.
    """
    tokens = [n]
    while len(tokens) <= blocks:
        seen = left = tokens[-1]
        wanted = asked(len(tokens) - 1, seen) if seen >= threshold else 0
        while wanted > 0:
            pairs_used = seen - left
            if left <= min_tokens or 2 * (pairs_used + 1) > seen - protected:
                break
            left, wanted = left - 1, wanted - 1
        tokens.append(left)
    return tokens


def rounding(x, drop):
    """How far a coordinate of turbo's merged tokens may be from exact: Proposition 4.2, derived on its page.

    Args:
        x: what is merged.
        drop: how many sources one destination may receive.
    """
    own, single = torch.finfo(x.dtype), torch.finfo(torch.float32)
    underflow = drop * own.smallest_normal * own.eps
    return 2 * float(x.abs().max()) * (single.eps + (3 + drop / 2) * own.eps) + underflow
