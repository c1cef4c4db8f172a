"""A slow reference of one block's scores: plain Python numbers and loops, from the supplement's section 1.1.

It shares nothing with turbo's code. Sequences are lists; `h n e` means a list of heads of tokens of numbers.
"""

import math
from dataclasses import dataclass

SHORTEST = 1e-12
"""Vectors shorter than this are divided by it instead of by their length."""


@dataclass
class Scores:
    """What one image's block decides by. Lists run over the sources, positions are those of the sequence."""

    sources: list
    partners: list
    redundancy: list
    value: list
    partner_value: list
    priority: list


def dot(x, y):
    """Scalar product, rounded once."""
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def metric(keys):
    """``h n e`` -> ``n e``: the mean over heads, divided by its length."""
    vectors = []
    for i in range(len(keys[0])):
        mean = [math.fsum(head[i][c] for head in keys) / len(keys) for c in range(len(keys[0][i]))]
        length = max(math.sqrt(dot(mean, mean)), SHORTEST)
        vectors.append([x / length for x in mean])
    return vectors


def redundancy(source, destination):
    """For each source: its highest cosine, and the first destination that has it."""
    found = []
    for x in source:
        cosines = [dot(x, y) for y in destination]
        best = max(cosines)
        found.append((best, cosines.index(best)))
    return found


def value(query, keys, size, scale):
    """``h e``, ``h n e``, ``n`` -> ``n``: one row of softmax attention with log sizes, averaged over heads."""
    rows = []
    for q, head in zip(query, keys, strict=True):
        scores = [dot(q, k) * scale + math.log(s) for k, s in zip(head, size, strict=True)]
        top = max(scores)
        weights = [math.exp(x - top) for x in scores]
        rows.append([w / math.fsum(weights) for w in weights])
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def running_value(own, assignments, momentum):
    """The values ``n`` of the last block with what is left of the blocks before, each token followed by itself.

    Args:
        own: each block's own values, of the tokens that it sees.
        assignments: for each block but the last, where its matching puts each of its tokens.
        momentum: what is left of a value from one block to the next.
    """
    last = len(own) - 1
    parts = [[] for _ in own[last]]
    for block, values in enumerate(own):
        weight = momentum ** (last - block) * (1 if block == 0 else 1 - momentum)
        for token, share in enumerate(values):
            place = token
            for assignment in assignments[block:last]:
                place = assignment[place]
            parts[place].append(weight * share)
    return [math.fsum(terms) for terms in parts]


def score_block(compared, keys, query, size, *, protected, scale, relative, fuse):
    """Score one image: `compared` (``h n e``, keys or queries) makes the metric, ``fuse(R, A)`` the priority."""
    n = len(size)
    sources = [i for i in range(protected, n) if i % 2 == 0]
    destinations = [i for i in range(protected, n) if i % 2 == 1]
    vectors = metric(compared)
    matches = redundancy([vectors[i] for i in sources], [vectors[j] for j in destinations])
    values = [a * n if relative else a for a in value(query, keys, size, scale)]
    partners = [destinations[j] for _, j in matches]
    return Scores(
        sources,
        partners,
        redundancy=[r for r, _ in matches],
        value=[values[i] for i in sources],
        partner_value=[values[j] for j in partners],
        priority=[fuse(r, values[i]) for (r, _), i in zip(matches, sources, strict=True)],
    )
