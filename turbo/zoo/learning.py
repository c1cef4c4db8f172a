"""What the training scripts of the zoo's vision-language models share.

Tricks that let one CPU core reach a useful model within an hour:

* early steps see only part of the patches (all that an object lies on and a random share of the others), so they cost
  a fraction of a full step; the last part of the run sees every patch;
* heads that are thrown away afterwards name the object, its colour and its size, or the ground, at each patch, and list
  all objects from the CLS token: hundreds of training signals for each image instead of one caption;
* the table of positions starts as plane waves, so nearness need not be learned from nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from turbo.allocator import hold_allocator
from turbo.zoo.digits import preprocess
from turbo.zoo.paint import GROUNDS
from turbo.zoo.scenes import GRID, OBJECTS, Scenes, draw_with
from turbo.zoo.words import COLOURS, KINDS, NONE, SIZES

WEIGHTS = Path(__file__).parent / "weights"
POOL = 512  # scenes drawn at a time, half of them on either ground
PATCHES = GRID * GRID
# Up to this share of the run's time: patches that a step sees, scenes in a batch, times that a pool is used.
STAGES = ((0.5, 48, 64, 3), (0.72, 98, 64, 3), (1.0, PATCHES, 32, 2))
AUXILIARY = (1.0, 0.1)  # weight of the heads that are thrown away, at the start and at the end


@dataclass
class Batch:
    """Scenes as tensors: pixels (`b 3 112 112`), each patch's slot (`b n`) and the objects' labels (`b 3`)."""

    pixels: Tensor
    slot: Tensor
    size: Tensor
    colour: Tensor
    kind: Tensor
    scenes: Scenes

    def patch_labels(self, labels: Tensor) -> Tensor:
        """Spreads labels of objects (`b 3`) over the patches (`b n`); ground gets `NONE`."""
        return labels.gather(1, self.slot.clamp(min=0)).where(self.slot >= 0, NONE)

    def keep(self, states: Tensor, seen: int) -> Tensor:
        """Keeps `seen` patches of states (`b 1+n d`), those of objects first, and their labels in step."""
        if seen >= self.slot.shape[1]:
            return states
        priority = (self.slot >= 0).float() * 2 + torch.rand(self.slot.shape, device=self.slot.device)
        kept = priority.topk(seen, dim=1).indices
        self.slot = self.slot.gather(1, kept)
        patches = states[:, 1:].gather(1, kept[..., None].expand(-1, -1, states.shape[2]))
        return torch.cat([states[:, :1], patches], 1)


class Supervision(nn.Module):
    """Heads that teach a tower what lies on each patch and what the scene holds; not part of the saved model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.kind = nn.Linear(width, len(KINDS) + 1)
        self.colour = nn.Linear(width, len(COLOURS))
        self.size = nn.Linear(width, len(SIZES))
        self.pairs = nn.Linear(width, len(COLOURS) * len(KINDS))
        self.count = nn.Linear(width, OBJECTS)

    def forward(self, states: Tensor, batch: Batch) -> Tensor:
        """Computes the loss of a tower's last states (`b 1+n d`)."""
        states = self.norm(states)
        patches, cls = states[:, 1:], states[:, 0]
        kind, covered = batch.patch_labels(batch.kind), batch.slot >= 0
        named = self.kind(patches).float()
        ground = torch.full_like(kind[~covered], len(KINDS))
        loss = functional.cross_entropy(named[covered], kind[covered])
        loss = loss + functional.cross_entropy(named[~covered], ground)
        for head, labels in ((self.colour, batch.colour), (self.size, batch.size)):
            loss = loss + functional.cross_entropy(head(patches[covered]).float(), batch.patch_labels(labels)[covered])
        present = batch.kind >= 0
        pairs = torch.zeros(len(cls), len(COLOURS) * len(KINDS), device=cls.device)
        index = (batch.colour * len(KINDS) + batch.kind).clamp(min=0)
        pairs.scatter_reduce_(1, index, present.float(), "amax")
        listed = functional.binary_cross_entropy_with_logits(self.pairs(cls).float(), pairs, reduction="sum")
        counted = functional.cross_entropy(self.count(cls).float(), present.sum(1) - 1)
        total: Tensor = loss + listed / len(cls) + counted
        return total


