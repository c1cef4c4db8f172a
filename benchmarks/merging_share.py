"""Where the time of scoring and merging goes: ``python benchmarks/merging_share.py [CASE...] [--rounds K]``.

Cases are those of `speed.py`. The functions that a block calls are wrapped with a clock, on a CPU, where a function has
done its work when it returns. Beside it the limit is timed: the same model, the same counts, but the last tokens are
just cut off, with no scoring and no sizes. The record is benchmarks/results/merging-share.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from speed_cases import Run, choose
from torch import nn

import turbo
from turbo.allocator import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.copies import copy_loaded
from turbo.bench.counting import count_flops
from turbo.bench.folder import write_json
from turbo.bench.timing import interleave
from turbo.engine import runners, score
from turbo.engine.runner import runner_of
from turbo.engine.runners import BlockRunner
from turbo.engine.times import median_ratio
from turbo.errors import TurboError

OUT = Path(__file__).parent / "results" / "merging-share.json"
DEFAULT = ("vit-b16-384", "vit-b16-224", "vit-b16-1024", "timm-l14-336-1", "timm-l14-336-4")

PARTS: dict[str, list[tuple[ModuleType, str]]] = {
    "metric": [(score, "token_metric")],
    "similarity": [(score, "mutual_redundancy")],
    "A": [(score, "semantic_value"), (score, "running_value"), (runners, "add_up")],
    "choice": [(score, "select")],
    "merge": [(runners, "merge")],
}
"""A part's name -> the functions that it is made of, where blocks look them up."""
WHOLE = [(runners, "match_tokens"), (runners, "merge"), (runners, "add_up")]
"""What holds all parts, and what is between them: the strategy, its candidates, checks."""

Seconds = defaultdict[str, float]


def measure(run: Run, rounds: int) -> dict[str, Any]:
    """The share of each part in a forward pass with s1, and how close s1 and the limit come to what FLOPs allow.

    Args:
        run: which model, batch and drop.
        rounds: forward passes of each side, after one that does not count; all in turn.
    """
    hold_allocator()
    loaded = run.load()
    images = loaded.example(run.batch)
    sides = {"untouched": loaded, **{name: copy_loaded(loaded) for name in ("s1", "cut")}}
    turbo.accelerate(sides["s1"].model, "s1", drop=run.drop)
    cut_off(turbo.accelerate(sides["cut"].model, "s1", drop=run.drop))
    parts: list[Seconds] = []

    def clocked_call() -> None:
        with clocks() as seconds:
            sides["s1"].images(images)
        parts.append(seconds)

    with torch.inference_mode():
        calls = {name: partial(side.images, images) for name, side in sides.items()}
        flops = {name: count_flops(call) for name, call in calls.items()}
        took = interleave({**calls, "s1": clocked_call}, rounds=rounds)
    shares = [
        {name: each[name] / all_ for name in (*PARTS, "all")}
        for each, all_ in zip(parts[-rounds:], took["s1"], strict=True)
    ]
    speedup = {name: median_ratio(took["untouched"], took[name]) for name in ("s1", "cut")}
    return {
        "title": run.title,
        "batch": run.batch,
        "drop": run.drop,
        "seconds": {name: statistics.median(each) for name, each in took.items()},
        "efficiency": {name: each * flops[name] / flops["untouched"] for name, each in speedup.items()},
        "share": {name: statistics.median(each[name] for each in shares) for name in (*PARTS, "all")},
    }


def cut_off(model: nn.Module) -> None:
    """Make an accelerated model drop its last tokens in place of merging any."""
    for module in model.modules():
        runner: Any = runner_of(module, "forward")
        if isinstance(runner, BlockRunner):
            runner._match = lambda q, k, size, value, drop: drop
            runner._merge = lambda x, size, drop: (x[:, : x.shape[1] - drop].contiguous(), None, None, None)


@contextmanager
def clocks() -> Iterator[Seconds]:
    """Clocks around all parts; yields what they add up to, by part, and as "all"."""
    seconds: Seconds = defaultdict(float)
    with ExitStack() as stack:
        for name, functions in [*PARTS.items(), ("all", WHOLE)]:
            for module, function in functions:
                stack.enter_context(patch.object(module, function, clocked(getattr(module, function), name, seconds)))
        yield seconds


def clocked(function: Callable[..., Any], name: str, seconds: Seconds) -> Callable[..., Any]:
    """The function, its time added to that of a part."""

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - start

    return call


def main(arguments: list[str] | None = None) -> int:
    """Measures the cases and writes the record; the exit status is 2 after an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of speed.py; default: {' '.join(DEFAULT)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    options = parser.parse_args(arguments)
    try:
        runs = [measure(run, options.rounds) for case in choose(options.cases or list(DEFAULT)) for run in case.runs]
    except TurboError as error:
        print(error, file=sys.stderr)
        return 2
    command = " ".join(["python benchmarks/merging_share.py", *options.cases, f"--rounds {options.rounds}"])
    record = {"command": command, "rounds": options.rounds, "machine": machine(torch.device("cpu")), "runs": runs}
    write_json(options.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
