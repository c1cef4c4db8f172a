"""Pictures of merged groups, from the trace."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from families import family
from family import images_and_text
from PIL import Image

import turbo
from turbo.viz import MergedBlock, MergedImage, groups_image, merged_images, save_merged
from turbo.viz.heat import octaves, ranks
from turbo.viz.merged import spread_blocks
from turbo.viz.pixels import find_grid

SHARE = 0.6  # of the way from a group's colour to white or black, on its outline


def record(name: str, **options):
    """A family's trace, the images that it saw in [0, 1], and its report."""
    case = family(name).case
    model = turbo.accelerate(case.make_model(0), **(options or {"drop": 4}))
    inputs = family(name).named(images_and_text(2, torch.Generator().manual_seed(1)))
    with torch.no_grad(), turbo.recording(model) as trace:
        model(**inputs)
    pixels = next(each for each in inputs.values() if each.ndim >= 4).flatten(0, -4)
    return trace, (pixels - pixels.min()) / (pixels.max() - pixels.min()), turbo.report(model)


@pytest.fixture(scope="module")
def merged():
    trace, pixels, _ = record("vit", strategy="s1", drop=[4, 0, 6, 3])
    return merged_images(trace, pixels, strategy="s1")


# Groups


def test_groups_take_their_mean_colour():
    image = torch.zeros(4, 4, 3)
    image[:2, :2], image[2:, 2:] = 1.0, 0.5
    filled = groups_image(image, torch.tensor([[0, 1], [2, 0]]), outline=False)
    assert torch.equal(filled[:2, :2], torch.full((2, 2, 3), 0.75))
    assert torch.equal(filled[2:, 2:], torch.full((2, 2, 3), 0.75))
    assert torch.equal(filled[:2, 2:], torch.zeros(2, 2, 3))


def test_outlines_run_on_both_sides_where_groups_meet_and_are_seen_on_light_and_dark():
    image = torch.zeros(32, 32, 3)
    image[16:] = 0.9
    filled = groups_image(image, torch.tensor([[0, 0], [1, 1]]))
    assert filled.shape == image.shape  # patches of 16 pixels need no enlarging
    torch.testing.assert_close(filled[15], torch.full((32, 3), SHARE))
    torch.testing.assert_close(filled[16], torch.full((32, 3), 0.9 * (1 - SHARE)))
    assert filled[:15].abs().max() == 0
    torch.testing.assert_close(filled[17:], image[17:])


def test_small_patches_are_enlarged_so_that_their_outlines_leave_something_of_them():
    filled = groups_image(torch.zeros(10, 10, 3), torch.arange(4).view(2, 2))
    assert filled.shape == (30, 30, 3)  # of 5 pixels, three times as large
    dark = (filled == 0).all(-1)
    assert dark[:14, :14].all()
    assert not dark[14:16].any()
    assert not dark[:, 14:16].any()


def test_one_group_has_no_outline():
    assert torch.equal(groups_image(torch.ones(24, 24, 3), torch.zeros(2, 2, dtype=torch.long)), torch.ones(24, 24, 3))


def test_a_grid_that_does_not_fit():
    with pytest.raises(turbo.TurboError, match="3 x 3 patches does not divide an image of 4 x 4"):
        groups_image(torch.zeros(4, 4, 3), torch.zeros(3, 3, dtype=torch.long))


# What merged


def test_blocks_say_what_the_trace_and_the_report_say(merged):
    trace, pixels, report = record("vit", strategy="s1", drop=[4, 0, 6, 3])
    rows = [each for each in report.blocks if each.merged]
    for image in merged:
        assert [(b.depth, b.entered, b.left) for b in image.blocks] == [
            (r.depth, r.tokens_in, r.tokens_out) for r in rows
        ]
        assert (image.protected, image.strategy, image.unit) == (1, "s1", "block")
    for row, image in enumerate(merged):
        assert torch.equal(image.pixels, pixels[row].permute(1, 2, 0))
        for block in image.blocks:
            groups = trace.groups(block.depth)[row, 1:].view(6, 6) - 1
            assert torch.equal(block.groups, groups)
            assert block.groups.unique().tolist() == list(range(block.left - 1))


def test_scores_are_those_of_the_tokens_that_entered(merged):
    trace, _, _ = record("vit", strategy="s1", drop=[4, 0, 6, 3])
    for row, image in enumerate(merged):
        before = torch.arange(36).view(6, 6)
        for block, seen in zip(image.blocks, trace.blocks, strict=True):
            position = {int(token): place for place, token in enumerate(seen.source)}
            for patch in range(36):
                y, x = divmod(patch, 6)
                token = int(before[y, x]) + 1  # the class token is in front
                assert block.value[y, x] == pytest.approx(float(seen.value[row, token]) * block.entered)
                assert block.merged[y, x] == bool(_leaves(seen, row, token))
                for found, scores in (
                    (block.redundancy, seen.candidates.redundancy),
                    (block.degree, seen.priority),
                ):
                    if token in position:
                        assert found[y, x] == scores[row, position[token]]
                    else:
                        assert math.isnan(found[y, x])
            before = block.groups
        assert sum(int(block.merged.sum()) > 0 for block in image.blocks) == 3


