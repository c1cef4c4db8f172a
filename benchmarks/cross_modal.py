"""Merging image tokens in the tower, between a text's layers, or in both: ``python benchmarks/cross_modal.py``.

Quality on the zoo's models whose text reads the image, at equal numbers of image tokens before the last text layer:
negative log-likelihood (nats) of the right answer or match, paired with the tower's merging alone. Time on a full-size
model with random weights, of the tower and the text encoder, all sides in turn. The record is
benchmarks/results/cross-modal.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import turbo
from turbo.allocator import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.copies import copy_sharing
from turbo.bench.counting import count_flops
from turbo.bench.folder import write_json
from turbo.bench.timing import interleave, quartiles
from turbo.drops import share_out
from turbo.engine.times import median_ratio
from turbo.evaluation.data.sources import load_data
from turbo.evaluation.metrics.intervals import disjoint, mean_interval, paired_interval
from turbo.evaluation.run import evaluate
from turbo.evaluation.tasks.choice import find_task
from turbo.evaluation.tasks.job import Decoding
from turbo.models import load_model
from turbo.zoo.paint import GROUNDS

OUT = Path(__file__).parent / "results" / "cross-modal.json"
ZOO = ("blip-vqa-scenes", "blip-itm-scenes")
LEFT = (118, 99, 60, 40)
"""Image tokens before the last text layer; 197 untouched."""
SEEDS = (0, 1, 2)
TIMED = ("blip-vqa-base-384", 4, 16)
"""Model, images, and tokens of each text."""
TIMED_SIDES: Mapping[str, dict[str, Any] | None] = {
    "untouched": None,
    "tower": {},
    **{f"text {share:g}": {"drop": 0, "cross_modal": share} for share in (0.2, 0.3)},
    **{f"both {share:g}": {"cross_modal": share} for share in (0.2, 0.3)},
}


def settings(model: Any, n: int, strategies: tuple[str, ...] = ("ward", "tome")) -> dict[str, dict[str, Any]]:
    """Every way to the same number of image tokens before the last text layer."""
    blocks, layers = len(model.vision_model.encoder.layers), len(model.text_encoder.encoder.layer)
    found: dict[str, dict[str, Any]] = {}
    for left in LEFT:
        halfway = round(math.sqrt(left * n))
        for strategy in strategies:
            for name, tower in (("tower", left), ("both", halfway), ("text", n)):
                share = 1 - (left / tower) ** (1 / (layers - 1))
                if share > 0.5:
                    continue  # half of the tokens is all that can merge after a layer
                drop = share_out("decreasing", n - tower, blocks)
                found[f"{left} {strategy} {name}"] = {"strategy": strategy, "drop": drop, "cross_modal": share}
    return found


def quality(name: str, count: int) -> list[dict[str, Any]]:
    """A row for each setting and ground: mean, interval, and the difference to the tower alone."""
    loaded = load_model(f"zoo:{name}")
    task = find_task(loaded, "scenes")
    n = loaded.model.vision_model.embeddings.num_positions
    asked = settings(loaded.model, n)
    read = {key: _read(loaded.model, options) for key, options in asked.items()}
    decoding = Decoding(beams=1, max_length=10, min_length=1, generate=False)
    parts = [load_data("scenes", task, limit=count, seed=seed) for seed in SEEDS]
    rows = []
    for place, ground in enumerate(GROUNDS):
        data = [each[place] for each in parts]
        outcomes = list(evaluate(loaded, data, asked, task=task, decoding=decoding).values())
        groups = disjoint([list(each.image_of) for each in data])
        values = {key: np.concatenate([one[key].per_example["nll"] for one in outcomes]) for key in outcomes[0]}
        for key, nll in values.items():
            left, strategy, where = ("", "", "untouched") if key == "untouched" else key.split()
            rival = key if key == "untouched" else f"{left} {strategy} tower"
            mean, difference = mean_interval(nll, groups), paired_interval(nll, values[rival], groups)
            rows.append(
                {
                    "model": name,
                    "ground": ground,
                    "left": int(left or n),
                    "strategy": strategy,
                    "where": where,
                    "read": read.get(key, [n]),
                    "nll": round(mean.value, 5),
                    "half_width": round(mean.half_width, 5),
                    "difference": round(difference.value, 5),
                    "difference_half_width": round(difference.half_width, 5),
                    "examples": mean.count,
                }
            )
    return rows


def _read(model: Any, options: dict[str, Any]) -> list[int]:
    with turbo.accelerated(model, **options):
        return list(turbo.report(model).read)


def timed(rounds: int) -> dict[str, Any]:
    """Seconds of the tower and the text encoder together, and of the text encoder alone, for each side."""
    hold_allocator()
    name, images, tokens = TIMED
    loaded = load_model(f"random:{name}")
    pixels = loaded.example(images)
    text = torch.randint(1000, 30000, (images, tokens), generator=torch.Generator().manual_seed(0))
    sides = {key: copy_sharing(loaded.model) for key in TIMED_SIDES}
    for key, options in TIMED_SIDES.items():
        if options is not None:
            turbo.accelerate(sides[key], **options)
    with torch.inference_mode():
        seen = {key: side.vision_model(pixels).last_hidden_state for key, side in sides.items()}
        alone = {key: partial(side.text_encoder, text, encoder_hidden_states=seen[key]) for key, side in sides.items()}
        both = {key: partial(_run, side, pixels, text) for key, side in sides.items()}
        flops = {what: {key: count_flops(call) for key, call in calls.items()} for what, calls in _named(alone, both)}
        took = {what: interleave(calls, rounds=rounds) for what, calls in _named(alone, both)}
    rows = [
        {
            "side": key,
            "read": [] if options is None else list(turbo.report(sides[key]).read),
            **{
                what: {
                    "seconds": quartiles(took[what][key]),
                    "speedup": median_ratio(took[what]["untouched"], took[what][key]),
                    "ideal": flops[what]["untouched"] / flops[what][key],
                }
                for what in took
            },
        }
        for key, options in TIMED_SIDES.items()
    ]
    return {"model": name, "images": images, "tokens": tokens, "rounds": rounds, "sides": rows}


def _run(model: Any, pixels: torch.Tensor, text: torch.Tensor) -> object:
    return model.text_encoder(text, encoder_hidden_states=model.vision_model(pixels).last_hidden_state)


def _named(alone: Any, both: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("text", alone), ("whole", both)


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=150, help="scenes of each ground and seed")
    parser.add_argument("--rounds", type=int, default=7, help="times each side is timed")
    parser.add_argument("--part", choices=("quality", "time"), help="measure one part anew, and keep the other")
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.part and options.out.exists() else {}
    if options.part != "time":
        rows = [row for name in ZOO for row in quality(name, options.count)]
        record["quality"] = {"scenes": options.count, "seeds": SEEDS, "rows": rows}
    if options.part != "quality":
        record["time"] = timed(options.rounds)
    command = f"python benchmarks/cross_modal.py --count {options.count} --rounds {options.rounds}"
    write_json(options.out, record | {"command": command, "machine": machine(torch.device("cpu"))})


if __name__ == "__main__":
    main()
