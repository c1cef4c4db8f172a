"""Trains the judge of captioned scenes: ``python -m turbo.zoo.train_scene_judge``.

It sees drawn scenes only, never a generated one, and is trained apart from the text-to-image model.
A second head, thrown away after training, names the object in each cell: many signals for each
scene. The first part of the run trains it alone, on scenes of 16 x 16 pixels that cost a quarter.
"""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from turbo.zoo.captioned import SIDE, SceneLabels, captioned_scenes, draw_with_ink, random_labels
from turbo.zoo.judge import SceneJudge
from turbo.zoo.learning import best_device, command, machine, options
from turbo.zoo.paint import Images
from turbo.zoo.scans import Split
from turbo.zoo.words import KINDS, NONE

BATCH = 128
POOL = 2048  # scenes drawn at a time
CELL = SIDE // 8  # pixels
INK = 0.15  # mean opacity from which a cell counts as part of an object
SMALL = 16  # pixels of a scene's side in the first part of the run
SMALL_UNTIL = 0.2  # share of the run's time


def blemish(images: Images, rng: np.random.Generator) -> Tensor:
    """Adds noise, blur and contrast to drawn images, which are cleaner than generated ones.

    Args:
        images: uint8, `b h w 3`.
        rng: source of randomness.

    Returns:
        Images from 0 to 1, `b 3 h w`.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    count = (len(pixels), 1, 1, 1)
    blurred = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pixels = torch.lerp(pixels, blurred, torch.from_numpy(rng.uniform(-0.2, 0.6, count).astype(np.float32)))
    pixels = 0.5 + (pixels - 0.5) * torch.from_numpy(rng.uniform(0.85, 1.15, count).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    level = torch.from_numpy((rng.uniform(0, 1, count) ** 2 * 0.08).astype(np.float32))
    return (pixels + level * noise).clamp(0, 1)


def draw(seed: int, side: int) -> tuple[Tensor, SceneLabels, Tensor]:
    """Draws training scenes: images (`b 3 h w`, 0 to 1), labels and the kind of object in each cell (`b n`)."""
    rng = np.random.default_rng(seed)
    labels = random_labels(POOL, rng, 0.0 if side == SMALL else 0.65)
    images, inks = draw_with_ink(labels, "train", rng, side)
    ink, slot = functional.avg_pool2d(torch.from_numpy(inks), CELL).flatten(2).max(1)
    there = torch.from_numpy(labels.kind).gather(1, slot)
    return blemish(images, rng), labels, torch.where(ink > INK, there, len(KINDS))


def training_loss(judge: SceneJudge, head: nn.Linear, images: Tensor, labels: SceneLabels, kinds: Tensor) -> Tensor:
    """Computes the cross-entropy of the kind of object in each cell; of whole scenes, of all attributes too.

    Args:
        judge: the judge.
        head: names the kind in each cell, from its convolutions; thrown away after training.
        images: `b 3 h w`, 0 to 1.
        labels: `b`.
        kinds: `b n`.

    Returns:
        The scalar loss.
    """
    with torch.autocast(images.device.type, torch.bfloat16):
        cells = judge.cells(images)
        named = head(cells)
        found = judge.answers(cells) if images.shape[-1] == SIDE else {}
    loss = functional.cross_entropy(named.float().flatten(0, 1), kinds.flatten())
    for name, logits in found.items():
        wanted = getattr(labels, name)
        wanted = torch.from_numpy(np.where(wanted == NONE, logits.shape[-1] - 1, wanted)).to(images.device)
        loss = loss + functional.cross_entropy(logits.float().flatten(0, -2), wanted.flatten(), label_smoothing=0.02)
    return loss


def accuracy(judge: SceneJudge, split: Split, count: int, seed: int) -> dict[str, float]:
    """Measures agreement with the labels of drawn scenes."""
    images, _, labels = captioned_scenes(split, count, seed)
    judge.eval()
    found = judge.agreement(images, labels)
    judge.train()
    return found


def train(minutes: float, seed: int, rate: float, device: torch.device) -> tuple[SceneJudge, dict[str, Any]]:
    """Trains for a stretch of wall time.

    Args:
        minutes: length of the run; the learning rate follows the clock.
        seed: seed of the weights and scenes.
        rate: peak learning rate.
        device: where to train.

    Returns:
        The judge and a record of the run.
    """
    torch.manual_seed(seed)
    judge = SceneJudge().to(device).train()
    head = nn.Linear(judge.config["width"], len(KINDS) + 1).to(device)
    weights = [*judge.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    start, rounds, shown = time.monotonic(), 0, 0.0
    # Seeds of their own, apart from those that the text-to-image model trains on.
    first = 1_000_000_000 + 1_000_000 * seed
    drawer = ThreadPoolExecutor(1)
    coming = drawer.submit(draw, first, SMALL)
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        images, labels, kinds = coming.result()
        rounds += 1
        coming = drawer.submit(draw, first + rounds, SMALL if share < SMALL_UNTIL else SIDE)
        losses = []
        for begin in range(0, POOL, BATCH):
            share = (time.monotonic() - start) / (60 * minutes)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, share / 0.03) * (0.01 + 0.495 * (1 + math.cos(math.pi * min(1.0, share))))
            rows = slice(begin, begin + BATCH)
            loss = training_loss(judge, head, images[rows].to(device), labels[rows], kinds[rows].to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            losses.append(loss.item())
        if (spent := time.monotonic() - start) > shown + 15:
            shown = spent
            score = {name: round(value, 3) for name, value in accuracy(judge, "validation", 300, seed).items()}
            print(f"{spent:5.0f} s  {rounds * POOL:7d} images  loss {np.mean(losses):.3f}  {score}", flush=True)
    drawer.shutdown(cancel_futures=True)
    record = {"minutes": round((time.monotonic() - start) / 60, 1), "images": rounds * POOL, "seed": seed}
    return judge, record


def save(judge: SceneJudge, record: dict[str, Any], out: Path) -> None:
    """Writes the judge and its card; the accuracies are those of the half-precision weights, read back."""
    judge.cpu().save_pretrained(out)
    shipped = SceneJudge.from_pretrained(out)
    record["parameters"] = sum(weight.numel() for weight in shipped.parameters())
    record["test"] = accuracy(shipped, "test", 4000, 1)
    (out / "README.md").write_text(card(record), encoding="utf-8")
    print(json.dumps(record), flush=True)


def card(record: dict[str, Any]) -> str:
    """Writes the model card."""
    scores = "\n".join(f"| {name} | {value:.1%} |" for name, value in record["test"].items())
    return f"""# scene-judge

