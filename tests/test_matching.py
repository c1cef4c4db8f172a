"""Selection, by enumeration."""

import pytest
import torch

from turbo.matching import in_order, repeat, select
from turbo.partition import alternating, grid, parity


def by_hand(priority, partner, drop, n, protected):
    """The same selection, one token at a time."""
    sources = [i for i in range(protected, n) if i % 2 == 0]
    destinations = [i for i in range(protected, n) if i % 2 == 1]
    ranked = sorted(range(len(sources)), key=lambda i: -priority[i])[:drop]
    merges = {sources[i]: destinations[partner[i]] for i in ranked}
    kept = [*range(protected), *[i for i in sources if i not in merges], *destinations]
    assignment = [kept.index(merges.get(i, i)) for i in range(n)]
    return assignment, kept, merges


CASES = [
    pytest.param(n, protected, drop, id=f"n{n}-protected{protected}-drop{drop}")
    for n, protected in [(2, 0), (3, 1), (6, 0), (7, 0), (8, 1), (9, 1), (10, 2), (11, 2), (12, 5)]
    for drop in range((n - protected) // 2 + 1)
]


@pytest.mark.parametrize(("n", "protected", "drop"), CASES)
def test_select_equals_the_selection_by_hand(n, protected, drop):
    partition = parity(n, protected)
    generator = torch.Generator().manual_seed(n * 100 + protected * 10 + drop)
    priority = torch.rand(3, partition.sources, generator=generator)
    partner = torch.randint(partition.destinations, (3, partition.sources), generator=generator)
    matching = select(priority, partner, drop, partition)
    for b in range(3):
        assignment, kept, merges = by_hand(priority[b].tolist(), partner[b].tolist(), drop, n, protected)
        assert matching.assignment[b].tolist() == assignment
        assert matching.kept[b].tolist() == kept
        pairs = zip(matching.merged[b].tolist(), matching.destination[b].tolist(), strict=True)
        assert dict(pairs) == merges


def test_shapes_and_types():
    matching = select(torch.rand(2, 4), torch.zeros(2, 4, dtype=torch.int64), 3, parity(9, 1))
    fields = (matching.assignment, matching.kept, matching.merged, matching.receiver, matching.destination)
    assert [tuple(t.shape) for t in fields] == [(2, 9), (2, 6), (2, 3), (2, 3), (2, 3)]
    assert {t.dtype for t in fields} == {torch.int64}


def test_a_matching_stays_on_the_device_of_the_priorities():
    partition = parity(9, 1)
    priority = torch.zeros(2, partition.sources, device="meta")
    matching = select(priority, torch.zeros_like(priority, dtype=torch.int64), 3, partition)
    for field in (matching.assignment, matching.kept, matching.merged, matching.receiver, matching.destination):
        assert field.device == priority.device


def test_infinite_priorities_are_ordered_like_any_other():
    inf = float("inf")
    matching = select(torch.tensor([[-inf, 0.0, inf]]), torch.tensor([[0, 1, 2]]), 2, parity(7, 1))
    assert sorted(matching.merged[0].tolist()) == [4, 6]


def test_one_token_is_left_of_two():
    matching = select(torch.tensor([[0.5]]), torch.tensor([[0]]), 1, parity(2))
    assert matching.assignment.tolist() == [[0, 0]]
    assert matching.kept.tolist() == [[1]]


def test_a_single_token_has_nobody_to_merge_into():
    partition = parity(1)
    assert (partition.sources, partition.destinations) == (1, 0)
    matching = select(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), 0, partition)
    assert matching.assignment.tolist() == matching.kept.tolist() == [[0]]


def test_repeating_a_matching_matches_each_copy_alike():
    priority, partner = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.3]]), torch.tensor([[0, 1, 2], [2, 1, 0]])
    matching = select(priority, partner, 2, parity(6))
    again = repeat(matching, 3)
    for name in ("assignment", "kept", "merged", "destination"):
        one, three = getattr(matching, name), getattr(again, name)
        assert torch.equal(three, torch.cat([one, one, one])), name


def in_order_by_hand(matching, b):
    """Where everything goes if nobody moves: kept tokens as they came, the others to their destinations."""
    into = dict(zip(matching.merged[b].tolist(), matching.destination[b].tolist(), strict=True))
    n = matching.assignment.shape[1]
    kept = [token for token in range(n) if token not in into]
    return kept, [kept.index(into.get(token, token)) for token in range(n)]


@pytest.mark.parametrize(("n", "protected", "drop"), CASES)
@pytest.mark.parametrize("depth", [0, 1])
def test_in_order_by_hand(n, protected, drop, depth):
    partition = alternating(n, protected, depth)
    generator = torch.Generator().manual_seed(n * 100 + protected * 10 + drop)
    priority = torch.rand(3, partition.sources, generator=generator)
    partner = torch.randint(partition.destinations, (3, partition.sources), generator=generator)
    matching = select(priority, partner, drop, partition)
    found = in_order(matching)
    assert found.merged is matching.merged
    assert torch.equal(found.destination, matching.destination)
    for b in range(3):
        assert (found.kept[b].tolist(), found.assignment[b].tolist()) == in_order_by_hand(matching, b)


def test_in_order_of_a_grid():
    """Sources may stand on either side of their destination."""
    partition = grid(2, 4, torch.tensor([3, 0]))  # destinations 5 and 2, counted by cell
    matching = select(torch.tensor([[5.0, 1, 4, 2, 3, 0]]), torch.tensor([[1, 0, 1, 0, 1, 0]]), 3, partition)
    found = in_order(matching)
    assert (found.kept[0].tolist(), found.assignment[0].tolist()) == in_order_by_hand(matching, 0)
    assert found.kept[0].tolist() != matching.kept[0].tolist()


def test_what_is_in_order_stays_as_it_is():
    matching = in_order(select(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([[0, 1, 0]]), 2, parity(7, 1)))
    again = in_order(matching)
    assert torch.equal(again.kept, matching.kept)
    assert torch.equal(again.assignment, matching.assignment)
