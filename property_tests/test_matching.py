"""What holds for any selection."""

import torch
from generators import matchings, seeds, sequences
from hypothesis import given

from turbo.matching import parity, select


@given(sequences())
def test_parity_is_a_partition(sequence):
    """Every position is protected, a source or a destination, and just one of these."""
    n, protected, _ = sequence
    partition, positions = parity(n, protected), list(range(n))
    source, destination = positions[partition.source], positions[partition.destination]
    assert sorted([*range(protected), *source, *destination]) == positions
    assert (partition.sources, partition.destinations) == (len(source), len(destination))
    assert abs(len(source) - len(destination)) <= 1


@given(matchings())
def test_the_count_is_exact(example):
    """Exactly `drop` tokens go."""
    matching, n, _, drop = example
    assert matching.kept.shape[1] == n - drop
    assert matching.merged.shape[1] == matching.destination.shape[1] == drop


@given(matchings())
def test_every_token_has_one_place(example):
    """Kept and merged tokens are all tokens, each once, and every place of the merged sequence is somebody's."""
    matching, n, _, drop = example
    everybody = torch.cat([matching.kept, matching.merged], dim=1).sort(dim=1).values
    assert (everybody == torch.arange(n)).all()
    for row in matching.assignment:
        assert torch.equal(row.unique(), torch.arange(n - drop))


@given(matchings())
def test_the_four_fields_agree(example):
    """A kept token is assigned to where it stays, a merged one to where its destination stays, which is kept."""
    matching, n, _, drop = example
    places = torch.arange(n - drop).expand(len(matching.kept), -1)
    assert torch.equal(matching.assignment.gather(1, matching.kept), places)
    of_merged = matching.assignment.gather(1, matching.merged)
    assert torch.equal(of_merged, matching.assignment.gather(1, matching.destination))
    assert torch.equal(matching.kept.gather(1, of_merged), matching.destination)


@given(matchings())
def test_protected_tokens_keep_their_position(example):
    """They stay in front, in order, and nothing merges into them."""
    matching, _, protected, _ = example
    front = torch.arange(protected).expand(len(matching.kept), -1)
    assert torch.equal(matching.kept[:, :protected], front)
    assert torch.equal(matching.assignment[:, :protected], front)
    assert (matching.merged >= protected).all()
    assert (matching.destination >= protected).all()


@given(matchings())
def test_sources_merge_into_destinations_and_order_is_kept(example):
    """Even merges into odd; what stays is in order within each part, sources first."""
    matching, _, protected, _ = example
    assert (matching.merged % 2 == 0).all()
    assert (matching.destination % 2 == 1).all()
    for row in matching.kept[:, protected:]:
        even, odd = row[row % 2 == 0], row[row % 2 == 1]
        assert torch.equal(row, torch.cat([even.sort().values, odd.sort().values]))


@given(sequences(min_pairs=1), seeds)
def test_no_source_that_stays_had_a_higher_priority(sequence, seed):
    """The merged are the top of the ranking."""
    n, protected, drop = sequence
    partition, generator = parity(n, protected), torch.Generator().manual_seed(seed)
    priority = torch.randint(5, (2, partition.sources), generator=generator).double()
    partner = torch.zeros(2, partition.sources, dtype=torch.int64)
    matching = select(priority, partner, drop, partition)
    sources = torch.arange(n)[partition.source]
    for row, merged in zip(priority, matching.merged, strict=True):
        goes = torch.isin(sources, merged)
        assert goes.sum() == drop
        if drop < partition.sources:
            assert row[goes].min() >= row[~goes].max()


@given(sequences(min_pairs=1), seeds)
def test_images_of_a_batch_do_not_see_each_other(sequence, seed):
    """Selecting in a batch is selecting in each image alone."""
    n, protected, drop = sequence
    partition, generator = parity(n, protected), torch.Generator().manual_seed(seed)
    priority = torch.rand(3, partition.sources, generator=generator, dtype=torch.float64)
    partner = torch.randint(partition.destinations, (3, partition.sources), generator=generator)
    together = select(priority, partner, drop, partition)
    for b in range(3):
        alone = select(priority[b : b + 1], partner[b : b + 1], drop, partition)
        assert torch.equal(alone.assignment[0], together.assignment[b])
        assert torch.equal(alone.kept[0], together.kept[b])
