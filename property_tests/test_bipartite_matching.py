"""Page 3, bipartite matching: which tokens may merge, which do, and where every token goes."""

import hypothesis
import pytest
import reference_merging as reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from turbo.information import mutual_redundancy
from turbo.matching import in_order, select
from turbo.merging import merge, unmerge
from turbo.partition import alternating, parity
from turbo.schedule import most_mergeable
from turbo.testing.generators import chains, matchings, merges, normal, seeds, sequences

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def example(sequence, seed, batch=2, levels=None):
    """Priorities and partners for a sequence: distinct whole numbers, or with `levels` whole numbers that tie."""
    n, protected, drop = sequence
    partition, generator = parity(n, protected), torch.Generator().manual_seed(seed)
    shape = (batch, partition.sources)
    if levels:
        priority = torch.randint(levels, shape, generator=generator).double()
    else:
        priority = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(dim=1).double()
    return priority, torch.randint(partition.destinations, shape, generator=generator), drop, partition


def nothing_merges(n, protected):
    """A drop of 0, which `matchings` does not draw: matching, n, protected and drop."""
    partition = parity(n, protected)
    partner = torch.zeros(2, partition.sources, dtype=torch.int64)
    return select(partner.double(), partner, 0, partition), n, protected, 0


no_merge = hypothesis.example(nothing_merges(7, 1))
no_destination = hypothesis.example(nothing_merges(3, 2))


def pairs(matching, b):
    """Who merges into whom, in image b."""
    return set(zip(matching.merged[b].tolist(), matching.destination[b].tolist(), strict=True))


def is_top(priority, merged, partition, n):
    """Whether no source that stays has a higher priority than one that goes, in one image."""
    goes = torch.isin(torch.arange(n)[partition.source], merged)
    return bool(goes.all()) or bool(priority[goes].min() >= priority[~goes].max())


@given(sequences())
def test_parity_is_a_partition(sequence):
    """Proposition 3.1: every token is protected, a source or a destination, and the two parts are halves."""
    n, protected, _ = sequence
    partition, positions = parity(n, protected), list(range(n))
    source, destination = positions[partition.source], positions[partition.destination]
    assert sorted([*range(protected), *source, *destination]) == positions
    assert (source, destination) == reference.roles(n, protected)
    assert (partition.protected, partition.sources, partition.destinations) == (
        protected,
        len(source),
        len(destination),
    )
    assert abs(len(source) - len(destination)) <= 1
    assert min(len(source), len(destination)) == most_mergeable(n, protected)


@given(matchings())
@no_merge
@no_destination
def test_the_count_is_exact(example):
    """Proposition 3.2: exactly `drop` tokens go and n - drop places are left."""
    matching, n, _, drop = example
    assert matching.kept.shape[1] == n - drop
    assert matching.merged.shape[1] == matching.destination.shape[1] == drop


@given(matchings())
@no_merge
@no_destination
def test_every_token_has_one_place(example):
    """Proposition 3.2: kept and merged tokens are all tokens, each once; the assignment reaches every place."""
    matching, n, _, drop = example
    everybody = torch.cat([matching.kept, matching.merged], dim=1).sort(dim=1).values
    assert (everybody == torch.arange(n)).all()
    for row in matching.assignment:
        assert torch.equal(row.unique(), torch.arange(n - drop))


@given(matchings())
@no_merge
@no_destination
def test_kept_is_a_right_inverse_of_the_assignment(example):
    """Proposition 3.2: a kept token goes where it stays; a merged one goes where its destination stays."""
    matching, n, _, drop = example
    places = torch.arange(n - drop).expand(len(matching.kept), -1)
    assert torch.equal(matching.assignment.gather(1, matching.kept), places)
    of_merged = matching.assignment.gather(1, matching.merged)
    assert torch.equal(of_merged, matching.assignment.gather(1, matching.destination))
    assert torch.equal(matching.kept.gather(1, of_merged), matching.destination)


@given(matchings())
@no_merge
@no_destination
def test_protected_tokens_keep_their_position(example):
    """Proposition 3.3: protected tokens stay in front, in order, and nothing merges into them."""
    matching, _, protected, _ = example
    front = torch.arange(protected).expand(len(matching.kept), -1)
    assert torch.equal(matching.kept[:, :protected], front)
    assert torch.equal(matching.assignment[:, :protected], front)
    assert (matching.merged >= protected).all()
    assert (matching.destination >= protected).all()


