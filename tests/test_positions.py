"""Rotary positions, carried along with merged tokens."""

from __future__ import annotations

import pytest
import torch
from families import family
from rotary_model import case_of_rotary

import turbo
from turbo.adapters import RotaryBlock
from turbo.engine.install import require_acceleration
from turbo.engine.timing import time_stack, undisturbed
from turbo.plan import Plan

ROTARY = ["dinov3", "timm-eva-rotary", "timm-eva02", "timm-dinov3", "timm-perception-encoder"]
every_rotary = pytest.mark.parametrize("name", ROTARY)


def blocks_of(model):
    return require_acceleration(model).blocks


@every_rotary
def test_tokens_turn_by_the_mean_of_their_patches(name: str, monkeypatch):
    """What each block turns by, against means taken patch by patch over the groups that were recorded."""
    one = family(name)
    model = turbo.accelerate(one.model(), drop=6)
    seen, told = [], []
    turn, places = RotaryBlock.turn, RotaryBlock.places

    def watched_turn(block, q, k, at):
        seen.append(at)
        return turn(block, q, k, at)

    def watched_places(block, given, n):
        told.append(places(block, given, n))
        return told[-1]

    monkeypatch.setattr(RotaryBlock, "turn", watched_turn)
    monkeypatch.setattr(RotaryBlock, "places", watched_places)
    with torch.no_grad(), turbo.recording(model) as trace:
        found = one.output(model, one.inputs())
    assert [at.shape[1] for at in seen] == [one.n, one.n - 6, one.n - 12, one.n - 18]
    for depth in range(1, 4):
        groups, whole = trace.groups(depth - 1), told[depth].expand(2, -1, -1)
        assert groups.unique().numel() < one.n
        for image in range(2):
            for token in range(seen[depth].shape[1]):
                wanted = whole[image, groups[image] == token].mean(dim=0)
                torch.testing.assert_close(seen[depth][image, token], wanted)
    with torch.no_grad():  # nobody records
        assert torch.equal(one.output(model, one.inputs()), found)


@every_rotary
def test_protected_tokens_stay_where_they_are(name: str):
    one = family(name)
    model = turbo.accelerate(one.model(), drop=6)
    block = blocks_of(model)[0]
    q, _, _ = block.qkv(torch.randn(1, one.n, 48))
    cos = torch.full((one.n - one.protected, q.shape[-1]), 0.6)
    places = block.places(block.given(cos, torch.full_like(cos, 0.8)), one.n)
    turned, _ = block.turn(q, q, places)
    assert torch.equal(turned[:, :, : one.protected], q[:, :, : one.protected])
    assert not torch.equal(turned[:, :, one.protected :], q[:, :, one.protected :])


def test_the_same_patches_in_other_places_give_another_output():
    """Positions are used after merging: with those of another grid the first block alone would not explain it."""
    one = family("dinov3")
    model = turbo.accelerate(one.model(), drop=6)
    with torch.no_grad():
        was = one.output(model, one.inputs())
        model.rope_embeddings.inv_freq.mul_(3)
        assert not torch.allclose(one.output(model, one.inputs()), was, rtol=1e-3)


def test_a_block_without_its_positions_says_so():
    one = family("timm-eva02")
    model = turbo.accelerate(one.model(), drop=4)
    with pytest.raises(turbo.TurboError, match="EvaBlock was called without rope"):
        model.blocks[0](torch.randn(1, one.n, 48))


def test_more_places_than_tokens_are_refused():
    case = case_of_rotary()
    model = turbo.accelerate(case.make_model(), drop=4, adapter=case.instance)
    with pytest.raises(turbo.TurboError, match="PlacedBlock got 20 tokens and the places of 24 patches"):
        model.blocks[0](torch.randn(1, 20, 16), torch.ones(24, 16))


