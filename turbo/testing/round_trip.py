"""Checks of blocks whose parts run on merged tokens: how many, which, and that every token is answered."""

from __future__ import annotations

import math
from typing import Any

import torch

import turbo
from turbo.adapters import RoundTrip
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import differ, require, require_close, require_equal
from turbo.testing.latents import at_timesteps, called, resized, twins
from turbo.testing.parts import PartCall, groups_of, watch_parts, watching_parts
from turbo.testing.probe import list_round_trips

MOST = 0.75
"""One position in each cell of 2 x 2 receives; the others can merge."""


def check_parts_run_on_fewer_tokens(case: AdapterCase) -> None:
    """Each part runs on n - round(ratio·n) tokens, by its own ratio, as the report says; one not named runs on all."""
    model, inputs = case.make_model(), case.make_inputs()
    blocks = list_round_trips(case, model)
    parts = list(dict.fromkeys(part for block in blocks for part in block.parts))
    ratios = {part: 0.2 + 0.15 * place for place, part in enumerate(parts)}
    for ratio in (ratios, *({part: 0.5} for part in parts)):
        calls = watch_parts(case, model, inputs, case.merging(0) | {"ratio": ratio})
        for call in calls:
            n = call.x.shape[1]
            wanted = n - round(ratio.get(call.part, 0) * n)
            require(
                call.got.shape[1] == wanted,
                f"{call.label} ran on {call.got.shape[1]} of {n} tokens; ratio={ratio} leaves {wanted}",
            )
        if ratio is ratios:  # counting FLOPs takes a while
            _require_reported(model, blocks, calls)
        turbo.restore(model)


def _require_reported(model: Any, blocks: list[RoundTrip], calls: list[PartCall]) -> None:
    ran: dict[tuple[int, str], tuple[int, int]] = {}
    for call in calls:
        ran[blocks[call.index].downsample, call.part] = call.x.shape[1], call.got.shape[1]
    for row in turbo.report(model).parts:
        found = ran.get((row.downsample, row.part))
        require(
            found == (row.tokens_in, row.tokens_run),
            f"the report says that {row.part} at downsample {row.downsample} runs on {row.tokens_run} of "
            f"{row.tokens_in} tokens; it ran on (of, on) {found}",
        )


def check_outputs_are_restored_in_place(case: AdapterCase) -> None:
    """A part runs on the means of groups of tokens; each token gets back what its group's became, as is recorded."""
    model, inputs = case.make_model(), case.make_inputs()
    calls = watch_parts(case, model, inputs, case.some)
    with turbo.recording(model) as trace:
        case.run(model, inputs)
    recorded = {(each.block, each.part): each.assignment for each in trace.parts}
    for call in calls:
        require(call.y.shape == call.x.shape, f"{call.label} returns another shape than it got")
        require(call.y.dtype == call.gave.dtype, f"{call.label} returns {call.y.dtype}, the part {call.gave.dtype}")
        groups = groups_of(call)
        found = recorded.get((call.index, call.part))
        require(found is not None and torch.equal(found, groups), f"{call.label} is recorded with other groups")
        for image, group in enumerate(groups):
            counts = group.bincount(minlength=call.got.shape[1])
            require((counts > 0).all(), f"{call.label} ran on tokens that answer no token of the block")
            sums = torch.zeros_like(call.got[image]).index_add_(0, group, call.x[image])
            require_close(
                call.got[image],
                sums / counts[:, None].to(sums.dtype),
                f"{call.label} ran on something else than the means of the tokens it answers (a map writes into the "
                "tokens it is given)",
            )


def check_ratio_bounds(case: AdapterCase) -> None:
    """Ratios from 0 to 0.75 run, 0 bit for bit as untouched; others are refused and change nothing."""
    model = case.make_model()
    list_round_trips(case, model)
    untouched = case.run(model)
    for ratio in (0, MOST):
        case.accelerate(model, **case.merging(ratio))
        try:
            found = case.run(model)
        except RuntimeError as error:
            raise AssertionError(f"with ratio={ratio} the model fails: {error}") from error
        require((found.shape, found.dtype) == (untouched.shape, untouched.dtype), f"ratio={ratio} changes the shape")
        require(found.isfinite().all(), f"with ratio={ratio} the output has NaN or infinite numbers")
        require(differ(found, untouched) == bool(ratio), f"ratio={ratio} gives {'the' if ratio else 'another'} output")
        if not ratio:
            require_equal(found, untouched, "with ratio=0 the output is another one")
    wanted = case.run(model)
    for bad in (-0.01, MOST + 0.01, 1.0, math.nan, math.inf, "0.5", True):
        try:
            case.accelerate(model, **case.merging(bad))
        except turbo.TurboError:
            continue
        raise AssertionError(f"ratio={bad!r} is accepted")
    require_equal(case.run(model), wanted, "a refused call changes the acceleration before it")


def check_ratio_may_follow_the_timestep(case: AdapterCase) -> None:
    """A ratio that is a function is called with each step's own timestep."""
    early, late = at_timesteps(case, 900, 100)
    model = case.make_model()
    asked: list[float] = []

    def ratio(timestep: float) -> float:
        asked.append(timestep)
        return 0.5 if timestep > 500 else 0.0

    with watching_parts(list_round_trips(case, model)) as calls:
        case.accelerate(model, **case.merging(ratio))
        for inputs, share in ((early, 0.5), (late, 0.0)):
            calls.clear()
            case.run(model, inputs)
            for call in calls:
                n = call.x.shape[1]
                require(
                    call.got.shape[1] == n - round(share * n),
                    f"{call.label} ran on {call.got.shape[1]} of {n} tokens where the ratio is {share}: it was asked "
                    f"for at {sorted(set(asked))}, timesteps were 900 and 100 (does Denoiser name the timestep?)",
                )