@given(matchings())
@no_merge
@no_destination
def test_sources_merge_into_destinations_and_order_is_kept(example):
    """Proposition 3.3: even merges into odd; what stays is in order within each part, sources first."""
    matching, _, protected, _ = example
    assert (matching.merged % 2 == 0).all()
    assert (matching.destination % 2 == 1).all()
    for row in matching.kept[:, protected:]:
        even, odd = row[row % 2 == 0], row[row % 2 == 1]
        assert torch.equal(row, torch.cat([even.sort().values, odd.sort().values]))


@given(sequences(min_pairs=1), seeds, st.sampled_from([None, 2, 5]))
def test_no_source_that_stays_had_a_higher_priority(sequence, seed, levels):
    """Proposition 3.4: the merged are the top of the ranking, each goes to its partner, ties or not."""
    n = sequence[0]
    priority, partner, drop, partition = example(sequence, seed, levels=levels)
    matching = select(priority, partner, drop, partition)
    position = torch.arange(n)
    for b in range(2):
        assert is_top(priority[b], matching.merged[b], partition, n)
        receivers = position[partition.destination][partner[b]]
        wanted = dict(zip(position[partition.source].tolist(), receivers.tolist(), strict=True))
        assert all(wanted[source] == receiver for source, receiver in pairs(matching, b))


@given(sequences(min_pairs=1), seeds)
def test_select_is_the_reference(sequence, seed):
    """Proposition 3.5: with distinct priorities the result is that of choosing one token at a time."""
    n, protected, drop = sequence
    priority, partner, _, partition = example(sequence, seed)
    matching = select(priority, partner, drop, partition)
    for b in range(2):
        kept, into = reference.select(priority[b].tolist(), partner[b].tolist(), drop, n, protected)
        assert matching.kept[b].tolist() == kept
        assert matching.assignment[b].tolist() == reference.assignment(kept, into, n)
        assert pairs(matching, b) == set(into.items())


@given(sequences(min_pairs=1), seeds)
def test_only_the_ranking_counts(sequence, seed):
    """Proposition 3.6: a strictly increasing function of the priorities changes nothing."""
    priority, partner, drop, partition = example(sequence, seed)
    # Whole numbers below 25: each function is strictly increasing on them, far above double precision's rounding.
    for increasing in (lambda p: 3 * p - 100, lambda p: 1 + 1e-12 * p, torch.exp, lambda p: -1 / (p + 1)):
        found, wanted = (select(p, partner, drop, partition) for p in (increasing(priority), priority))
        assert torch.equal(found.assignment, wanted.assignment)
        assert torch.equal(found.kept, wanted.kept)


@given(sequences(min_pairs=1), seeds)
def test_a_larger_drop_merges_the_same_and_more(sequence, seed):
    """Proposition 3.6: with distinct priorities, the tokens merged at one drop are merged at every larger one."""
    priority, partner, drop, partition = example(sequence, seed)
    for smaller in range(drop):
        less, more = (select(priority, partner, count, partition) for count in (smaller, drop))
        assert all(pairs(less, b) <= pairs(more, b) for b in range(2))


@given(sequences(min_pairs=1), seeds)
def test_permuting_sources_permutes_those_that_stay(sequence, seed):
    """Proposition 3.7: the same pairs merge; destinations keep their places; remaining sources are permuted."""
    n, protected, drop = sequence
    priority, partner, _, partition = example(sequence, seed)
    order = torch.randperm(partition.sources, generator=torch.Generator().manual_seed(seed))
    token = torch.arange(n)  # the token at each position of the permuted sequence
    token[partition.source] = token[partition.source][order]
    before = select(priority, partner, drop, partition)
    after = select(priority[:, order], partner[:, order], drop, partition)

    last = protected + partition.sources - drop
    for b in range(2):
        assert pairs(before, b) == {(int(token[s]), d) for s, d in pairs(after, b)}
        stays = [t for t in token[partition.source].tolist() if t in before.kept[b]]
        wanted = [*range(protected), *stays, *before.kept[b, last:].tolist()]
        assert token[after.kept[b]].tolist() == wanted

    x = normal(seed, 2, n, 3)
    found, wanted = merge(x[:, token], after)[0], merge(x, before)[0]
    place = before.assignment.gather(1, token[after.kept])  # where each place's token was, unpermuted
    wanted = wanted.gather(1, place[..., None].expand_as(found))
    # Several sources of one destination may be added in another order: equal up to rounding.
    torch.testing.assert_close(found, wanted, atol=2 * reference.rounding(x, drop), rtol=0)
    assert torch.equal(found[:, :last], wanted[:, :last])