def _leaves(seen, row: int, token: int) -> bool:
    """Whether a token merged away, by the strategy's own order: the highest priorities do."""
    drop = seen.assignment.shape[1] - seen.size.shape[1]
    first = seen.priority[row].argsort(descending=True)[:drop]
    return token in seen.source[first].tolist()


def test_a_receiver_of_a_merge_has_not_merged_away_itself():
    trace, _, _ = record("vit", drop=5)
    for block in trace.blocks:
        assert block.merged.sum(1).tolist() == [5, 5]
        assert not block.merged[:, : block.protected].any()
        received = (block.size > 1).sum(1)
        assert (received > 0).all()


@pytest.mark.parametrize(
    ("name", "protected"),
    [
        ("clip", 1),
        ("blip-captioner", 1),
        ("siglip-vision", 0),
        ("dinov2-registers", 5),
        ("deit", 2),
        ("timm-no-class-avg", 0),
        ("open-clip", 1),
        ("owlvit", 1),
        ("llava-next", 1),
    ],
)
def test_any_adapter(name: str, protected: int):
    trace, pixels, report = record(name)
    found = merged_images(trace, pixels)
    assert len(found) == len(pixels)
    for image in found:
        assert image.protected == protected
        assert image.blocks[0].groups.shape == (6, 6)
        assert [block.left for block in image.blocks] == [b.tokens_out for b in report.blocks if b.merged]


def test_roles_change_from_block_to_block_where_destinations_alternate():
    trace, _, _ = record("vit", destinations="alternating", drop=2)
    assert [block.source[0].item() % 2 for block in trace.blocks[:2]] == [0, 1]
    per_token = trace.blocks[1].per_token(trace.blocks[1].priority)
    assert per_token[:, 0].isnan().all()
    assert not per_token[:, 1].isnan().any()


def test_several_passes_are_refused():
    case = family("vit").case
    model = turbo.accelerate(case.make_model(0), drop=4)
    with torch.no_grad(), turbo.recording(model) as trace:
        for _ in range(3):
            model(**case.inputs(2))
    for ask in (trace.groups, lambda: merged_images(trace, torch.rand(2, 3, 48, 48))):
        with pytest.raises(turbo.TurboError, match="3 forward passes.*one call of the model at a time"):
            ask()


def test_nothing_is_made_while_nobody_records(monkeypatch: pytest.MonkeyPatch):
    """A trace's tensors are made by `_trace` and by `Matching.assignment`: neither is asked."""
    from turbo.engine.runners import BlockRunner
    from turbo.matching import Matching

    case = family("vit").case
    model = turbo.accelerate(case.make_model(0), drop=4)
    with turbo.recording(model):
        pass

    def refuse(*_: object) -> None:
        raise AssertionError("asked for while nobody records")

    monkeypatch.setattr(BlockRunner, "_trace", refuse)
    monkeypatch.setattr(Matching, "assignment", property(refuse))
    with torch.no_grad():
        model(**case.inputs(2))
        with pytest.raises(AssertionError), turbo.recording(model):
            model(**case.inputs(2))


def test_a_trace_without_merges():
    with pytest.raises(turbo.TurboError, match="no merge"):
        merged_images(record("vit", drop=0)[0], torch.rand(2, 3, 48, 48))
    with pytest.raises(turbo.TurboError, match="no tokens merged up to block 0: the first merge was in block 2"):
        record("vit", drop=[0, 0, 3, 0])[0].groups(0)


# Images


def test_the_same_image_in_any_form():
    trace, pixels, _ = record("vit")
    levels = (pixels * 255).round()
    arrays = [each.permute(1, 2, 0).numpy().astype(np.uint8) for each in levels]
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    shift, scale = (torch.tensor(each)[:, None, None] for each in (mean, std))
    for images, undo in (
        (levels / 255, {}),
        ((levels / 255 - shift) / scale, {"mean": mean, "std": std}),
        (arrays, {}),
        ([Image.fromarray(each) for each in arrays], {}),
        ([each / 255 for each in arrays], {}),
    ):
        found = merged_images(trace, images, titles=["a", "b"], **undo)
        assert [each.title for each in found] == ["a", "b"]
        torch.testing.assert_close(found[1].pixels, levels[1].permute(1, 2, 0) / 255, atol=1e-6, rtol=0)


def test_images_that_are_not_those_that_the_model_saw():
    trace, pixels, _ = record("vit")
    for images, options, problem in (
        (pixels[:1], {}, "saw 2 images, 1 are given"),
        (pixels, {"titles": ["a"]}, "1 titles for 2 images"),
        (pixels * 4 - 2, {}, "mean= and std="),
        (pixels[:, 0], {}, "b 3 h w"),
        ([np.zeros((48, 48, 7)), np.zeros((48, 48, 7))], {}, "h w 3"),
        (["a.jpg", "b.jpg"], {}, "give PIL images"),
    ):
        with pytest.raises(turbo.TurboError, match=problem):
            merged_images(trace, images, **options)


