"""From a speed-up in time to a plan: time the blocks, solve, measure the whole stack, correct."""

from __future__ import annotations

from dataclasses import replace

from turbo.engine.acceleration import Acceleration
from turbo.engine.times import Calibration
from turbo.engine.timing import time_blocks, time_stack, undisturbed
from turbo.plan import Plan

SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.125)
"""Of the model's tokens, at which blocks are timed to calibrate."""
BUDGET = 1.0
"""Seconds for all kinds of blocks, and for each timing of the whole stack."""
TOLERANCE, CORRECTIONS = 0.02, 2
"""How far a measured speed-up may be from the wanted one before the plan is corrected, and how often it is."""
_SHORTFALL = 0.05
"""How far a measured speed-up may stay below the wanted one without a note."""


def calibrate(acceleration: Acceleration, images: int) -> tuple[Calibration, Plan]:
    """Time the blocks, solve for a speed-up in time, measure it on the whole stack, and correct the plan.

    Args:
        acceleration: of a model, installed or not; its settings ask for a speed-up.
        images: per call.

    Returns:
        What was measured, and the plan for the model's own number of tokens.

    Raises:
        TurboError: the blocks cannot run by themselves, or the speed-up is out of reach.
    """
    schedule, n = acceleration.settings.schedule, acceleration.n
    wanted = schedule.speedup
    assert wanted is not None
    lengths = [max(2, round(share * n)) for share in SHARES]
    found: list[tuple[float, Calibration, Plan]] = []
    with undisturbed(acceleration):
        times = time_blocks(acceleration, images, untouched=[n], merging=lengths, plain=lengths[::3], budget=BUDGET)
        calibration = Calibration(tuple(times), images)
        for _ in range(1 + CORRECTIONS):
            plan = calibration.plan(schedule, n, acceleration.protected)
            measured = time_stack(acceleration, plan, images, budget=BUDGET)
            calibration = calibration.corrected(plan, measured)
            found.append((abs(measured.speedup / wanted - 1), calibration, plan))
            if found[-1][0] <= TOLERANCE:
                break
    _, calibration, plan = min(found, key=lambda entry: entry[0])
    assert calibration.measured is not None
    if (met := calibration.measured.speedup) < (1 - _SHORTFALL) * wanted:
        short = f"speedup={wanted} was measured as {met:.2f}x: the machine may have been busy: calibrate again"
        plan = replace(plan, notes=(*plan.notes, short))
    return calibration, plan