@given(sequences(min_pairs=1), seeds)
def test_permuting_destinations_permutes_them(sequence, seed):
    """Proposition 3.8: the same pairs merge; the destinations follow the permutation, all else stays, bit for bit."""
    n, protected, drop = sequence
    priority, partner, _, partition = example(sequence, seed)
    order = torch.randperm(partition.destinations, generator=torch.Generator().manual_seed(seed))
    token = torch.arange(n)
    token[partition.destination] = token[partition.destination][order]
    before = select(priority, partner, drop, partition)
    after = select(priority, order.argsort()[partner], drop, partition)

    last = protected + partition.sources - drop
    assert torch.equal(after.kept[:, :last], before.kept[:, :last])
    assert torch.equal(token[after.kept[:, last:]], before.kept[:, last:][:, order])
    for b in range(2):
        assert pairs(before, b) == {(s, int(token[d])) for s, d in pairs(after, b)}
    x = normal(seed, 2, n, 3)
    found, wanted = merge(x[:, token], after)[0], merge(x, before)[0]
    assert torch.equal(found[:, :last], wanted[:, :last])
    assert torch.equal(found[:, last:], wanted[:, last:][:, order])


@given(sequences(min_pairs=1), seeds)
def test_images_of_a_batch_do_not_see_each_other(sequence, seed):
    """Proposition 3.9: selecting in a batch is selecting in each image alone."""
    priority, partner, drop, partition = example(sequence, seed, batch=3)
    together = select(priority, partner, drop, partition)
    for b in range(3):
        alone = select(priority[b : b + 1], partner[b : b + 1], drop, partition)
        assert torch.equal(alone.assignment[0], together.assignment[b])
        assert torch.equal(alone.kept[0], together.kept[b])


