"""Timing a model's blocks on random tokens, one by one and all in a row. The model is left as it was."""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from turbo.adapters.rotary import RotaryBlock
from turbo.engine.acceleration import Acceleration, Flow
from turbo.engine.clock import LEAST, take_turns
from turbo.engine.install import require_one_device
from turbo.engine.measure import alike
from turbo.engine.runners import BlockRunner, make_runners
from turbo.engine.times import BlockTimes, Measured
from turbo.errors import TurboError
from turbo.plan import Plan
from turbo.schedule import most_mergeable

_MERGED = 0.08
"""Share of the tokens that merge in a timed step: about what a plan merges in a block."""


def time_blocks(
    acceleration: Acceleration,
    images: int,
    *,
    untouched: Sequence[int],
    merging: Sequence[int],
    plain: Sequence[int],
    budget: float,
    least: int = LEAST,
) -> list[BlockTimes]:
    """Time each kind of block by itself, to be called within `undisturbed`.

    Args:
        acceleration: of the model.
        images: per call.
        untouched: numbers of tokens for the block's own forward.
        merging: numbers of tokens for turbo's step with a merge; those with nothing to merge are left out.
        plain: numbers of tokens for turbo's step without one.
        budget: seconds for all kinds together.
        least: rounds that are run in any case.

    Returns:
        The times of each block.
    """
    alone = _Alone(acceleration)
    runners = block_runners(alone)
    kinds = alike(acceleration.blocks)
    protected = acceleration.protected
    drops = {n: min(most, max(1, round(_MERGED * n))) for n in merging if (most := most_mergeable(n, protected))}
    found: dict[int, BlockTimes] = {}
    for depths in kinds:
        flops, chosen = acceleration.flops[depths[0]], [runners[depth] for depth in depths]
        jobs = [
            *(_Job("untouched", n, n, _own_forwards(acceleration, chosen, images, n)) for n in untouched),
            *(_Job("merging", n, n - drop, _steps(alone, chosen, images, n, drop)) for n, drop in drops.items()),
            *(_Job("plain", n, n, _steps(alone, chosen, images, n, 0)) for n in plain),
        ]
        calls, share = [job.call for job in jobs], budget / len(kinds)
        with _in_words(acceleration, max(job.before for job in jobs)):
            took = take_turns(calls, device_of(acceleration), budget=share, least=least)
        rates: dict[str, dict[int, float]] = {"untouched": {}, "merging": {}, "plain": {}}
        for job, seconds in zip(jobs, took, strict=True):
            rates[job.kind][job.before] = statistics.median(seconds) / flops(job.before, job.after)
        times = BlockTimes(flops, **{kind: tuple(sorted(points.items())) for kind, points in rates.items()})
        found |= dict.fromkeys(depths, times)
    return [found[depth] for depth in range(len(acceleration.blocks))]


def time_stack(acceleration: Acceleration, plan: Plan, images: int, *, budget: float, least: int = LEAST) -> Measured:
    """Time all blocks in a row, untouched and by a plan, in turn; to be called within `undisturbed`."""
    trial = acceleration.copy()
    trial.adopt(Plan(plan.n, plan.counts))
    runners = block_runners(trial)
    tokens, places = _tokens(acceleration, images, plan.n), _places(acceleration, plan.n)

    def run(step: Callable[..., Tensor]) -> None:
        x = tokens
        for runner in runners:
            x = step(runner, x, places)

    calls = [lambda: run(_own_forward), lambda: run(_accelerated)]
    with _in_words(acceleration, plan.n):
        untouched, accelerated = take_turns(calls, device_of(acceleration), budget=budget, least=least)
    where = f"{str(tokens.dtype).removeprefix('torch.')} on {tokens.device}"
    return Measured.from_rounds(plan.n, images, untouched, accelerated, where)


@contextmanager
def undisturbed(acceleration: Acceleration) -> Iterator[None]:
    """Blocks run as in inference; afterwards flags of training and the random state are what they were.

    Raises:
        TurboError: the weights are on no real device or on several, or a block has a forward of another library.
    """
    device = device_of(acceleration)
    if device.type == "meta":
        raise TurboError(
            f"the weights of {type(acceleration.tower).__name__} are on the meta device: nothing can be timed "
            "there; move the model to a device first"
        )
    require_one_device(acceleration)
    for runner in block_runners(acceleration):
        runner.require_free()
    modules = [module for block in acceleration.blocks for module in block.module.modules()]
    flags = [module.training for module in modules]
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), torch.no_grad():
        try:
            for module in modules:
                module.training = False  # not .eval(): some modules do more than that in there
            yield
        finally:
            for module, flag in zip(modules, flags, strict=True):
                module.training = flag


