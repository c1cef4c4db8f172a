"""The questions that decide turbo's defaults, answered on the zoo's models.

    python benchmarks/defaults.py --split validation    # chooses; about 80 minutes on 2 cores
    python benchmarks/defaults.py --split test          # reports

Each setting runs on the same scenes of both grounds, drawn with three seeds. The main figure is the negative
log-likelihood (nats) of the right caption, answer, match or class: it has the least noise. Results, with 95% intervals
and paired differences to the setting each is compared with, go to benchmarks/results/defaults-SPLIT.json. What has been
measured is kept under --out, so a run that stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablations import Blended, BlendedWard, BothEnds, PerPatch, Tempered, no_sizes, sized_cross_attention

import turbo
from turbo.allocator import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.folder import claim
from turbo.cli.progress import progress
from turbo.evaluation.data.sources import load_data
from turbo.evaluation.metrics.intervals import mean_interval, paired_interval
from turbo.evaluation.run import run_record
from turbo.evaluation.tasks.choice import JOBS, find_task
from turbo.evaluation.tasks.inputs import load_inputs
from turbo.evaluation.tasks.job import Decoding, Job
from turbo.fusion import S1, S2, S3, S4, Attention, Bound, Distortion, Random, ToMe, Ward
from turbo.models import load_model
from turbo.zoo.paint import GROUNDS

MODELS = {
    "blip-scenes": "scenes",
    "blip-vqa-scenes": "scenes",
    "clip-scenes": "scenes",
    "vit-digits": "digits",
}
SEEDS = (0, 1, 2)
DECODING = Decoding(beams=1, max_length=32, min_length=0)
AMOUNTS = (1.5, 2.0, 2.5)
KEPT = ("nll", "exact", "digit", "small", "accuracy", "mean_r1", "top1")  # metrics in the results
STRATEGIES: dict[str, Any] = {
    "tome": ToMe(),
    "attention": Attention(),
    "random": Random(),
    **{f"s1 alpha={alpha:g}": S1(alpha) for alpha in (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)},
    "s2": S2(),
    **{f"s3 alpha={alpha:g}": S3(alpha) for alpha in (0.1, 0.25, 0.5)},
    "s4 alpha=0.25 beta=0.9": S4(alpha=0.25, beta=0.9, gamma=0),
    "s4 alpha=0.25 beta=1.1": S4(alpha=0.25, beta=1.1, gamma=0),
    "bound": Bound(),
    "ward": Ward(),
    "distortion": Distortion(),
    **{f"bound, A^{power:g}": Tempered(power) for power in (0.25, 0.5)},
    **{f"bound, A + {floor:g}": Blended(floor) for floor in (0.3, 1.0, 3.0)},
    "ward, A + 1": BlendedWard(1.0),
}
FEW = ("tome", "s1 alpha=0.25", "ward")


@dataclass(frozen=True)
class Setting:
    """One way to accelerate a model.

    Attributes:
        question: what it helps to answer.
        name: says what differs from the others of the question.
        options: of `turbo.accelerate`.
        against: name of the setting of the same question that it is compared with.
        change: a context in which the accelerated model runs.
    """

    question: str
    name: str
    options: dict[str, Any] = field(hash=False)
    against: str
    change: Callable[[Any], Any] | None = None


def settings(model: str) -> Iterator[Setting]:
    """All settings of a model."""
    for shape in ("decreasing", "constant"):
        for amount in AMOUNTS:
            for name, strategy in STRATEGIES.items():
                yield _setting(f"strategy, {shape}, {amount}x", name, "tome", amount, strategy, schedule=shape)
    for amount in (*AMOUNTS, 3.0):
        for name in FEW:
            question = f"schedule, {name}, {amount}x"
            for shape in ("constant", "decreasing", "increasing", "early"):
                yield _setting(question, shape, "constant", amount, STRATEGIES[name], schedule=shape)
            for share in (0.25, 0.45):
                held = {"schedule": "constant", "threshold": round(share * TOKENS[model])}
                yield _setting(
                    question, f"constant, threshold {share:.0%}", "constant", amount, STRATEGIES[name], **held
                )
    for amount in (2.0, 2.5):
        for shape in ("decreasing", "constant"):
            for name in FEW:
                for halves in ("parity", "ordered", "alternating"):
                    yield _setting(
                        f"partition, {name}, {shape}, {amount}x", halves, "parity", amount, STRATEGIES[name],
                        schedule=shape, destinations=halves,
                    )  # fmt: skip
        yield from _units(amount)
        yield from _details(model, amount)


def _units(amount: float) -> Iterator[Setting]:
    question = f"units of A, S1, {amount}x"
    yield _setting(question, "relative, alpha=0.25", "relative, alpha=0.25", amount, S1(0.25))
    for alpha, why in ((6.0, "as printed"), (180.0, "as printed, times 30")):
        yield _setting(
            question, f"probability, alpha={alpha:g} ({why})", "relative, alpha=0.25", amount, S1(alpha),
            semantic_units="probability",
        )  # fmt: skip


def _details(model: str, amount: float) -> Iterator[Setting]:
    s1 = S1(0.25)
    for name in FEW:
        for metric in ("keys", "queries"):
            yield _setting(f"metric, {name}, {amount}x", metric, "keys", amount, STRATEGIES[name], metric=metric)
    for name, strategy in (("s1 alpha=0.25", s1), ("bound", Bound()), ("ward", Ward())):
        question = f"A of a merged token, {name}, {amount}x"
        yield _setting(question, "of all its patches", "of all its patches", amount, strategy)
        yield _setting(question, "of one of them", "of all its patches", amount, PerPatch(strategy))
    question = f"whom A protects, S1, {amount}x"
    yield _setting(question, "the source", "the source", amount, s1)
    yield _setting(question, "both, by the greater", "the source", amount, BothEnds(0.25))
    yield _setting(question, "both, by the sum", "the source", amount, BothEnds(0.25, sum=True))
    question = f"log s in the blocks, S1, {amount}x"
    yield _setting(question, "with", "with", amount, s1)
    yield _setting(question, "without", "with", amount, s1, change=no_sizes)
    if model == "blip-scenes":
        question = f"log s in the text's cross-attention, S1, {amount}x"
        yield _setting(question, "without", "without", amount, s1)
        yield _setting(question, "with", "without", amount, s1, change=sized_cross_attention)


def _setting(
    question: str, name: str, against: str, amount: float, strategy: Any, change: Any = None, **options: Any
) -> Setting:
    return Setting(question, name, {"strategy": strategy, "speedup": amount, **options}, against, change)


TOKENS = {"blip-scenes": 197, "blip-vqa-scenes": 197, "clip-scenes": 197, "vit-digits": 257}


def measure(job: Job[Any], setting: Setting | None) -> dict[str, list[float]]:
    """The values of each example in a setting; None is the untouched model."""
    with torch.inference_mode(), ExitStack() as stack:
        if setting is not None:
            model = stack.enter_context(turbo.accelerated(job.model, **setting.options))
            if setting.change is not None:
                stack.enter_context(setting.change(model))
        return {name: list(values) for name, values in job.outcome().per_example.items()}


def key(setting: Setting | None) -> str:
    """What a setting's file is called: equal settings of two questions share it."""
    if setting is None:
        return "untouched"
    change = [] if setting.change is None else [setting.change.__name__]
    defaults = {"schedule": "decreasing", "destinations": "parity", "metric": "keys"}
    chosen = [f"{name}={value}" for name, value in setting.options.items() if defaults.get(name) != value]
    return " ".join([*chosen, *change]).replace("/", "-")


