"""Merging around the parts of a denoiser's blocks: what `accelerate` promises beyond the conformance kit."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
from toy_denoiser import Sound, SoundBlock, Toy, denoiser_case, noise
from toy_model import Sound as SoundTower

import turbo
from turbo.adapters import Restore
from turbo.engine.install import find_acceleration
from turbo.testing import NotApplicable
from turbo.testing.latents import at_timesteps, resized
from turbo.testing.parts import groups_of, watch_parts, watching_parts
from turbo.testing.probe import list_round_trips

CASE = denoiser_case(restores=True)
ALL_PARTS = dict.fromkeys(("self_attention", "cross_attention", "feed_forward"), 0.5)


def accelerate(model, strategy="s1", **options):
    return turbo.accelerate(model, strategy, adapter=Sound(), **options)


def groups(inputs, **options):
    """Groups of the tokens in each part that ran on fewer, in order."""
    model = CASE.make_model()
    with watching_parts(list_round_trips(CASE, model)) as calls:
        accelerate(model, **options)
        CASE.run(model, inputs)
    return {(call.index, call.part): groups_of(call) for call in calls if call.got.shape != call.x.shape}


def ran_on(**options):
    """Downsample and part -> tokens in, tokens run on; of the parts that ran on fewer."""
    calls = watch_parts(CASE, CASE.make_model(), CASE.make_inputs(), options)
    counts = (
        (CASE.round_trips[call.index].downsample, call.part, call.x.shape[1], call.got.shape[1]) for call in calls
    )
    return {(step, part): (n, run) for step, part, n, run in counts if run < n}


def test_without_a_name_the_strategy_is_s1():
    named = CASE.run(accelerate(CASE.make_model(), "s1", ratio=ALL_PARTS))
    for given in ((), (None,)):
        model = turbo.accelerate(CASE.make_model(), *given, adapter=Sound(), ratio=ALL_PARTS)
        assert turbo.report(model).strategy == "s1"
        assert torch.equal(CASE.run(model), named)
    assert not torch.equal(CASE.run(accelerate(CASE.make_model(), "ward", ratio=ALL_PARTS)), named)


@pytest.mark.parametrize("strategy", ["s9", 5, lambda candidates: candidates.redundancy.log()])
def test_a_strategy_that_cannot_be_leaves_the_denoiser_as_it_was(strategy):
    model = CASE.make_model()
    untouched = CASE.run(model)
    with pytest.raises(turbo.TurboError, match="strategy"):
        accelerate(model, strategy, ratio=ALL_PARTS)
    assert find_acceleration(model) is None
    assert torch.equal(CASE.run(model), untouched)


# Which blocks and parts


def test_the_finest_blocks_merge_unless_more_is_asked_for():
    fine = {(1, part): (64, 32) for part in ALL_PARTS}
    assert ran_on(ratio=ALL_PARTS) == fine
    assert ran_on(ratio=ALL_PARTS, max_downsample=1) == fine
    assert ran_on(ratio=ALL_PARTS, max_downsample=2) == fine | {(2, part): (16, 8) for part in ALL_PARTS}
    assert ran_on(ratio=ALL_PARTS, max_downsample=64) == ran_on(ratio=ALL_PARTS, max_downsample=2)


def test_parts_that_are_not_named_run_on_all_tokens():
    assert ran_on(ratio={"cross_attention": 0.25}) == {(1, "cross_attention"): (64, 48)}


def test_parts_share_a_matching_where_they_can():
    """Self-attention and feed-forward merge the same tokens at one ratio; cross-attention asks the text."""
    found = groups(CASE.make_inputs(), ratio=ALL_PARTS)
    for block in (0, 1):
        assert torch.equal(found[block, "self_attention"], found[block, "feed_forward"])
        assert not torch.equal(found[block, "self_attention"], found[block, "cross_attention"])
    redundancy = groups(CASE.make_inputs(), strategy="tome", ratio=ALL_PARTS)
    for block in (0, 1):
        assert torch.equal(redundancy[block, "self_attention"], redundancy[block, "cross_attention"])


# Destinations


def cells(group: torch.Tensor) -> torch.Tensor:
    """Position of one token of each group's receivers, by cell of 2 x 2: how many groups each cell takes part in."""
    return group.view(-1, 4, 2, 4, 2).transpose(2, 3).flatten(3)


