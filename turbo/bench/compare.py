"""One model against itself accelerated: time, FLOPs, memory, as data that can be committed."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import turbo
from turbo.allocator import hold_allocator
from turbo.bench.counting import count_flops
from turbo.bench.memory import peak_memory
from turbo.bench.timing import interleave
from turbo.models import LoadedModel

UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: "untouched", or what the model was accelerated with.
        seconds: of each round; the same entry of all sides was timed in the same round.
        gflops: of one call, by torch's counter.
        peak_mb: tensors alive at the worst moment of a call, MB.
        speedup: the untouched model's median time / this median time.
        ideal: untouched FLOPs / these FLOPs.
        efficiency: speedup / ideal.
    """

    name: str
    seconds: tuple[float, ...]
    gflops: float
    peak_mb: float
    speedup: float
    ideal: float
    efficiency: float

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """An untouched model and its accelerated versions, timed in one interleaved run."""

    model: str
    batch: int
    image_size: tuple[int, int]
    dtype: str
    machine: dict[str, Any]
    sides: tuple[Side, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for `json.dumps`."""
        return dataclasses.asdict(self)


def compare(
    loaded: LoadedModel,
    options: Mapping[str, Mapping[str, Any]],
    *,
    batch: int = 1,
    rounds: int = 5,
    memory: bool = True,
    on_round: Callable[[], None] = lambda: None,
) -> Comparison:
    """Time a model's image path untouched and accelerated, all sides in turn.

    Args:
        loaded: the model; it is left untouched.
        options: name of a side -> keyword arguments of `turbo.accelerate`.
        batch: images per call.
        rounds: how many times each side is timed, after one round of warm-up.
        memory: measure peak memory too (one more call per side).
        on_round: called after each round, for a progress display.

    Returns:
        The comparison; its first side is the untouched model.

    Examples:
        >>> from turbo.models import load_model
        >>> result = compare(load_model("zoo:vit-digits"), {"s1": {"drop": 20}}, rounds=1, memory=False)
        >>> [side.name for side in result.sides]
        ['untouched', 's1']
    """
    hold_allocator()
    images = loaded.example(batch)
    sides = {UNTOUCHED: {}, **{name: dict(arguments) for name, arguments in options.items()}}

    def prepare(name: str) -> AbstractContextManager[object]:
        return nullcontext() if name == UNTOUCHED else turbo.accelerated(loaded.model, **sides[name])

    def call() -> object:
        return loaded.images(images)

    gflops, peaks = {}, {}
    with torch.inference_mode():
        for name in sides:
            with prepare(name):
                gflops[name] = count_flops(call) / 1e9
                peaks[name] = peak_memory(call, images.device) / 1e6 if memory else 0.0
        seconds = interleave(
            dict.fromkeys(sides, call), rounds=rounds, prepare=prepare, device=images.device, on_round=on_round
        )
    results = []
    for name, took in seconds.items():
        speedup = statistics.median(seconds[UNTOUCHED]) / statistics.median(took)
        ideal = gflops[UNTOUCHED] / gflops[name]
        results.append(Side(name, tuple(took), gflops[name], peaks[name], speedup, ideal, speedup / ideal))
    dtype = str(images.dtype).removeprefix("torch.")
    return Comparison(loaded.name, batch, loaded.image_size, dtype, machine(images.device), tuple(results))


def machine(device: torch.device) -> dict[str, Any]:
    """What a figure was measured on: processor, threads, versions."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    versions = {name: _version(name) for name in ("transformers", "timm", "open_clip_torch")}
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "turbo": turbo.__version__,
        **versions,
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