A small network (`turbo.zoo.judge.SceneJudge`, {record["parameters"]:,} parameters) that says what a captioned scene
shows: size, colour and kind of one or two objects, their relation and the ground. It judges what
`t2i-scenes` draws, and its pooled features serve for Frechet distances. Trained from scratch for
this library, on drawn scenes only; the weights are under the library's licence (Apache-2.0).

- **Data:** scenes of 32 x 32 from `turbo/zoo/captioned.py`, with mild blur, noise and contrast. Digits
  are scikit-learn's bundled `load_digits` (UCI "Optical Recognition of Handwritten Digits", CC BY
  4.0): 1,197 scans for training, 200 for validation, 400 for testing.
- **Independence:** it shares the drawing program and the training scans with `t2i-scenes`, and
  nothing else: no weights, no scene, no generated image.
- **Command:** `{record["command"]}`
- **Time:** {record["minutes"]} minutes, {record["images"]:,} images, on {record["machine"]}.
- **Weights:** float16; `turbo.zoo.load("scene-judge")` gives float32.

Agreement with the labels of 4,000 drawn scenes with digits never trained on
(`captioned_scenes("test", 4000, 1)`), the most that a generated image can be expected to reach:

| attribute | right |
| --- | --- |
{scores}

"exact" asks for everything at once: up to eight answers for a scene.
"""


def main() -> None:
    """Runs the training from the command line."""
    parser = options("scene-judge", __doc__, minutes=5.0, seed=0, rate=2e-3)
    chosen = parser.parse_args()
    device = best_device()
    judge, record = train(chosen.minutes, chosen.seed, chosen.rate, device)
    record["command"] = command("train_scene_judge", chosen)
    record["machine"] = machine()
    save(judge, record, chosen.out)


if __name__ == "__main__":
    main()