def test_a_grid_keeps_one_token_of_each_cell_at_the_highest_ratio():
    """At 0.75 only the destinations are left, one per cell, and no two of them merge."""
    for group in groups(CASE.make_inputs(), ratio=0.75)[0, "self_attention"]:
        assert group.unique().numel() == 16
        receivers = [set(cell.flatten().tolist()) for cell in cells(group[None])[0].flatten(0, 1)]
        assert set.union(*receivers) == set(range(16))


def test_parity_sends_even_positions_to_odd_ones():
    for group in groups(CASE.make_inputs(), ratio=0.5, destinations="parity")[0, "self_attention"]:
        odd = group[1::2]
        assert odd.unique().numel() == 32
        assert set(group[0::2].tolist()) <= set(odd.tolist())


def test_destinations_change_from_step_to_step_and_not_from_call_to_call():
    one, two = at_timesteps(CASE, 900, 880)
    first, again, other = (groups(inputs, ratio=0.5)[0, "self_attention"] for inputs in (one, one, two))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_odd_grids_merge_what_they_can_and_say_so_once():
    model = accelerate(CASE.make_model(), ratio=0.75)
    inputs = resized(CASE, 7, 7)
    with pytest.warns(turbo.TurboWarning, match=r"ratio=0.75 of 49 tokens is 37; only 33 can merge"):
        CASE.run(model, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CASE.run(model, inputs)
    counts = {row.part: row.tokens_run for row in turbo.report(model).parts}
    assert counts["self_attention"] == 16


# Exactness


def test_pointwise_parts_on_exact_duplicates_change_nothing():
    """Propositions 7.7 and 7.9: each cell holds four copies, and at 0.75 each source merges into its copy."""
    inputs = CASE.make_inputs()
    small = inputs["latents"][:, :, ::2, ::2]
    inputs["latents"] = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    untouched = CASE.run(CASE.make_model(), inputs)
    model = accelerate(CASE.make_model(), "tome", ratio={"cross_attention": 0.75, "feed_forward": 0.75})
    torch.testing.assert_close(CASE.run(model, inputs), untouched, atol=1e-5, rtol=1e-5)
    accelerate(model, "random", ratio={"cross_attention": 0.5, "feed_forward": 0.5})
    torch.testing.assert_close(CASE.run(model, inputs), untouched, atol=1e-5, rtol=1e-5)
    other = CASE.make_inputs()
    assert not torch.allclose(CASE.run(model, other), CASE.run(CASE.make_model(), other), atol=1e-3)


def test_two_merges_restored_are_the_same_as_one_call_each():
    """Two steps of one call each, in any order, do not see each other."""
    one, two = at_timesteps(CASE, 900, 100)
    model = accelerate(CASE.make_model(), ratio=ALL_PARTS)
    found = [CASE.run(model, inputs) for inputs in (one, two, one)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


# Steps


def test_recorded_steps_follow_each_other():
    model = accelerate(CASE.make_model(), ratio=ALL_PARTS)
    with turbo.recording(model) as trace:
        for inputs in at_timesteps(CASE, 900, 800):
            CASE.run(model, inputs)
    order = [(block, part) for block in (0, 1) for part in ALL_PARTS]
    assert [(part.block, part.part) for part in trace.parts] == order * 2
    assert {(part.height, part.width) for part in trace.parts} == {(8, 8)}
    assert trace.blocks == []
    CASE.run(model)
    assert len(trace.parts) == 12


def test_kept_matchings_do_not_keep_the_text_alive():
    model = accelerate(CASE.make_model(), ratio=0.5, refresh_every=5)
    inputs = CASE.make_inputs()
    CASE.run(model, inputs)
    text = weakref.ref(inputs["text"])
    del inputs
    gc.collect()
    assert text() is None


@pytest.mark.parametrize("every", [2, 3, 4])
def test_matchings_are_made_at_every_kth_step(every):
    model = CASE.make_model()
    found = []
    with watching_parts(list_round_trips(CASE, model)) as calls:
        accelerate(model, ratio=0.5, refresh_every=every)
        for inputs in at_timesteps(CASE, *range(900, 100, -100)):
            calls.clear()
            CASE.run(model, inputs)
            found.append(groups_of(calls[0]))
    for step in range(1, len(found)):
        assert torch.equal(found[step - 1], found[step]) == (step % every != 0)


def test_another_size_or_a_higher_timestep_is_another_image():
    first, up = at_timesteps(CASE, 500, 600)
    larger = resized(CASE, 12, 12) | {"text": first["text"]}
    model = accelerate(CASE.make_model(), ratio=0.5, refresh_every=9)
    fresh = accelerate(CASE.make_model(), ratio=0.5)
    for inputs in (first, up, larger, first):
        assert torch.equal(CASE.run(model, inputs), CASE.run(fresh, inputs))


@pytest.mark.parametrize("options", [{"refresh_every": 2}, {"ratio": lambda timestep: 0.5 if timestep > 850 else 0.25}])
def test_what_is_decided_at_each_step_is_decided_in_compiled_models_too(options):
    """The choice is the step's own, never one that was traced."""
    steps = at_timesteps(CASE, 900, 800, 700)
    model = accelerate(CASE.make_model(), **options)
    wanted = [CASE.run(model, inputs) for inputs in steps]
    accelerate(model, **options)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for inputs, each in zip(steps, wanted, strict=True):
        torch.testing.assert_close(CASE.run(compiled, inputs), each, atol=1e-5, rtol=1e-5)


# Undoing, and errors


def test_accelerated_for_a_while():
    model = CASE.make_model()
    untouched = CASE.run(model)
    with turbo.accelerated(model, adapter=Sound(), ratio=0.5):
        assert not torch.equal(CASE.run(model), untouched)
    assert torch.equal(CASE.run(model), untouched)


def test_after_an_exception_blocks_outside_a_step_are_still_refused():
    model = accelerate(CASE.make_model(), ratio=0.5)
    block = model.blocks[0]
    handle = block.cross_attention.register_forward_pre_hook(_interrupt)
    with pytest.raises(RuntimeError, match="out of memory"):
        CASE.run(model)
    handle.remove()
    with pytest.raises(turbo.TurboError, match="block 0 of Toy ran outside a call of it"):
        block(torch.randn(2, 64, 16), torch.randn(2, 5, 16))


def _interrupt(*_):
    raise RuntimeError("out of memory")


def test_a_wrong_downsample_is_told():
    class AllFine(Sound):
        def sites(self, model):
            return [*super().sites(model)[:1], *(SoundBlock(block, 1) for block in model.blocks)]

    model = turbo.accelerate(Toy().eval(), adapter=AllFine(), ratio=0.5)
    with pytest.raises(turbo.TurboError, match=r"16 tokens.*8 x 8"):
        model(**noise(1))


class NoDenoiser(Sound):
    def sites(self, model):
        return super().sites(model)[1:]


class TwoDenoisers(Sound):
    def sites(self, model):
        return [*super().sites(model)[:1], *super().sites(model)]


class WithRestore(Sound):
    def sites(self, model):
        return [*super().sites(model), Restore(model.leave)]


class WithTower(Sound):
    def sites(self, model):
        from toy_model import Model

        return [*super().sites(model), *SoundTower().sites(Model())[:1]]


class OnlyADenoiser(Sound):
    def sites(self, model):
        return super().sites(model)[:1]


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (NoDenoiser, "lists 0 Denoisers"),
        (TwoDenoisers, "lists 2 Denoisers"),
        (WithRestore, "lists Denoiser, Restore, SoundBlock: either ResidualBlocks"),
        (WithTower, "either ResidualBlocks"),
        (OnlyADenoiser, "lists no ResidualBlock and no RoundTrip"),
    ],
)
def test_sites_that_do_not_go_together_are_refused(adapter, message):
    model = Toy()
    with pytest.raises(turbo.TurboError, match=message):
        turbo.accelerate(model, adapter=adapter())
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert not model._forward_hooks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_downsample": 0}, "max_downsample=0: must be a whole number, 1 or more"),
        ({"max_downsample": 1.5}, "max_downsample=1.5: must be a whole number"),
        ({"refresh_every": 0}, "refresh_every=0: must be a whole number, 1 or more"),
        ({"refresh_every": True}, "refresh_every=True: must be a whole number"),
        ({"seed": -1}, "seed=-1: must be a whole number, 0 to 2147483647"),
        ({"seed": 2**31}, "seed=2147483648: must be a whole number, 0 to 2147483647"),
        ({"seed": "a"}, "seed='a': must be a whole number"),
        ({"destinations": "random"}, "destinations='random': must be 'grid' or 'parity'"),
        ({"ratio": 0.6, "destinations": "parity"}, "from 0 to 0.5 of the tokens"),
        ({"ratio": {"mlp": 0.5}}, "part 'mlp': this model's blocks have self_attention, cross_attention, feed_forward"),
    ],
)
def test_options_are_checked(options, message):
    model = accelerate(CASE.make_model(), ratio=0.5)
    before = CASE.run(model)
    with pytest.raises(turbo.TurboError, match=message):
        accelerate(model, **options)
    assert torch.equal(CASE.run(model), before)