@given(sequences(min_pairs=1), seeds, st.sampled_from(DTYPES), st.sampled_from([1, 2, 5]))
def test_ties_are_broken_validly_and_alike(sequence, seed, dtype, levels):
    """Proposition 3.10: among equal priorities some are chosen, the same every time, and a valid choice it is."""
    n, _, _ = sequence
    priority, partner, drop, partition = example(sequence, seed, levels=levels)
    first, second = (select(priority.to(dtype), partner, drop, partition) for _ in range(2))
    for name in ("assignment", "kept", "merged", "destination"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for b in range(2):
        assert len(pairs(first, b)) == drop
        assert is_top(priority[b], first.merged[b], partition, n)
        kept, into = first.kept[b].tolist(), dict(pairs(first, b))
        assert first.assignment[b].tolist() == reference.assignment(kept, into, n)


@pytest.mark.parametrize("dtype", DTYPES)
@given(sequences(min_pairs=1), seeds)
def test_precision_and_layout_do_not_matter(dtype, sequence, seed):
    """Proposition 3.11: distinct priorities of any precision and strides give the same integers."""
    priority, partner, drop, partition = example(sequence, seed)
    wanted = select(priority, partner, drop, partition)
    in_columns = priority.to(dtype).t().contiguous().t()
    every_second = torch.stack([partner, partner + 1], dim=-1)[..., 0]
    found = select(in_columns, every_second, drop, partition)
    assert torch.equal(found.assignment, wanted.assignment)
    assert torch.equal(found.kept, wanted.kept)
    assert found.assignment.dtype == found.kept.dtype == found.merged.dtype == found.destination.dtype == torch.int64


@given(sequences(min_pairs=1), seeds)
def test_one_row_for_every_image_may_be_expanded(sequence, seed):
    """Proposition 3.11: a row that is shared by the images of a batch (stride 0) gives each the same result."""
    priority, partner, drop, partition = example(sequence, seed, batch=1)
    alone = select(priority, partner, drop, partition)
    shared = select(priority.expand(3, -1), partner.expand(3, -1), drop, partition)
    assert torch.equal(shared.assignment, alone.assignment.expand(3, -1))
    assert torch.equal(shared.kept, alone.kept.expand(3, -1))


@given(sequences(min_pairs=1), st.integers(1, 9))
def test_the_similarity_costs_a_quarter(sequence, width):
    """Proposition 3.12: comparing the two parts takes at most a quarter of the multiplications of all pairs."""
    n, protected, _ = sequence
    partition, free = parity(n, protected), n - protected
    metric = torch.zeros(1, n, width)
    with FlopCounterMode(display=False) as counter:
        mutual_redundancy(metric[:, partition.source], metric[:, partition.destination])
    multiplications = counter.get_total_flops() // 2  # it counts an addition with each
    assert 4 * multiplications == (free**2 - free % 2) * width
    assert 4 * multiplications <= n**2 * width


@given(sequences(), st.integers(0, 30))
def test_alternating_covers(sequence, depth):
    """Proposition 3.13: halves as in 3.1; of two successive blocks each unprotected token is a source in just one."""
    n, protected, _ = sequence
    positions = list(range(n))
    one, other = (alternating(n, protected, depth + i) for i in (0, 1))
    assert sorted(positions[one.source] + positions[other.source]) == list(range(protected, n))
    for partition in (one, other):
        source, destination = positions[partition.source], positions[partition.destination]
        assert (partition.sources, partition.destinations) == (len(source), len(destination))
        assert sorted([*range(protected), *source, *destination]) == positions
        assert min(len(source), len(destination)) == most_mergeable(n, protected)
    if depth % 2 == 0:
        assert one == parity(n, protected)


@given(sequences(min_pairs=1), seeds, st.integers(0, 1))
def test_select_works_on_either_half(sequence, seed, depth):
    """Proposition 3.13: 3.2 to 3.4 hold whichever half the sources are."""
    n, protected, drop = sequence
    partition, generator = alternating(n, protected, depth), torch.Generator().manual_seed(seed)
    shape = (2, partition.sources)
    priority = torch.rand(shape, generator=generator)
    matching = select(priority, torch.randint(partition.destinations, shape, generator=generator), drop, partition)
    source, destination = (torch.arange(n)[positions] for positions in (partition.source, partition.destination))
    for b in range(2):
        assert torch.isin(matching.merged[b], source).all()
        assert torch.isin(matching.destination[b], destination).all()
        assert is_top(priority[b], matching.merged[b], partition, n)
        stays = [token for token in source.tolist() if token not in matching.merged[b]]
        assert matching.kept[b].tolist() == [*range(protected), *stays, *destination.tolist()]
        kept, into = matching.kept[b].tolist(), dict(pairs(matching, b))
        assert matching.assignment[b].tolist() == reference.assignment(kept, into, n)


@given(matchings())
@no_merge
@no_destination
def test_in_order_keeps_the_order(example):
    """Proposition 3.14: the same tokens merge into the same; those that stay are in the order in which they came."""
    matching, n, protected, _ = example
    found = in_order(matching)
    assert torch.equal(found.merged, matching.merged)
    assert torch.equal(found.destination, matching.destination)
    for b, kept in enumerate(found.kept.tolist()):
        assert kept == sorted(matching.kept[b].tolist())
        assert kept[:protected] == list(range(protected))
        assert found.assignment[b].tolist() == reference.assignment(kept, dict(pairs(matching, b)), n)


@given(merges())
def test_in_order_changes_no_token(example):
    """Proposition 3.14: groups, means and sizes are those without it, bit for bit, only at other places."""
    x, size, matching = example
    ordered = in_order(matching)
    found, wanted = merge(x, ordered, size), merge(x, matching, size)
    assert torch.equal(unmerge(found[0], ordered.assignment), unmerge(wanted[0], matching.assignment))
    sizes = (unmerge(s[..., None], m.assignment) for s, m in ((found[1], ordered), (wanted[1], matching)))
    assert torch.equal(*sizes)


@given(chains())
def test_order_is_kept_over_blocks(example):
    """Proposition 3.14: after any number of blocks, the tokens that stayed stand in the order in which they entered."""
    x, protected, chain = example
    batch, n, _ = x.shape
    entered = torch.arange(n).expand(batch, -1)  # of each present place, the token that entered there
    for matching in chain:
        entered = entered.gather(1, in_order(matching).kept)
        assert (entered.diff(dim=1) > 0).all()
        assert torch.equal(entered[:, :protected], torch.arange(protected).expand(batch, -1))
