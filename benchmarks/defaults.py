"""The questions that decide turbo's defaults, answered on the zoo's models.

    python benchmarks/defaults.py --split validation    # chooses; about two hours on one core
    python benchmarks/defaults.py --split test          # reports

Each setting runs on the same scenes of both grounds, drawn with three seeds. The main figure is the negative
log-likelihood (nats) of the right caption, answer or match: it has the least noise. Results, with 95% intervals
and paired differences to the setting each is compared with, go to benchmarks/results/defaults-SPLIT.json; those of some
of the models, or of another number of scenes, stay under --out. What has been measured is kept there, so a run that
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from questions import FIXED, Setting, settings

import turbo
from turbo.allocator import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.folder import claim, write_rows, write_whole
from turbo.cli.progress import progress
from turbo.evaluation.data import Questions
from turbo.evaluation.data.sources import load_data
from turbo.evaluation.metrics.intervals import disjoint, mean_interval, paired_interval
from turbo.evaluation.run import run_record
from turbo.evaluation.tasks.choice import JOBS, find_task
from turbo.evaluation.tasks.inputs import load_inputs
from turbo.evaluation.tasks.job import Decoding, Job
from turbo.models import load_model
from turbo.zoo.paint import GROUNDS

MODELS = ("blip-scenes", "blip-vqa-scenes", "clip-scenes")
DATA = "scenes"
SEEDS = (0, 1, 2)
DECODING = Decoding(beams=1, max_length=32, min_length=0)
# On the test part retrieval takes more: few of its scenes are hard, and they decide.
COUNTS = {("test", model): 400 if model == "clip-scenes" else 300 for model in MODELS}
GROUPS = "groups.json"  # beside the outcomes: which scene each example is about
KEPT = ("nll", "exact", "digit", "small", "accuracy", "mean_r1")  # metrics in the results


def measure(job: Job[Any], setting: Setting | None) -> dict[str, list[float]]:
    """The values of each example in a setting; None is the untouched model."""
    with torch.inference_mode(), ExitStack() as stack:
        if setting is not None:
            part = job.model if setting.whole else job.model.vision_model
            model = stack.enter_context(turbo.accelerated(part, **setting.options))
            if setting.change is not None:
                stack.enter_context(setting.change(model))
        return {name: list(values) for name, values in job.outcome().per_example.items()}


def run(model: str, split: str, count: int, out: Path) -> None:
    """Measures all settings of a model that are not measured yet."""
    loaded = load_model(f"zoo:{model}")
    inputs = load_inputs(loaded)
    task = find_task(loaded, DATA)
    # What validation chooses by needs no texts, and writing them takes most of the time.
    decoding = replace(DECODING, generate=split == "test")
    about = run_record(loaded, task, decoding) | FIXED
    unique: dict[str, Setting | None] = {"untouched": None, **{each.key: each for each in settings(model, split)}}
    for seed in SEEDS:
        parts = load_data(DATA, task, split=split, limit=count, seed=seed)
        for data, ground in zip(parts, GROUNDS, strict=True):
            folder = out / split / model / f"{ground}-{seed}"
            claim(folder, about | {"data": data.name, "count": count}, "outcomes")
            groups = list(data.image_of) if isinstance(data, Questions) else None
            (folder / GROUPS).write_text(json.dumps(groups))
            job = JOBS[task](loaded, inputs, data, 64, decoding)
            missing = {name: setting for name, setting in unique.items() if not (folder / f"{name}.json").exists()}
            with progress(f"{model}, {data.name}", steps=len(missing)) as advance:
                for name, setting in missing.items():
                    values = {metric: np.round(row, 5).tolist() for metric, row in measure(job, setting).items()}
                    write_whole(folder / f"{name}.json", json.dumps(values))
                    advance()


def collect(model: str, split: str, out: Path) -> list[dict[str, Any]]:
    """A row for each setting, ground and metric: mean, interval, and the difference to what it is compared with."""
    rows = []
    for ground in GROUNDS:
        folders = [out / split / model / f"{ground}-{seed}" for seed in SEEDS]

        def values(name: str, folders: list[Path] = folders) -> list[dict[str, list[float]]]:
            return [json.loads((folder / f"{name}.json").read_text()) for folder in folders]

        groups = disjoint([json.loads((folder / GROUPS).read_text()) for folder in folders])
        named = {(setting.question, setting.name): setting for setting in settings(model, split)}
        head = {"model": model, "ground": ground}
        untouched = values("untouched")
        names = {"question": "untouched", "name": "untouched", "against": "untouched"}
        rows += [{**head, **names, **row} for row in _rows(untouched, untouched, groups)]
        for setting in named.values():
            other = named[setting.question, setting.against]
            names = {"question": setting.question, "name": setting.name, "against": setting.against}
            rows += [{**head, **names, **row} for row in _rows(values(setting.key), values(other.key), groups)]
    return rows


def _rows(mine: list[Any], other: list[Any], groups: list[int] | None) -> list[dict[str, Any]]:
    rows = []
    for metric in [name for name in KEPT if name in mine[0]]:
        own, compared = (np.concatenate([np.array(part[metric], float) for part in side]) for side in (mine, other))
        mean, difference = mean_interval(own, groups), paired_interval(own, compared, groups)
        seeds = [
            float(np.nanmean(np.array(a[metric], float)) - np.nanmean(np.array(b[metric], float)))
            for a, b in zip(mine, other, strict=True)
        ]
        rows.append(
            {
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
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--count", type=int, help="scenes of each ground and seed; by default 250, on test 300 or more")
    parser.add_argument("--out", type=Path, default=Path("out/defaults"))
    options = parser.parse_args()
    hold_allocator()
    for model in options.models:
        run(model, options.split, options.count or COUNTS.get((options.split, model), 250), options.out)
    rows = [row for model in options.models for row in collect(model, options.split, options.out)]
    record = {
        "command": f"python benchmarks/defaults.py --split {options.split}",
        "seeds": SEEDS,
        "machine": machine(torch.device("cpu")),
    }
    whole = options.models == list(MODELS) and options.count is None
    path = (Path(__file__).parent / "results" if whole else options.out) / f"defaults-{options.split}.json"
    write_rows(path, record, {"rows": rows})


if __name__ == "__main__":
    main()
