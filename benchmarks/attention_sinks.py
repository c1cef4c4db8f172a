"""Attention sinks: how many there are in the zoo's models, whether merging keeps them, whether A gains without them.

    python benchmarks/attention_sinks.py        # about a quarter of an hour on one core

A sink draws attention while its norm is an outlier (`guides.attention_sinks`): a *loud* one has a large norm as a
token, a *silent* one a small norm as a value. In clip-scenes they are also planted (`planted_sinks.py`). All on the
test part; results go to benchmarks/results/attention-sinks.json.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from guided_runs import STRATEGIES, Guided, jobs, load, rows, run, write_record
from guides import Source, attention_sinks, by_value_norm, capped, without_sinks
from planted_sinks import planted, train
from questions import FIXED
from torch import Tensor

import turbo
from turbo.adapters.base import ResidualBlock
from turbo.allocator import hold_allocator
from turbo.engine.detect import find_tower
from turbo.engine.trace import recording
from turbo.information import semantic_value
from turbo.models import LoadedModel
from turbo.zoo.digits import preprocess, scenes_with_ink
from turbo.zoo.paint import GROUNDS, Ground
from turbo.zoo.scenes import draw_scenes

RESULTS = Path(__file__).parent / "results" / "attention-sinks.json"
MODELS = ("blip-scenes", "blip-vqa-scenes", "clip-scenes", "vit-digits")
MEASURED = ("blip-scenes", "clip-scenes", PLANTED := "clip-scenes, planted")
AMOUNTS = (2.0, 2.5)
SOURCES: dict[str, Source | None] = {
    "class token": None,
    "times value norm": by_value_norm,
    "at most 10": capped,
    "sinks at the mean": without_sinks,
}
COUNT, BATCH = 250, 50  # scenes of each ground that sinks are counted on
SILENT = -3.0  # robust standard deviations: the values' norms are spread less
INK = 0.15  # mean opacity from which a patch belongs to the digit, as in its training


def blocks_of(model: Any) -> list[ResidualBlock]:
    """The blocks of its tower."""
    tower, _, adapter = find_tower(model, None)
    return [site for site in adapter.sites(tower) if isinstance(site, ResidualBlock)]


def scenes(name: str, ground: Ground) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels, ``b 3 h w``, and which patches an object lies on, ``b n``."""
    if name == "vit-digits":
        images, _, ink = scenes_with_ink("test", COUNT, 0, ground=ground)
        covered = torch.nn.functional.avg_pool2d(torch.from_numpy(ink)[:, None], 4).flatten(1) > INK
    else:
        drawn = draw_scenes("test", COUNT, 0, ground)
        images, covered = drawn.images, torch.from_numpy(drawn.patches()).flatten(1) >= 0
    yield from zip(preprocess(images).split(BATCH), covered.split(BATCH), strict=True)


def observed(loaded: LoadedModel, blocks: list[ResidualBlock], pixels: Tensor) -> list[dict[str, Tensor]]:
    """The sinks of each block of the untouched model, ``b n`` by kind."""
    entered: list[Tensor] = []
    hooks = [
        block.module.register_forward_pre_hook(
            lambda module, args, kwargs: entered.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
        for block in blocks
    ]
    loaded.images(pixels)
    for hook in hooks:
        hook.remove()
    found = []
    for block, x in zip(blocks, entered, strict=True):
        q, k, v = block.qkv(x)
        value = semantic_value(block.query(q), k, None, block.scale)[:, block.protected :]
        token, spoken = x[:, block.protected :].norm(dim=2), v[:, :, block.protected :].norm(dim=3).mean(1)
        loud, silent = attention_sinks(value, token), attention_sinks(value, spoken, distance=SILENT)
        found.append({"loud": loud, "silent": silent, "neither": ~(loud | silent)})
    return found


def untouched_by_merging(loaded: LoadedModel, blocks: list[ResidualBlock], pixels: Tensor, strategy: str) -> Tensor:
    """Which patches never merge at 2x, ``b n``."""
    with turbo.accelerated(loaded.model, strategy=STRATEGIES[strategy], speedup=2.0, **FIXED) as model:
        with recording(model) as trace:
            loaded.images(pixels)
        groups = trace.groups()
    sizes = torch.zeros_like(groups).scatter_add(1, groups, torch.ones_like(groups)).gather(1, groups)
    return (sizes == 1)[:, blocks[0].protected :]


@torch.inference_mode()
def count(name: str, vector: Tensor) -> list[dict[str, Any]]:
    """A row for each block: sinks of an image by kind, the share on objects, and the share that never merges."""
    loaded, _ = load(name.partition(",")[0])
    blocks = blocks_of(loaded.model)
    sums: list[Counter[str]] = [Counter() for _ in blocks]
    with planted(loaded.model, vector) if name == PLANTED else nullcontext():
        for ground in GROUNDS:
            for pixels, covered in scenes(name.partition(",")[0], ground):
                kept = {each: untouched_by_merging(loaded, blocks, pixels, each) for each in STRATEGIES}
                for total, kinds in zip(sums, observed(loaded, blocks, pixels), strict=True):
                    for kind, which in kinds.items():
                        total[kind] += int(which.sum())
                        total[f"{kind} on objects"] += int((which & covered).sum())
                        for each, alone in kept.items():
                            total[f"{kind} kept by {each}"] += int((which & alone).sum())
    return [_row(name, depth, total) for depth, total in enumerate(sums)]


def _row(name: str, depth: int, total: Counter[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name, "block": depth}
    for kind in ("loud", "silent", "neither"):
        row[f"{kind} in an image"] = round(total[kind] / (COUNT * len(GROUNDS)), 4)
        for what in ("on objects", *(f"kept by {each}" for each in STRATEGIES)):
            row[f"{kind} {what}"] = round(total[f"{kind} {what}"] / total[kind], 4) if total[kind] else None
    return row


def main() -> None:
    """Counts, measures and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/attention-sinks"))
    options = parser.parse_args()
    hold_allocator()
    loaded, _ = load("clip-scenes")
    kept = options.out / "planted.pt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(train(loaded.model, blocks_of(loaded.model)), kept)
    vector = torch.load(kept)
    counted = [row for name in (*MODELS, PLANTED) for row in count(name, vector)]
    measured: list[dict[str, Any]] = []
    wanted = [Guided(s, amount, *each) for amount in AMOUNTS for s in ("ward", "s1") for each in SOURCES.items()]
    for name in MEASURED:
        base, folder = name.partition(",")[0], options.out / name
        loaded, inputs = load(base)
        with planted(loaded.model, vector) if name == PLANTED else nullcontext():
            for part, job in jobs(base, "test", loaded, inputs):
                run(job, folder / part, wanted)
        measured += rows(name, "test", folder, wanted, lambda each: Guided(each.strategy, each.speedup, "class token"))
    write_record(RESULTS, "python benchmarks/attention_sinks.py", {"blocks": counted, "test": measured})


if __name__ == "__main__":
    main()