def test_an_image_that_the_grid_does_not_divide_is_cut_as_patches_are_and_a_picture_is_stretched():
    trace, _, _ = record("vit")
    pixels = torch.rand(2, 3, 50, 53)
    assert torch.equal(merged_images(trace, pixels)[0].pixels, pixels[0, :, :48, :48].permute(1, 2, 0))
    picture = merged_images(trace, [Image.new("RGB", (53, 50), "red")] * 2)[0]
    assert picture.pixels.shape == (48, 54, 3)
    torch.testing.assert_close(picture.pixels[..., 0], torch.ones(48, 54))
    save = groups_image(picture.pixels, picture.blocks[0].groups)
    assert save.shape[0] % 6 == 0


@pytest.mark.parametrize(
    ("patches", "size", "grid"), [(96, (64, 96), (8, 12)), (1369, (518, 518), (37, 37)), (24, (30, 20), (6, 4))]
)
def test_the_grid_follows_the_image(patches: int, size: tuple[int, int], grid: tuple[int, int]):
    assert find_grid(patches, *size) == grid


@pytest.mark.parametrize("patches", [0, 197])
def test_patches_that_are_no_grid(patches: int):
    with pytest.raises(turbo.TurboError, match=f"{patches} patches are no grid on an image of 224 x 224"):
        find_grid(patches, 224, 224)


# Heat


def test_equal_scores_have_one_rank_and_infinite_ones_have_the_last():
    scores = torch.tensor([[3.0, torch.nan, 3.0], [-torch.inf, torch.inf, 9.0]])
    found = ranks(scores)
    torch.testing.assert_close(found, torch.tensor([[1 / 3, torch.nan, 1 / 3], [0, 1, 2 / 3]]), equal_nan=True)
    assert ranks(torch.full((2, 2), 5.0)).tolist() == [[0, 0], [0, 0]]


def test_octaves_around_the_average():
    assert octaves(torch.tensor([0.0, 1 / 64, 0.5, 1.0, 8.0, 99.0])).tolist() == [-4, -4, -1, 0, 3, 4]


# The picture


def test_a_few_of_many_blocks():
    blocks = [MergedBlock(depth, torch.zeros(1, 1), 9, 8, None, None, None, None) for depth in range(11)]
    for most, depths in (
        (1, [10]),
        (2, [0, 10]),
        (6, [0, 2, 4, 6, 8, 10]),
        (11, list(range(11))),
        (99, list(range(11))),
    ):
        assert [block.depth for block in spread_blocks(blocks, most)] == depths
    with pytest.raises(turbo.TurboError, match="blocks=0"):
        spread_blocks(blocks, 0)


def test_the_picture_has_a_column_for_each_block_and_the_colours_of_the_groups(tmp_path: Path):
    groups = torch.tensor([[0, 0], [1, 1]])
    pixels = torch.zeros(64, 64, 3)
    pixels[:32], pixels[32:] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    nan = torch.tensor([[0.5, torch.nan], [1.0, torch.nan]])
    block = MergedBlock(0, groups, 4, 2, torch.ones(2, 2), nan, nan, groups > 0)
    image = MergedImage(pixels, "$a image with a name of more than 24 letters", 0, (block,), "s1")
    sizes, reds = [], []
    for count in (1, 3):
        path = tmp_path / "new" / f"{count}.png"
        save_merged(path, [replace(image, blocks=(block,) * count)])
        with Image.open(path) as saved:
            drawn = np.asarray(saved.convert("RGB")).astype(int)
        sizes.append(saved.size)
        reds.append((abs(drawn - [255, 0, 0]).max(-1) < 4).sum())
        grey = (abs(drawn - [219, 219, 219]).max(-1) < 3).sum()
        assert grey > count * 100 * 50  # half of the patches of E may only receive
        average = [round(255 * level) for level in mpl.colormaps["magma"](0.5)[:3]]
        assert (abs(drawn - average).max(-1) < 3).sum() > count * 100 * 100
    assert sizes[1][0] == pytest.approx(2 * sizes[0][0], rel=0.05)
    assert sizes[1][1] == pytest.approx(sizes[0][1], rel=0.05)
    assert reds[1] == pytest.approx(2 * reds[0], rel=0.15)


def test_rows_without_scores_are_left_out(tmp_path: Path, merged):
    bare = [
        replace(image, blocks=tuple(replace(b, value=None, redundancy=None, degree=None) for b in image.blocks))
        for image in merged
    ]
    save_merged(tmp_path / "all.png", merged)
    save_merged(tmp_path / "bare.png", bare)
    with Image.open(tmp_path / "all.png") as all_, Image.open(tmp_path / "bare.png") as few:
        assert few.height < 0.5 * all_.height


def test_nothing_to_draw(tmp_path: Path, merged):
    for images in ([], [replace(merged[0], blocks=())]):
        with pytest.raises(turbo.TurboError, match="nothing to draw"):
            save_merged(tmp_path / "a.png", images)