def test_a_resolution_that_no_block_has_is_told():
    class Coarse(Sound):
        def sites(self, model):
            return [*super().sites(model)[:1], SoundBlock(model.blocks[2], 2)]

    with pytest.raises(turbo.TurboError, match=r"max_downsample=1: nothing would merge, .* have downsample 2"):
        turbo.accelerate(Toy(), adapter=Coarse(), max_downsample=1)


def test_the_kit_says_what_it_cannot_change():
    """A timestep that what surrounds the denoiser makes is none of the case's inputs."""

    class Inside(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.toy = Toy()

        def forward(self, latents, time, text):
            return self.toy(latents, time + 1, text)

    with pytest.raises(NotApplicable, match="timestep is none of the case's inputs"):
        at_timesteps(denoiser_case(model=Inside), 3, 2)


def test_a_report_leaves_no_trace_on_the_image_under_way():
    def images(*, reporting: bool) -> tuple[list[torch.Tensor], int]:
        model = accelerate(CASE.make_model(), ratio=lambda t: 0.5 if t > 300 else 0.25, refresh_every=3)
        found = []
        with turbo.recording(model) as trace:
            for inputs in at_timesteps(CASE, 900, 600, 250):
                found.append(CASE.run(model, inputs))
                if reporting:
                    notes = turbo.report(model).notes
                    assert notes == (f"the ratio varies: these are the figures of timestep {inputs['time']}",)
        return found, len(trace.parts)

    plain, recorded = images(reporting=False)
    beside, same = images(reporting=True)
    assert recorded == same > 0
    assert all(torch.equal(one, two) for one, two in zip(plain, beside, strict=True))


def test_matchings_are_kept_for_one_image_only():
    model = accelerate(CASE.make_model(), ratio=ALL_PARTS, refresh_every=4)
    one = CASE.make_inputs()
    other = one | {"latents": torch.randn_like(one["latents"])}  # the same text, the same timestep
    CASE.run(model, one)
    alone = CASE.run(accelerate(CASE.make_model(), ratio=ALL_PARTS, refresh_every=4), other)
    assert torch.equal(CASE.run(model, other), alone)


def test_kept_matchings_remember_whether_the_halves_were_twins():
    model = accelerate(
        CASE.make_model(), ratio={"self_attention": 0.5, "cross_attention": lambda t: 0.5 * (t < 500)}, refresh_every=3
    )
    first, second = at_timesteps(CASE, 900, 400)
    first["latents"] = first["latents"][:1].repeat(2, 1, 1, 1)
    CASE.run(model, first)
    assert CASE.run(model, second).isfinite().all()


def test_recordings_nest():
    model = accelerate(CASE.make_model(), ratio=0.5)
    with turbo.recording(model) as outer:
        with turbo.recording(model) as inner:
            CASE.run(model)
        CASE.run(model)
    assert len(inner.parts) == len(outer.parts) > 0
    with pytest.raises(turbo.TurboError, match="see `parts`"):
        outer.groups()