def plane_waves(width: int, cells: int = GRID) -> Tensor:
    """Gives sines and cosines along both axes of a patch grid (`n d`)."""
    axis = torch.arange(cells, dtype=torch.float32)
    pace = torch.logspace(math.log10(math.pi / 2), math.log10(math.pi / cells), width // 4)
    wave = torch.cat([torch.sin(axis[:, None] * pace), torch.cos(axis[:, None] * pace)], 1)
    rows = wave[:, None].expand(cells, cells, -1)
    return 0.5 * torch.cat([rows, rows.transpose(0, 1)], 2).reshape(cells * cells, -1)


def draw(seed: int) -> Scenes:
    """Draws a pool of training scenes, half of them on either ground."""
    rng = np.random.default_rng([seed, 0])
    halves = [draw_with(rng, "train", POOL // 2, ground, warp=1.0) for ground in GROUNDS]
    names = ("images", "size", "colour", "kind", "relation", "cell")
    return Scenes(**{name: np.concatenate([getattr(half, name) for half in halves]) for name in names})


def batches(scenes: Scenes, size: int, times: int, rng: np.random.Generator, device: torch.device) -> Iterator[Batch]:
    """Splits a pool into shuffled batches, `times` over."""
    slot = torch.from_numpy(scenes.patches().reshape(len(scenes), -1))
    for _ in range(times):
        for rows in np.split(rng.permutation(len(scenes)), range(size, len(scenes), size)):
            part = scenes[rows]
            yield Batch(
                preprocess(part.images).to(device),
                slot[rows].to(device),
                size=torch.from_numpy(part.size).to(device),
                colour=torch.from_numpy(part.colour).to(device),
                kind=torch.from_numpy(part.kind).to(device),
                scenes=part,
            )


def fit(
    modules: list[nn.Module],
    loss_of: Callable[[Batch, int, float], Tensor],
    *,
    minutes: float,
    seed: int,
    rate: float,
    check: Callable[[], str],
    begin: float = 0.0,
) -> dict[str, Any]:
    """Trains for a stretch of wall time; sizes and the learning rate follow the clock.

    Args:
        modules: what is trained, the supervision included.
        loss_of: a batch, how many patches to see and the weight of the supervision -> the scalar loss.
        minutes: length of the run.
        seed: of the scenes.
        rate: peak learning rate.
        check: measures the model on validation scenes, now and then; what it says is printed.
        begin: share of the stages to leave out: 0.5 for a tower that is trained already.

    Returns:
        A record of the run.
    """
    hold_allocator()
    weights = [w for module in modules for w in module.parameters()]
    device = weights[0].device
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": 0.05},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    rng = np.random.default_rng(seed)
    start, images, steps, rounds, shown, looked = time.monotonic(), 0, 0, 0, 0.0, 0.0
    losses: list[float] = []
    drawer = ThreadPoolExecutor(1)  # the next scenes are drawn while the model trains on the last ones
    coming = drawer.submit(draw, 1_000_000 * seed)
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        scenes = coming.result()
        rounds += 1
        coming = drawer.submit(draw, 1_000_000 * seed + rounds)
        done = begin + (1 - begin) * share
        _, seen, size, times = next(stage for stage in STAGES if done < stage[0])
        auxiliary = AUXILIARY[1] + (AUXILIARY[0] - AUXILIARY[1]) * (1 - done) ** 2
        for batch in batches(scenes, size, times, rng, device):
            share = min(1.0, (time.monotonic() - start) / (60 * minutes))
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(share)
            with torch.autocast(device.type, torch.bfloat16):
                loss = loss_of(batch, seen, auxiliary)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            losses.append(loss.item())
            steps += 1
            images += len(batch.pixels)
        spent = time.monotonic() - start
        if spent > shown + 30:
            shown = spent
            print(f"{spent:6.0f} s  {images:7d} images  {seen:3d} patches  loss {np.mean(losses):.3f}", flush=True)
            losses.clear()
        if share > looked + 0.05:
            looked = share
            print(f"        {check()}", flush=True)
    drawer.shutdown(cancel_futures=True)
    taken = round((time.monotonic() - start) / 60, 1)
    return {"minutes": taken, "images": images, "steps": steps, "seed": seed, "machine": machine()}


def schedule(share: float) -> float:
    """Gives the learning rate, as a share of its peak: a short rise, then a cosine."""
    rise = 0.03
    if share < rise:
        return 0.02 + 0.98 * share / rise
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - rise) / (1 - rise))))


def best_device() -> torch.device:
    """Gives the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> str:
    """Says where a model was trained."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()}; torch used {torch.get_num_threads()})"


def options(name: str, description: str | None, *, minutes: float, seed: int, rate: float) -> argparse.ArgumentParser:
    """Builds the command line that the training scripts share; `name` is the model's."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--out", type=Path, default=WEIGHTS / name)
    return parser


def command(module: str, chosen: argparse.Namespace) -> str:
    """Says how a run of a training script (its module's name) can be repeated."""
    return f"python -m turbo.zoo.{module} --minutes {chosen.minutes:g} --seed {chosen.seed} --rate {chosen.rate:g}"


def save(model: nn.Module, processor: Any, record: dict[str, Any], out: Path) -> None:
    """Writes half-precision weights, the configuration, the processor and the run's record to a folder."""
    half = {name: weight.half() for name, weight in model.state_dict().items()}
    model.save_pretrained(out, state_dict=half)  # type: ignore[operator]
    processor.save_pretrained(out)
    path = out / "config.json"
    written = json.loads(path.read_text())
    written.pop("_name_or_path", None)  # the folder that a run went on from is nobody's business
    path.write_text(json.dumps(written, indent=2) + "\n")
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    for path in out.iterdir():
        path.chmod(0o644)  # weights come out readable by their owner alone
    print(json.dumps(record), flush=True)
