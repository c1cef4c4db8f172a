"""One model against itself accelerated: time, FLOPs, memory, as data that can be committed."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import turbo
from turbo.allocator import hold_allocator
from turbo.bench.compiling import room_for_sides
from turbo.bench.sides import Patch, Prepared, prepare_sides
from turbo.bench.timing import interleave, quartiles
from turbo.bench.tokens import last_block
from turbo.engine.install import find_accelerations
from turbo.engine.times import median_ratio
from turbo.errors import TurboError
from turbo.models import LoadedModel

UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: "untouched", what the model was accelerated with, or the name of a rival.
        seconds: of each round; the same entry of all sides was timed in the same round.
        spread: first and third quartile of these.
        gflops: of one call, by torch's counter.
        peak_mb: tensors alive at the worst moment of a call, MB; 0 where memory was not measured.
        speedup: the untouched model's time / this one of the same round, the median over rounds.
        ideal: untouched FLOPs / these FLOPs.
        efficiency: speedup / ideal.
        tokens: that leave the last block.
        compile_seconds: of the first compiled call; None where nothing is compiled.
        whole_graph: compiled as one graph; None where nothing is compiled.
    """

    name: str
    seconds: tuple[float, ...]
    spread: tuple[float, float]
    gflops: float
    peak_mb: float
    speedup: float
    ideal: float
    efficiency: float
    tokens: int
    compile_seconds: float | None = None
    whole_graph: bool | None = None

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """An untouched model, its accelerated versions and its rivals, timed in one interleaved run.

    Attributes:
        model: its name.
        batch: images per call.
        image_size: height and width.
        dtype: of the model and its images.
        compiled: whether each side was compiled with torch.compile.
        machine: what it was measured on.
        sides: the first is the untouched model.
        failed: rivals that torch.compile cannot compile, and why.
    """

    model: str
    batch: int
    image_size: tuple[int, int]
    dtype: str
    compiled: bool
    machine: dict[str, Any]
    sides: tuple[Side, ...]
    failed: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for `json.dumps`."""
        return dataclasses.asdict(self)


def compare(
    loaded: LoadedModel,
    options: Mapping[str, Mapping[str, Any]],
    *,
    rivals: Mapping[str, Patch] | None = None,
    compiled: bool = False,
    batch: int = 1,
    rounds: int = 5,
    memory: bool = True,
    on_round: Callable[[], None] = lambda: None,
) -> Comparison:
    """Time a model's image path untouched, accelerated and patched by others, all sides in turn.

    Each side is a copy of the model that shares its weights, so nothing is switched between rounds. Every round runs
    the sides in another order.

    Args:
        loaded: the model; it is left untouched.
        options: name of a side -> keyword arguments of `turbo.accelerate`.
        rivals: name of a side -> a function that patches the model it is given, in place.
        compiled: time each side compiled with torch.compile, as one graph where that is possible. FLOPs are counted
            before.
        batch: images per call.
        rounds: how many times each side is timed, after one round of warm-up.
        memory: measure peak memory too (one more call per side).
        on_round: called after each round, for a progress display.

    Returns:
        The comparison; its first side is the untouched model.

    Raises:
        TurboError: the model is accelerated already, two sides have one name, or a side cannot be made or compiled
            (rivals that cannot be compiled are left out, see `Comparison.failed`).

    Examples:
        >>> from turbo.models import load_model
        >>> result = compare(load_model("zoo:vit-digits"), {"drop=20": {"drop": 20}}, rounds=1, memory=False)
        >>> [side.name for side in result.sides]
        ['untouched', 'drop=20']
    """
    if find_accelerations(loaded.model):
        raise TurboError(f"{loaded.name} is accelerated already: turbo.restore(model) first, to time it untouched")
    rivals = dict(rivals or {})
    if twice := [name for name in (UNTOUCHED, *rivals) if name in options] or [UNTOUCHED] * (UNTOUCHED in rivals):
        raise TurboError(f"two sides are called {twice[0]!r}: give each its own name")
    hold_allocator()
    adapter = next((found for each in options.values() if (found := each.get("adapter")) is not None), None)
    block = last_block(loaded.model, adapter)
    patches: dict[str, Patch] = {UNTOUCHED: lambda model: None}
    patches |= {name: _accelerator(arguments) for name, arguments in options.items()}
    images = loaded.example(batch)
    with torch.inference_mode(), room_for_sides() if compiled else nullcontext():
        sides, failed = prepare_sides(
            loaded, patches | rivals, images, block, compiled=compiled, memory=memory, spare=rivals
        )
        calls = {name: side.call for name, side in sides.items()}
        seconds = interleave(calls, rounds=rounds, device=images.device, on_round=on_round)
    results = tuple(_result(name, side, sides[UNTOUCHED], seconds) for name, side in sides.items())
    dtype = str(images.dtype).removeprefix("torch.")
    where = machine(images.device)
    return Comparison(loaded.name, batch, loaded.image_size, dtype, compiled, where, results, failed)


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


def _accelerator(arguments: Mapping[str, Any]) -> Patch:
    return lambda model: turbo.accelerate(model, **arguments)


def _result(name: str, side: Prepared, untouched: Prepared, seconds: Mapping[str, list[float]]) -> Side:
    speedup = median_ratio(seconds[UNTOUCHED], seconds[name])
    ideal = untouched.flops / side.flops
    return Side(
        name=name,
        seconds=tuple(seconds[name]),
        spread=quartiles(seconds[name]),
        gflops=side.flops / 1e9,
        peak_mb=side.peak / 1e6,
        speedup=speedup,
        ideal=ideal,
        efficiency=speedup / ideal,
        tokens=side.tokens,
        compile_seconds=side.compile_seconds,
        whole_graph=side.whole_graph,
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
