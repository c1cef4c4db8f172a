"""Pictures of merged groups."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import turbo
from turbo.viz import groups_image, save_groups
from turbo.viz.groups import patch_grid


def test_groups_take_their_mean_colour():
    image = torch.zeros(4, 4, 3)
    image[:2, :2], image[2:, 2:] = 1.0, 0.5
    filled = groups_image(image, torch.tensor([[0, 1], [2, 0]]), outline=False)
    assert torch.equal(filled[:2, :2], torch.full((2, 2, 3), 0.75))
    assert torch.equal(filled[2:, 2:], torch.full((2, 2, 3), 0.75))
    assert torch.equal(filled[:2, 2:], torch.zeros(2, 2, 3))


def test_outlines_run_where_groups_meet():
    filled = groups_image(torch.zeros(4, 4, 3), torch.tensor([[0, 0], [1, 1]]))
    assert torch.equal(filled[2], torch.ones(4, 3))
    assert filled[[0, 1, 3]].sum() == 0


def test_a_grid_that_does_not_fit():
    with pytest.raises(turbo.TurboError, match="3 x 3 patches does not divide an image of 4 x 4"):
        groups_image(torch.zeros(4, 4, 3), torch.zeros(3, 3, dtype=torch.long))


def test_patches_that_are_no_square():
    assert patch_grid(torch.arange(5), protected=1).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(turbo.TurboError, match="5 patches are no square grid"):
        patch_grid(torch.arange(5), protected=0)


def test_saved_picture_has_a_column_per_block(tmp_path: Path):
    groups = torch.tensor([[0, 1, 1, 2, 3]] * 2)
    save_groups(tmp_path / "a.png", torch.rand(2, 8, 8, 3), [groups, groups], titles=["image", "block 0"])
    save_groups(tmp_path / "b.png", torch.rand(2, 8, 8, 3), [groups] * 5)
    narrow, wide = Image.open(tmp_path / "a.png"), Image.open(tmp_path / "b.png")
    assert narrow.height == wide.height
    assert wide.width == 2 * narrow.width
