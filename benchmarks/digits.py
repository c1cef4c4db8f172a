"""What the benchmarks of the digits model share: its scenes, its scores, and the record that they are kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turbo import zoo
from turbo.bench.compare import machine

Part = tuple[Tensor, Tensor]
"""Images, ready for the model, and their labels."""


def load_parts(split: str, count: int, seeds: tuple[int, ...]) -> list[Part]:
    """`count` scenes of a split for each seed."""
    scenes = [zoo.digit_scenes(split, count, seed=seed) for seed in seeds]
    return [(zoo.preprocess(images), torch.from_numpy(labels)) for images, labels in scenes]


def score_parts(model: nn.Module, parts: list[Part]) -> dict[str, list[float]]:
    """Mean negative log-likelihood of the right digit, and accuracy, of each part."""
    scores = [score(model, images, labels) for images, labels in parts]
    return {"nll": [nll for nll, _ in scores], "accuracy": [accuracy for _, accuracy in scores]}


@torch.inference_mode()
def score(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean negative log-likelihood of the right digit, and accuracy."""
    logits = torch.cat([model(part).logits for part in torch.split(images, 100)])
    return F.cross_entropy(logits, labels).item(), (logits.argmax(dim=1) == labels).float().mean().item()


def write_record(name: str, script: str, record: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json: the command and the machine, then the record."""
    head = {"command": f"python benchmarks/{script}.py", "machine": machine(torch.device("cpu"))}
    target = Path(__file__).parent / "results" / f"{name}.json"
    target.write_text(json.dumps(head | record, indent=1) + "\n")
