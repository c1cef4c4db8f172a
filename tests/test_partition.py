"""Partitions, by enumeration."""

import pytest
import torch

from turbo.partition import alternating, grid, parity

SEQUENCES = [(n, protected) for protected in range(4) for n in range(protected, 9)]


@pytest.mark.parametrize(("n", "protected"), SEQUENCES)
def test_parity_splits_unprotected_positions_by_parity_of_the_whole_sequence(n, protected):
    partition = parity(n, protected)
    positions = list(range(n + 3))  # longer than the sequence: roles end with it
    source, destination = positions[partition.source], positions[partition.destination]
    assert source == [i for i in range(protected, n) if i % 2 == 0]
    assert destination == [i for i in range(protected, n) if i % 2 == 1]
    assert (partition.sources, partition.destinations) == (len(source), len(destination))
    assert partition.protected == protected
    assert abs(len(source) - len(destination)) <= 1


@pytest.mark.parametrize(("n", "protected"), SEQUENCES)
@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_alternating_changes_roles_in_odd_blocks(n, protected, depth):
    partition, straight = alternating(n, protected, depth), parity(n, protected)
    if depth % 2 == 0:
        assert partition == straight
        return
    assert partition.protected == protected
    assert (partition.source, partition.destination) == (straight.destination, straight.source)
    assert (partition.sources, partition.destinations) == (straight.destinations, straight.sources)


def test_alternating_begins_as_published():
    assert alternating(9, 1) == parity(9, 1)
    assert alternating(9) == parity(9)


def test_a_grid_stays_on_the_device_of_its_draw():
    partition = grid(4, 6, torch.zeros(6, dtype=torch.int64, device="meta"))
    assert partition.source.device.type == partition.destination.device.type == "meta"


def test_a_cell_is_two_by_two_unless_another_is_asked_for():
    assert grid(4, 6, torch.zeros(6, dtype=torch.int64)).destination.tolist() == [0, 2, 4, 12, 14, 16]
    assert grid(4, 6, torch.zeros(4, dtype=torch.int64), stride=3).destination.tolist() == [0, 3, 18, 21]