def check_same_seed_gives_the_same(case: AdapterCase) -> None:
    """The same call gives the same output whatever ran before, another seed another; no random state is touched."""
    inputs = case.make_inputs()
    called(case)
    first = case.run(case.accelerate(case.make_model(), **case.some, seed=3), inputs)
    model = case.accelerate(case.make_model(), **case.some, seed=3)
    case.run(model, case.make_inputs(batch=3, seed=7))
    torch.rand(1)
    before = torch.get_rng_state()
    found = case.run(model, inputs)
    require(
        torch.equal(torch.get_rng_state(), before),
        "the global random state is drawn from (a map uses torch.rand, or dropout in evaluation mode)",
    )
    require_equal(found, first, "one seed gives two outputs (a map draws numbers, or remembers an earlier call)")
    other = case.run(case.accelerate(model, **case.some, seed=4), inputs)
    require(differ(other, found), "seed=3 and seed=4 give one output: the seed decides nothing")


def check_other_latent_sizes(case: AdapterCase) -> None:
    """Odd and non-square latents run after one accelerate, with the untouched output's shape and dtype."""
    height, width = called(case).latents.shape[-2:]
    model = case.accelerate(case.make_model(), **case.some)
    for size in ((height + 1, width - 3), (height - 4, width + 2)):
        inputs = resized(case, *size)
        untouched = case.run(case.make_model(), inputs)
        try:
            found = case.run(model, inputs)
        except Exception as error:
            raise AssertionError(f"latents of {size[0]} x {size[1]} fail: {type(error).__name__}: {error}") from error
        require(
            (found.shape, found.dtype) == (untouched.shape, untouched.dtype),
            f"latents of {size[0]} x {size[1]} give {tuple(found.shape)} {found.dtype}, untouched "
            f"{tuple(untouched.shape)} {untouched.dtype}",
        )
        require(found.isfinite().all(), f"latents of {size[0]} x {size[1]} give NaN or infinite numbers")
        require(differ(found, untouched), f"with latents of {size[0]} x {size[1]} nothing merges")


def check_halves_of_a_guided_batch_merge_alike(case: AdapterCase) -> None:
    """Where both halves of a batch hold the same latents the same tokens merge in both; otherwise each by its own."""
    both = twins(case)
    groups = [groups_of(call) for call in watch_parts(case, case.make_model(), both, case.some)]
    require(
        all(torch.equal(group[0], group[1]) for group in groups),
        "the halves of a batch for guidance merge other tokens: guidance would compare two different errors",
    )
    groups = [groups_of(call) for call in watch_parts(case, case.make_model(), case.make_inputs(), case.some)]
    require(
        any(not torch.equal(group[0], group[1]) for group in groups),
        "two different images merge the same tokens (is what Denoiser names as latents the image that is drawn?)",
    )


def check_kept_matchings_are_renewed(case: AdapterCase) -> None:
    """With refresh_every=2 the second step merges what the first did, the third and a new image do not."""
    steps, new_image = at_timesteps(case, 900, 800, 700), at_timesteps(case, 650)
    model = case.make_model()
    found = []
    with watching_parts(list_round_trips(case, model)) as calls:
        case.accelerate(model, **case.some, refresh_every=2)
        for inputs in (*steps, *new_image):
            calls.clear()
            case.run(model, inputs)
            found.append([groups_of(call) for call in calls])
    one, two, three, other = found
    require(
        _alike(one, two),
        "the matchings of the first step are not kept for the second (does Denoiser name the text, an object that "
        "stays the same while an image is drawn?)",
    )
    require(not _alike(two, three), "with refresh_every=2 the third step has the first one's matchings")
    require(not _alike(three, other), "another image has the matchings of the one before")


def _alike(one: list[Any], other: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def check_blocks_outside_the_denoiser_are_refused(case: AdapterCase) -> None:
    """A part that runs outside a call of the Denoiser raises a TurboError: nobody knows the step there."""
    model = case.make_model()
    blocks = list_round_trips(case, model)
    calls = watch_parts(case, model, case.make_inputs())
    require(calls, "no part of a block ran: name the very modules that the block calls")
    case.accelerate(model, **case.some)
    _require_refused(blocks, calls, "before")
    case.run(model)
    _require_refused(blocks, calls, "after")
    turbo.restore(model)
    for call in calls:
        _run(blocks, call)


def _require_refused(blocks: list[RoundTrip], calls: list[PartCall], when: str) -> None:
    for call in calls:
        try:
            _run(blocks, call)
        except turbo.TurboError:
            continue
        raise AssertionError(f"{call.label} runs {when} a call of the Denoiser, where the step is unknown")


@torch.no_grad()
def _run(blocks: list[RoundTrip], call: PartCall) -> None:
    """The call of a part once more, by itself."""
    part: Any = blocks[call.index].parts[call.part]
    part(call.x, *call.rest, **call.named)


CHECKS = (
    check_parts_run_on_fewer_tokens,
    check_outputs_are_restored_in_place,
    check_ratio_bounds,
    check_ratio_may_follow_the_timestep,
    check_same_seed_gives_the_same,
    check_other_latent_sizes,
    check_halves_of_a_guided_batch_merge_alike,
    check_kept_matchings_are_renewed,
    check_blocks_outside_the_denoiser_are_refused,
)
