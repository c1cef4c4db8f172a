"""The search for the break-even: blocks of a model, timed at growing sequence lengths and batch sizes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from turbo.allocator import hold_allocator
from turbo.api import accelerated
from turbo.bench.break_even import MARGIN, BatchBreakEven, BreakEven, judge
from turbo.bench.compare import machine
from turbo.engine.acceleration import Acceleration
from turbo.engine.install import find_acceleration
from turbo.engine.times import BlockTimes, Calibration
from turbo.engine.timing import device_of, time_blocks, time_stack, undisturbed
from turbo.errors import TurboError, TurboWarning
from turbo.fusion import Strategy
from turbo.models import LoadedModel
from turbo.schedule import Schedule

LENGTHS = (50, 101, 197, 325, 577, 785, 1025)
"""Tokens at which blocks are timed, beside the model's own number: 98 to 512 pixels in patches of 16, about."""
BATCHES = (1, 4, 16)
_SLOWEST = 0.6  # seconds of one block; longer sequences are left out


def find_break_even(
    loaded: LoadedModel,
    strategy: str | Strategy | None = None,
    *,
    batches: Sequence[int] = BATCHES,
    lengths: Sequence[int] = LENGTHS,
    budget: float = 0.5,
    on_step: Callable[[], None] = lambda: None,
    **options: Any,
) -> BreakEven:
    """From which sequence length, batch and drop merging pays, on the device where the model is.

    Random tokens go through the model's blocks. For each batch size and length one block of each kind is timed
    untouched and with a merge, in turn, and speed-ups of all blocks follow; sequences on which a block would take more
    than about 0.6 s are left out. Then the whole stack is timed at the model's own length with the default amount,
    untouched and accelerated in turn, and the derived speed-ups are scaled to what was measured there.

    Args:
        loaded: the model; it is left as it was.
        strategy: as for `turbo.accelerate`.
        batches: images per call.
        lengths: numbers of tokens; the model's own is added.
        budget: seconds for each length and batch, and four times as many for each whole stack; at least two rounds
            are run whatever they take.
        on_step: called once for each batch size and length, the model's own included, and once more for each batch
            size, for a progress display.
        **options: `adapter`, `destinations`, `metric`, `momentum` and `semantic_units` of `turbo.accelerate`.

    Returns:
        The break-even of each batch size.

    Raises:
        TurboError: a denoiser, a number that makes no sense, or blocks that cannot run on another number of tokens.

    Examples:
        >>> from turbo.models import load_model
        >>> found = find_break_even(load_model("zoo:vit-digits"), batches=[1], lengths=[64], budget=0)
        >>> [length.n for length in found.batches[0].lengths]
        [64, 257]
    """
    if more := options.keys() & {"drop", "ratio", "speedup", "threshold", "min_tokens", "schedule", "calibrate"}:
        raise TurboError(f"{', '.join(sorted(more))}: amounts are what is searched for; leave them out")
    for name, values in (("batches", batches), ("lengths", lengths)):
        least = 1 if name == "batches" else 4
        if not values or any(not isinstance(v, int) or isinstance(v, bool) or v < least for v in values):
            raise TurboError(f"{name}={values!r}: must be whole numbers, {least} or more")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the default amount|no block merges", TurboWarning)  # no amount is used here
        with accelerated(loaded.model, strategy, **options):
            acceleration = find_acceleration(loaded.model)
    if not isinstance(acceleration, Acceleration):
        raise TurboError(f"{loaded.name} is a denoiser: time a pipeline with `turbo generate`")
    hold_allocator()
    chosen = sorted({*lengths, acceleration.n})
    with undisturbed(acceleration):
        found = tuple(_find(acceleration, batch, chosen, budget, on_step) for batch in dict.fromkeys(batches))
    parameter = next(acceleration.blocks[0].module.parameters())
    return BreakEven(
        model=loaded.name,
        strategy=acceleration.settings.strategy_name,
        n=acceleration.n,
        dtype=str(parameter.dtype).removeprefix("torch."),
        margin=MARGIN,
        machine=machine(device_of(acceleration)),
        batches=found,
    )


def _find(
    acceleration: Acceleration, batch: int, lengths: Sequence[int], budget: float, on_step: Callable[[], None]
) -> BatchBreakEven:
    own, protected, blocks = acceleration.n, acceleration.protected, len(acceleration.blocks)
    times: list[BlockTimes] = []
    timed: list[int] = []
    for n in lengths:
        if n == own or not times or max(block.seconds_untouched(n) for block in times) < _SLOWEST:
            merging = [n] if timed else [max(2, n // 4), n // 2, n]  # of few tokens too: what later blocks see
            now = time_blocks(
                acceleration,
                batch,
                untouched=[n],
                merging=merging,
                plain=[n] if n == own or not timed else [],
                budget=budget,
                least=2,
            )
            times = [a.joined(b) for a, b in zip(times, now, strict=True)] if times else now
            timed.append(n)
        on_step()
    plan = Schedule().plan(own, blocks, protected)
    measured = time_stack(acceleration, plan, batch, budget=4 * budget, least=2)
    on_step()
    return judge(Calibration(tuple(times), batch).corrected(plan, measured), own, protected, timed)