def run(model: str, split: str, count: int, out: Path) -> None:
    """Measures all settings of a model that are not measured yet."""
    loaded = load_model(f"zoo:{model}")
    inputs = load_inputs(loaded)
    task = find_task(loaded, MODELS[model])
    unique = {key(setting): setting for setting in settings(model)} | {"untouched": None}
    for seed in SEEDS:
        parts = load_data(MODELS[model], task, split=split, limit=count, seed=seed)
        for data, ground in zip(parts, GROUNDS, strict=True):
            folder = out / split / model / f"{ground}-{seed}"
            claim(folder, run_record(loaded, task, DECODING) | {"data": data.name, "count": count}, "outcomes")
            job = JOBS[task](loaded, inputs, data, 64, DECODING)
            missing = {name: setting for name, setting in unique.items() if not (folder / f"{name}.json").exists()}
            with progress(f"{model}, {data.name}", steps=len(missing)) as advance:
                for name, setting in missing.items():
                    values = {metric: np.round(row, 5).tolist() for metric, row in measure(job, setting).items()}
                    (folder / f"{name}.json").write_text(json.dumps(values))
                    advance()


def collect(model: str, split: str, out: Path) -> list[dict[str, Any]]:
    """A row for each setting, ground and metric: mean, interval, and the difference to what it is compared with."""
    rows = []
    for ground in GROUNDS:
        folders = [out / split / model / f"{ground}-{seed}" for seed in SEEDS]

        def values(name: str, folders: list[Path] = folders) -> list[dict[str, list[float]]]:
            return [json.loads((folder / f"{name}.json").read_text()) for folder in folders]

        named = {(setting.question, setting.name): setting for setting in settings(model)}
        rows += _rows(ground, "untouched", "untouched", values("untouched"), values("untouched"))
        for setting in named.values():
            other = named[setting.question, setting.against]
            rows += _rows(ground, setting.question, setting.name, values(key(setting)), values(key(other)))
    return [{"model": model, **row} for row in rows]


def _rows(ground: str, question: str, name: str, mine: list[Any], other: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for metric in [name for name in KEPT if name in mine[0]]:
        own, compared = (np.concatenate([np.array(part[metric], float) for part in side]) for side in (mine, other))
        mean, difference = mean_interval(own), paired_interval(own, compared)
        seeds = [
            float(np.nanmean(np.array(a[metric], float)) - np.nanmean(np.array(b[metric], float)))
            for a, b in zip(mine, other, strict=True)
        ]
        rows.append(
            {
                "ground": ground,
                "question": question,
                "name": name,
                "metric": metric,
                "mean": round(mean.value, 5),
                "half_width": round(mean.half_width, 5),
                "difference": round(difference.value, 5),
                "difference_half_width": round(difference.half_width, 5),
                "difference_by_seed": [round(each, 5) for each in seeds],
                "examples": mean.count,
            }
        )
    return rows


def main() -> None:
    """Measures, collects and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--count", type=int, default=300, help="scenes of each ground and seed")
    parser.add_argument("--out", type=Path, default=Path("out/defaults"))
    options = parser.parse_args()
    hold_allocator()
    for model in options.models:
        run(model, options.split, options.count, options.out)
    rows = [row for model in options.models for row in collect(model, options.split, options.out)]
    record = {
        "command": "python benchmarks/defaults.py " + " ".join(sys.argv[1:]),
        "seeds": SEEDS,
        "machine": machine(torch.device("cpu")),
    }
    path = Path(__file__).parent / "results" / f"defaults-{options.split}.json"
    lines = ",\n".join(json.dumps(row) for row in rows)  # a line for each: changes can be read
    path.write_text(f'{json.dumps(record)[:-1]}, "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