def device_of(acceleration: Acceleration) -> torch.device:
    """Where the blocks' weights are."""
    device: torch.device = next(acceleration.blocks[0].module.parameters()).device
    return device


def block_runners(acceleration: Acceleration) -> list[BlockRunner]:
    """Runners of the blocks, not installed: called by hand they leave the model alone."""
    return [runner for runner in make_runners(acceleration) if isinstance(runner, BlockRunner)]


class _Job(NamedTuple):
    """What is timed: a field of `BlockTimes`, the tokens before and after, and the call."""

    kind: str
    before: int
    after: int
    call: Callable[[], object]


class _Alone(Acceleration):
    """Its blocks run by themselves, each from the flow that it is given."""

    def __init__(self, of: Acceleration) -> None:
        super().__init__(of.tower, of.adapter_name, of.sites, (of.n, of.width), of.settings)
        self.given = self.left = Flow(0, (), None, None, None)

    def enter(self, depth: int, x: Tensor) -> Flow:
        return self.given

    def leave(self, flow: Flow) -> None:
        self.left = flow


def _own_forward(runner: BlockRunner, x: Tensor, places: dict[str, Any]) -> Tensor:
    """The block's own forward, whatever is installed on the instance; what else it requires, a mask say, gets None."""
    _, _, *more = inspect.signature(runner.upstream).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = [p for p in more if p.default is p.empty]
    args = [None for p in required if p.kind is p.POSITIONAL_ONLY]
    kwargs = {p.name: None for p in required if p.kind in named}
    output: Tensor = runner.upstream(runner.module, x, *args, **(kwargs | places))
    return output


def _accelerated(runner: BlockRunner, x: Tensor, places: dict[str, Any]) -> Tensor:
    output: Tensor = runner.forward(x, **places)
    return output


def _each(
    runners: Sequence[BlockRunner], step: Callable[..., Any], x: Tensor, places: dict[str, Any]
) -> Callable[[], Any]:
    """One block's step per call, another block's each time: no block then finds its weights in cache."""
    calls = 0

    def call() -> Any:
        nonlocal calls
        calls += 1
        return step(runners[calls % len(runners)], x, places)

    return call


def _own_forwards(acceleration: Acceleration, runners: Sequence[BlockRunner], images: int, n: int) -> Callable[[], Any]:
    return _each(runners, _own_forward, _tokens(acceleration, images, n), _places(acceleration, n))


def _steps(alone: _Alone, runners: Sequence[BlockRunner], images: int, n: int, drop: int) -> Callable[[], Any]:
    """Turbo's step on n tokens of which two have merged before, if they can, as in all blocks but the first."""
    spare = min(1, most_mergeable(n + 1, alone.protected))
    x, places = _tokens(alone, images, n + spare), _places(alone, n + spare)
    alone.given = Flow(runners[0].depth, (spare,) * len(alone.blocks), None, None, None)
    with _in_words(alone, n + spare):
        runners[0].forward(x, **places)
    flow = alone.left._replace(counts=(drop,) * len(alone.blocks))

    def step(runner: BlockRunner, tokens: Tensor, places: dict[str, Any]) -> Any:
        alone.given = flow._replace(depth=runner.depth)
        return runner.forward(tokens, **places)

    return _each(runners, step, x[:, :n].contiguous(), places)


def _tokens(acceleration: Acceleration, images: int, n: int) -> Tensor:
    """Random tokens ``b n d`` as the blocks take them; the random state is not asked."""
    x = torch.randn(images, n, acceleration.width, generator=torch.Generator().manual_seed(0))
    return x.to(device_of(acceleration), _dtype(acceleration))


def _dtype(acceleration: Acceleration) -> torch.dtype:
    parameters = acceleration.blocks[0].module.parameters()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())


def _places(acceleration: Acceleration, n: int) -> dict[str, Any]:
    """What rotary blocks get beside n tokens: places that turn nothing, which takes as long as any others."""
    block = acceleration.blocks[0]
    if not isinstance(block, RotaryBlock):
        return {}
    shape = (n - block.protected, acceleration.flops[0].metric_width)
    cos = torch.ones(shape, dtype=_dtype(acceleration), device=device_of(acceleration))
    return {block.argument: block.given(cos, torch.zeros_like(cos))}


@contextmanager
def _in_words(acceleration: Acceleration, n: int) -> Iterator[None]:
    """What cannot run says so in turbo's words."""
    try:
        yield
    except TurboError:
        raise
    except Exception as error:
        block, tower = (type(module).__name__ for module in (acceleration.blocks[0].module, acceleration.tower))
        raise TurboError(
            f"a {block} of this {tower} cannot run by itself on {n} tokens, so it cannot be timed "
            f"({type(error).__name__}: {error})"
        ) from error
