"""Writes the cards of the zoo's vision-language models: ``python -m turbo.evaluation.cards``.

Each card has the model's scores on held-out scenes of both grounds, as measured here on the weights that are shipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from turbo import zoo
from turbo.allocator import hold_allocator
from turbo.evaluation.data import Data
from turbo.evaluation.data.sources import Task, load_data
from turbo.evaluation.metrics.intervals import mean_interval
from turbo.evaluation.tasks.choice import JOBS
from turbo.evaluation.tasks.inputs import load_inputs
from turbo.evaluation.tasks.job import Decoding
from turbo.models import load_model

SCENES = 1000
ABOUT: dict[str, tuple[tuple[Task, ...], str, str]] = {
    "clip-scenes": (
        ("retrieval", "classification"),
        "finds scenes by their captions and captions by their scenes",
        "a contrastive loss over the captions of the batch and of the six before it",
    ),
    "blip-scenes": (
        ("captioning",),
        "writes captions of scenes",
        "the caption's negative log-likelihood, and a contrastive loss on the CLS token",
    ),
    "blip-vqa-scenes": (
        ("vqa",),
        "answers questions about scenes with one word",
        "the answer's negative log-likelihood, starting from blip-scenes' tower and decoder",
    ),
    "blip-itm-scenes": (
        ("matching", "retrieval"),
        'tells whether a text matches a scene, but not "left of" from "above"',
        "cross-entropy of the matching head and a contrastive loss, on the tower of blip-vqa-scenes as it is",
    ),
}


def scores(name: str, count: int) -> dict[str, dict[str, str]]:
    """Measures a model untouched: metric -> ground -> mean and half-width of its 95% interval."""
    loaded = load_model(f"zoo:{name}")
    inputs = load_inputs(loaded)
    rows: dict[str, dict[str, str]] = {}
    for task in ABOUT[name][0]:
        for data in load_data("scenes", task, limit=count):
            job = JOBS[task](loaded, inputs, data, 50, Decoding(max_length=32, min_length=0))
            with torch.inference_mode():
                outcome = job.outcome()
            ground = _ground(data)
            for metric, values in outcome.per_example.items():
                found = mean_interval(values)
                rows.setdefault(f"{task}: {metric}", {})[ground] = f"{found.value:.3f} ± {found.half_width:.3f}"
            for metric, value in outcome.corpus.items():
                rows.setdefault(f"{task}: {metric}", {})[ground] = f"{value:.3f}"
    return rows


def _ground(data: Data) -> str:
    return "plain" if "plain" in data.name else "distractors"


def card(name: str, record: dict[str, Any], rows: dict[str, dict[str, str]], count: int) -> str:
    """Writes a model card."""
    _, does, loss = ABOUT[name]
    model = zoo.load(name)
    parameters = sum(weight.numel() for weight in model.parameters())
    table = "\n".join(f"| {metric} | {row['plain']} | {row['distractors']} |" for metric, row in rows.items())
    return f"""# {name}

A `{type(model).__name__}` of transformers ({parameters:,} parameters; 197 tokens, 6 blocks) that {does}. Trained from
scratch for this library; the weights are under the library's licence (Apache-2.0).

- **Data:** scenes drawn by `turbo/zoo/scenes.py`, half of them on either ground. Digits are scikit-learn's bundled
  `load_digits` (UCI "Optical Recognition of Handwritten Digits", CC BY 4.0), 1,197 of its 1,797 scans; no held-out
  scan or stroke was ever seen.
- **Training:** {loss}, and losses of heads that are not kept (`turbo/zoo/learning.py`); {record["images"]:,} images in
  {record["steps"]:,} steps.
- **Command:** `{record["command"]}`
- **Time:** {record["minutes"]} minutes on {record["machine"]}{record.get("note", "")}.
- **Weights:** float16; `turbo.zoo.load("{name}")` gives float32.
- **Processor:** `transformers.AutoProcessor.from_pretrained(turbo.zoo.folder("{name}"))`.

Scores on {count:,} held-out scenes of each ground, mean and half-width of the 95% interval
(`python -m turbo.evaluation.cards {name}`):

| metric | plain | distractors |
| --- | --- | --- |
{table}

The schedule follows the clock, so a second run, or another machine, gives other weights. The model is for tests and
measurements of token merging, and for nothing else.
"""


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ABOUT)}; all by default")
    parser.add_argument("--count", type=int, default=SCENES, help="scenes of each ground")
    options = parser.parse_args()
    hold_allocator()
    if unknown := [name for name in options.names if name not in ABOUT]:
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(ABOUT)}")
    for name in options.names or list(ABOUT):
        path: Path = zoo.folder(name)
        record = json.loads((path / "training.json").read_text())
        (path / "README.md").write_text(card(name, record, scores(name, options.count), options.count))
        print(f"written to {path / 'README.md'}")


if __name__ == "__main__":
    main()
