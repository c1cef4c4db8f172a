"""How fast each setting is: the vision encoder and the user's whole call, all settings in turn in one run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turbo.allocator import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.counting import count_flops
from turbo.bench.folder import write_json
from turbo.bench.timing import interleave
from turbo.evaluation.run import prepared
from turbo.evaluation.settings import UNTOUCHED, UNTOUCHED_SETTING, Setting
from turbo.evaluation.tasks.job import Job
from turbo.models import LoadedModel

Seconds = dict[str, dict[str, list[float]]]
"""Part of the work -> name of the setting -> seconds of each round."""


@dataclass(frozen=True)
class Speed:
    """Speed of one part of the work in one setting.

    Attributes:
        per_second: examples (images, or questions) in the median time.
        speedup: the untouched model's time / this one, of one round: the median over rounds. A drift of the machine
            hits both times of a round.
        low: lower quartile of the same.
        high: upper quartile.
    """

    per_second: float
    speedup: float
    low: float
    high: float


def time_settings(
    job: Job[Any], settings: Sequence[Setting], *, rounds: int = 7, on_round: Callable[[], None] = lambda: None
) -> Seconds:
    """Time the encoder and the whole call of a job on one batch of its data.

    Each round runs the untouched model and every setting in turn, after one round of warm-up, so that drift of the
    machine hits all alike. Preparing images is not timed: it is the same for all.

    Args:
        job: whose encoder and `Job.call` are timed.
        settings: what to compare with the untouched model.
        rounds: how many times each is timed.
        on_round: called after each of the ``rounds + 1`` rounds of each part.

    Returns:
        Seconds. "call" is missing where there is nothing to time but the encoder (see `Job.call`).
    """
    hold_allocator()
    by_name = {setting.name: setting for setting in (UNTOUCHED_SETTING, *settings)}
    count = min(job.batch, job.examples)
    images = job.pixels.take([row % len(job.pixels) for row in range(count)])

    def prepare(name: str) -> AbstractContextManager[object]:
        return prepared(job.loaded, by_name[name])

    calls = {"encoder": lambda: job.loaded.images(images), "call": job.call(count)}
    with torch.inference_mode():
        return {
            part: interleave(
                dict.fromkeys(by_name, call), rounds=rounds, prepare=prepare, device=images.device, on_round=on_round
            )
            for part, call in calls.items()
            if call is not None
        }


def speeds(seconds: Mapping[str, Mapping[str, Sequence[float]]], count: int) -> dict[str, dict[str, Speed]]:
    """Medians and speed-ups of what was timed.

    Args:
        seconds: by `time_settings`.
        count: examples in a batch.

    Returns:
        Name of the setting -> part of the work -> speed.
    """
    found: dict[str, dict[str, Speed]] = {}
    for part, took in seconds.items():
        base = np.asarray(took[UNTOUCHED])
        for name, its in took.items():
            low, middle, high = np.quantile(base / np.asarray(its), (0.25, 0.5, 0.75))
            per_second = count / statistics.median(its)
            found.setdefault(name, {})[part] = Speed(per_second, float(middle), float(low), float(high))
    return found


def ideal_factors(loaded: LoadedModel, settings: Sequence[Setting]) -> dict[str, float]:
    """By which factor the FLOPs of the vision side fall, by torch's counter: the speed-up if all took the same time."""
    images = loaded.example(1)
    counted = {}
    with torch.inference_mode():
        for setting in (UNTOUCHED_SETTING, *settings):
            with prepared(loaded, setting):
                counted[setting.name] = count_flops(lambda: loaded.images(images))
    return {name: counted[UNTOUCHED] / flops for name, flops in counted.items()}


def kept_times(path: Path, job: Job[Any], settings: Sequence[Setting], rounds: int) -> Seconds | None:
    """The times that a file holds, if they are of the same settings, batch, rounds and machine; else None."""
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    seconds: Seconds = kept.pop("seconds")
    return seconds if kept == _record(job, settings, rounds) else None


def keep_times(path: Path, job: Job[Any], settings: Sequence[Setting], rounds: int, seconds: Seconds) -> None:
    """Write down what was timed, and of what."""
    write_json(path, {**_record(job, settings, rounds), "seconds": seconds})


def _record(job: Job[Any], settings: Sequence[Setting], rounds: int) -> dict[str, Any]:
    record = {
        "data": job.data.name,
        "batch": min(job.batch, job.examples),
        "rounds": rounds,
        "machine": machine(job.device),
        "settings": {setting.name: setting.record for setting in settings},
    }
    copy: dict[str, Any] = json.loads(json.dumps(record))
    return copy
