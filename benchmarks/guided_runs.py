"""Settings with other sources of A, measured on the zoo's models: what the scripts about A share.

Each setting runs on the same scenes of both grounds. What has been measured is kept, so a run that stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from guides import Source, guided
from questions import FIXED

import turbo
from turbo.bench.compare import machine
from turbo.bench.folder import write_rows, write_whole
from turbo.cli.progress import progress
from turbo.evaluation.data.sources import load_data
from turbo.evaluation.metrics.intervals import mean_interval, paired_interval
from turbo.evaluation.tasks.choice import JOBS
from turbo.evaluation.tasks.embeddings import embed_images
from turbo.evaluation.tasks.inputs import load_inputs
from turbo.evaluation.tasks.job import Decoding, Job
from turbo.fusion import S1, ToMe, Ward
from turbo.models import LoadedModel, load_model
from turbo.zoo.paint import GROUNDS

SEEDS = {"validation": (0,), "test": (0, 1, 2)}
COUNT = 250  # scenes of each ground and seed
STRATEGIES = {"tome": ToMe(), "ward": Ward(), "s1": S1()}
TASKS = {"blip-scenes": "captioning", "clip-scenes": "retrieval", "pool-scenes": "retrieval"}

Values = dict[str, list[float]]


@dataclass(frozen=True)
class Guided:
    """One way to accelerate a model.

    Attributes:
        strategy: one of `STRATEGIES`.
        speedup: of the blocks' FLOPs.
        source: what it is called.
        make: it makes A; None leaves it to the library.
    """

    strategy: str
    speedup: float
    source: str
    make: Source | None = None

    @property
    def key(self) -> str:
        """What its file is called."""
        return f"{self.strategy} {self.speedup} {self.source}"


def load(name: str, weights: Path | None = None) -> tuple[LoadedModel, Any]:
    """A model of the zoo, or the tower of `pool_tower.py`, and its inputs."""
    if name != "pool-scenes":
        loaded = load_model(f"zoo:{name}")
        return loaded, load_inputs(loaded)
    from pool_tower import PoolScenes

    model: Any = PoolScenes(weights).train(False)
    return LoadedModel(name, model, (112, 112), model.get_image_features), load_inputs(load_model("zoo:clip-scenes"))


def jobs(name: str, split: str, loaded: LoadedModel, inputs: Any) -> Iterator[tuple[str, Job[Any]]]:
    """What a model is measured on: a name for each ground and seed, and the job."""
    task: Any = TASKS.get(name, "classification")
    for seed in SEEDS[split]:
        source = "digits" if task == "classification" else "scenes"
        parts = load_data(source, task, split=split, limit=COUNT, seed=seed)
        for data, ground in zip(parts, GROUNDS, strict=True):
            yield f"{ground}-{seed}", JOBS[task](loaded, inputs, data, 64, Decoding(1, 32, 0, generate=False))


def run(job: Job[Any], folder: Path, wanted: Sequence[Guided], *, hide_first: bool = False) -> None:
    """Measures the settings that are not measured yet.

    Args:
        job: on one ground and seed.
        folder: where the values of each example go.
        wanted: the settings.
        hide_first: see `guided`.
    """
    values, untouched = _measure(job)
    write_whole(folder / "untouched.json", json.dumps(values))
    with progress(f"{job.loaded.name}, {job.data.name}", steps=len(wanted)) as advance:
        for setting in wanted:
            path = folder / f"{setting.key}.json"
            if not path.exists():
                chosen = {"strategy": STRATEGIES[setting.strategy], "speedup": setting.speedup, **FIXED}
                with ExitStack() as stack:
                    stack.enter_context(turbo.accelerated(job.model, **chosen))
                    if setting.make is not None:
                        stack.enter_context(guided(setting.make, hide_first=hide_first))
                    values, embedded = _measure(job)
                if embedded is not None and untouched is not None:
                    values["distance"] = (1 - (embedded * untouched).sum(1).double()).tolist()
                rounded = {metric: np.round(row, 7).tolist() for metric, row in values.items()}
                write_whole(path, json.dumps(rounded))
            advance()


def _measure(job: Job[Any]) -> tuple[Values, torch.Tensor | None]:
    """The values of each example, and the embeddings of a model that has some."""
    embedded: list[torch.Tensor] = []

    def noting(model: Any, pixels: torch.Tensor) -> torch.Tensor:
        embedded.append(embed_images(model, pixels))
        return embedded[-1]

    with torch.inference_mode(), patch("turbo.evaluation.tasks.finding.embed_images", noting):
        values = {"nll": list(job.outcome().per_example["nll"])}
    return values, torch.cat(embedded) if embedded else None


def rows(
    name: str, split: str, folder: Path, wanted: Sequence[Guided], against: Callable[[Guided], Guided]
) -> Iterator[dict[str, Any]]:
    """A row for each setting and metric: its mean, and the paired difference to another setting.

    Args:
        name: of the model.
        split: of the data.
        folder: of the model's grounds and seeds.
        wanted: the settings.
        against: which setting each is compared with.
    """
    parts = [folder / f"{ground}-{seed}" for ground in GROUNDS for seed in SEEDS[split]]
    # The grounds show the same objects.
    groups = [seed * COUNT + scene for _ in GROUNDS for seed in SEEDS[split] for scene in range(COUNT)]

    def values(key: str, metric: str) -> list[float]:
        return [value for part in parts for value in json.loads((part / f"{key}.json").read_text())[metric]]

    for setting in wanted:
        for metric in json.loads((parts[0] / f"{setting.key}.json").read_text()):
            own = values(setting.key, metric)
            difference = paired_interval(own, values(against(setting).key, metric), groups)
            yield {
                "model": name,
                "metric": metric,
                "strategy": setting.strategy,
                "speedup": setting.speedup,
                "source": setting.source,
                "mean": round(mean_interval(own).value, 6),
                "difference": round(difference.value, 6),
                "half_width": round(difference.half_width, 6),
                "examples": difference.count,
            }


def write_record(path: Path, command: str, parts: dict[str, list[dict[str, Any]]]) -> None:
    """Writes rows with what made them."""
    write_rows(path, {"command": command, "machine": machine(torch.device("cpu"))}, parts)