def test_autocast_runs_and_keeps_the_dtype():
    for name in ("dinov3", "timm-eva02"):
        one = family(name)
        model, inputs = one.model(), one.inputs()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            wanted = one.output(model, inputs)
            with pytest.warns(turbo.TurboWarning, match="no block merges"):
                turbo.accelerate(model, drop=1, threshold=999)
            found = one.output(model, inputs)
            assert found.dtype == wanted.dtype
            torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05 * wanted.abs().max().item())
            assert one.output(turbo.accelerate(model, drop=6), inputs).isfinite().all()


def test_patches_dropped_in_training_take_their_places_with_them():
    """timm's patch dropout: every image then has places of its own."""
    from timm.models.eva import Eva

    torch.manual_seed(0)
    size = {"img_size": 48, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 5}
    model = Eva(**size, use_rot_pos_emb=True, patch_drop_rate=0.5, init_values=1.0)
    images = torch.randn(2, 3, 48, 48)

    def run() -> torch.Tensor:
        torch.manual_seed(1)
        return model.train()(images)

    wanted = run()
    with pytest.warns(turbo.TurboWarning, match="no block merges"):
        turbo.accelerate(model, drop=1, threshold=999)
    with pytest.warns(turbo.TurboWarning, match="no block merges"):  # of 19 tokens
        found = run()
    torch.testing.assert_close(found, wanted)
    turbo.accelerate(model, drop=3)
    assert run().shape == wanted.shape
    assert turbo.report(model).n == 19


@pytest.mark.parametrize("name", ["dinov3", "timm-eva02"])
def test_blocks_are_timed_with_positions(name: str, monkeypatch):
    """As blocks of the model, and turbo's step: both turn, n patches long."""
    one = family(name)
    model = turbo.accelerate(one.model(), drop=5)
    acceleration = require_acceleration(model)
    seen = []
    rotate = type(acceleration.blocks[0]).rotate

    def watched(block, q, k, cos, sin):
        seen.append((q.shape[2], cos.shape[-2]))
        return rotate(block, q, k, cos, sin)

    monkeypatch.setattr(type(acceleration.blocks[0]), "rotate", watched)
    with undisturbed(acceleration):
        time_stack(acceleration, Plan(one.n, (5, 5, 0, 0)), 2, budget=0, least=1)
    assert set(seen) == {(n, n) for n in (one.n, one.n - 5, one.n - 10)}


def test_places_of_single_patches_are_refused_where_nobody_reads_them():
    """A tuple of cosines and sines is seen as the tensors in it: unread, the block would compute something else."""
    from turbo.adapters.dino_block import DinoBlock
    from turbo.adapters.dinov3 import DINOv3

    class Unread(DinoBlock):
        def heads(self):
            return self.module.attention.num_heads

    class Careless(DINOv3):
        def sites(self, model):
            return [Unread(layer, protected=3) for layer in model.model.layer]

    one = family("dinov3")
    model = turbo.accelerate(one.model(), drop=4, adapter=Careless())
    message = r"DINOv3ViTLayer was called with position_embeddings = a tuple with a tensor of shape \(36, 16\)"
    with pytest.raises(turbo.TurboError, match=message):
        one.output(model, one.inputs())


@pytest.mark.parametrize(
    "value",
    [[torch.zeros(4)], (None, (torch.zeros(1, 4),)), {"mask": torch.zeros(4)}],
    ids=["list", "nested tuple", "dict"],
)
def test_collections_of_tensors_are_seen(value):
    case = case_of_rotary()
    model = turbo.accelerate(case.make_model(), drop=4, adapter=case.instance)
    block, places = model.blocks[0], torch.ones(24, 16)
    block(torch.randn(1, 25, 16), places)
    block(torch.randn(1, 25, 16), places, hint=(torch.tensor(1.0), None, [3]))
    with pytest.raises(turbo.TurboError, match=f"was called with hint = a {type(value).__name__} with a tensor"):
        block(torch.randn(1, 25, 16), places, hint=value)
