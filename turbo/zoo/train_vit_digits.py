"""Trains the zoo's small vision transformer: ``python -m turbo.zoo.train_vit_digits``.

Three tricks let two CPU cores reach a useful model in minutes:

* early steps see only part of the tokens (all that carry ink and a random share of the others), so
  they cost a fraction of a full step; the last part of the run sees every token;
* a second head, thrown away after training, names the digit or the ground at each patch, which
  gives hundreds of training signals for each image instead of one;
* the table of positions starts as plane waves, so nearness need not be learned from nothing, and
  digits start in the middle of the canvas and spread over it as the run goes on.
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
from torch import nn
from torch.nn import functional

from turbo.zoo.digits import SIDE, digit_scenes, preprocess, scenes_with_ink
from turbo.zoo.learning import best_device, command, machine, options, plane_waves
from turbo.zoo.scans import Split

PATCH = 4
CELLS = SIDE // PATCH
GROUND = 10  # class of a patch without ink
INK = 0.15  # mean opacity from which a patch counts as part of the digit
BATCH = 64
POOL = 512  # scenes drawn at a time
# Share of the run's time up to which a step sees this many patches.
STAGES = ((0.55, 48), (0.78, 96), (1.0, CELLS * CELLS))
SPREAD_AT = 0.25  # share of the run at which digits first reach every size and position


def build(width: int = 64, depth: int = 8, heads: int = 4) -> Any:
    """Builds the untrained classifier."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=SIDE,
        patch_size=PATCH,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,
        id2label={digit: str(digit) for digit in range(10)},
        label2id={str(digit): digit for digit in range(10)},
    )
    model = ViTForImageClassification(config)
    embeddings = model.vit.embeddings
    with torch.no_grad():
        nn.init.normal_(embeddings.patch_embeddings.projection.weight, std=0.1)
        embeddings.position_embeddings[0, 1:] = plane_waves(width, CELLS)
    return model


def patch_ink(ink: np.ndarray[Any, Any]) -> torch.Tensor:
    """Averages opacity (`b h w`) inside each patch (`b n`)."""
    return functional.avg_pool2d(torch.from_numpy(ink)[:, None], PATCH).flatten(1)


def draw(seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws training scenes: pixels (`b 3 h w`), labels (`b`) and ink of each patch (`b n`)."""
    images, labels, ink = scenes_with_ink("train", POOL, seed, warp=1.0, spread=spread)
    return preprocess(images), torch.from_numpy(labels), patch_ink(ink)


def training_loss(
    model: Any,
    head: nn.Linear,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    ink: torch.Tensor,
    seen: int,
) -> torch.Tensor:
    """Computes the loss of one step on `seen` of the patches.

    Args:
        model: the classifier.
        head: the patch head, `c` to 11 classes.
        pixels: `b 3 h w`.
        labels: `b`.
        ink: mean opacity of each patch, `b n`.
        seen: patches each image keeps: those with ink first, then others at random.

    Returns:
        The scalar loss.
    """
    states = model.vit.embeddings(pixels)
    if seen < ink.shape[1]:
        priority = (ink > 0.02).float() * 2 + torch.rand_like(ink)
        kept = priority.topk(seen, dim=1).indices
        ink = ink.gather(1, kept)
        patches = states[:, 1:].gather(1, kept[..., None].expand(-1, -1, states.shape[2]))
        states = torch.cat([states[:, :1], patches], 1)
    for layer in model.vit.layers:
        states = layer(states)
    states = model.vit.layernorm(states)
    named = torch.where(ink > INK, labels[:, None], GROUND)
    image_loss = functional.cross_entropy(model.classifier(states[:, 0]), labels, label_smoothing=0.05)
    patch_loss = functional.cross_entropy(head(states[:, 1:]).flatten(0, 1), named.flatten())
    return image_loss + patch_loss


def accuracy(model: Any, split: Split, count: int, seed: int) -> float:
    """Measures the share of a split's scenes that the model names rightly."""
    images, labels = digit_scenes(split, count, seed)
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        named = [
            model(preprocess(part).to(device)).logits.argmax(1).cpu().numpy()
            for part in np.array_split(images, max(1, count // 100))
        ]
    model.train()
    return float((np.concatenate(named) == labels).mean())


def optimizer_for(model: nn.Module, head: nn.Linear, rate: float) -> torch.optim.AdamW:
    """Builds AdamW that decays matrices only."""
    weights = [*model.named_parameters(), *head.named_parameters()]
    plain = [w for name, w in weights if w.ndim < 2 or "position" in name or "cls" in name]
    known = {id(w) for w in plain}
    matrices = [w for _, w in weights if id(w) not in known]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def train(minutes: float, seed: int, rate: float, device: torch.device) -> tuple[Any, dict[str, Any]]:
    """Trains for a stretch of wall time and keeps the weights that did best on validation.

    Args:
        minutes: length of the run; stages and learning rate follow the clock.
        seed: seed of the weights and scenes.
        rate: peak learning rate.
        device: where to train.

    Returns:
        The model and a record of the run.
    """
    torch.manual_seed(seed)
    model = build().to(device).train()
    head = nn.Linear(model.config.hidden_size, GROUND + 1).to(device)
    optimizer = optimizer_for(model, head, rate)
    start, images_seen, rounds, check = time.monotonic(), 0, 0, 0.0
    # The next scenes are drawn while the model trains on the last ones.
    drawer = ThreadPoolExecutor(1)
    coming = drawer.submit(draw, 1_000_000 * seed, 0.0)
    best, best_weights = -1.0, {}
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        data = [torch.split(part.to(device), BATCH) for part in coming.result()]
        rounds += 1
        coming = drawer.submit(draw, 1_000_000 * seed + rounds, min(1.0, share / SPREAD_AT))
        seen = next(patches for until, patches in STAGES if share < until)
        total = 0.0
        for pixels, targets, covered in zip(*data, strict=True):
            share = (time.monotonic() - start) / (60 * minutes)
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(share)
            loss = training_loss(model, head, pixels, targets, covered, seen)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(targets)
        images_seen += POOL
        if share >= check:
            # Looks come closer together at the end, where the best weights are expected.
            check = share + (0.08 if share < 0.8 else 0.04)
            score = accuracy(model, "validation", 200, seed)
            print(
                f"{time.monotonic() - start:6.0f} s  {images_seen:7d} images  {seen:3d} patches  "
                f"loss {total / POOL:.3f}  validation {score:.3f}",
                flush=True,
            )
            if share > STAGES[-2][0] and score >= best:
                best, best_weights = score, {k: v.clone() for k, v in model.state_dict().items()}
    drawer.shutdown(cancel_futures=True)
    if best_weights and accuracy(model, "validation", 200, seed) < best:
        model.load_state_dict(best_weights)
    seconds = time.monotonic() - start
    return model, {"minutes": round(seconds / 60, 1), "images": images_seen, "seed": seed}


def schedule(share: float) -> float:
    """Gives the learning rate, as a share of its peak: a short rise, then a cosine."""
    rise = 0.04
    if share < rise:
        return share / rise
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - rise) / (1 - rise))))


def save(model: Any, record: dict[str, Any], out: Path) -> None:
    """Writes half-precision weights, the configuration and a model card to a folder.

    The accuracies on the card are those of the half-precision weights, read back.
    """
    from transformers import ViTForImageClassification

    model.cpu().half().save_pretrained(out)
    for path in out.iterdir():
        path.chmod(0o644)  # the weights come out readable by their owner alone
    shipped = ViTForImageClassification.from_pretrained(out, dtype=torch.float32)
    record["validation"] = accuracy(shipped, "validation", 2000, 1)
    record["test"] = accuracy(shipped, "test", 4000, 1)
    record["parameters"] = sum(weight.numel() for weight in shipped.parameters())
    (out / "README.md").write_text(card(record), encoding="utf-8")
    print(json.dumps(record), flush=True)


def card(record: dict[str, Any]) -> str:
    """Writes the model card."""
    return f"""# vit-digits

A vision transformer (`ViTForImageClassification`, {record["parameters"]:,} parameters, 257 tokens)
that names the handwritten digit in a 64 x 64 scene. Trained from scratch for this library; the
weights are under the library's licence (Apache-2.0).

- **Data:** scikit-learn's bundled `load_digits`: 1,797 real scans of 8 x 8 (UCI "Optical
  Recognition of Handwritten Digits", CC BY 4.0), drawn on busy canvases by `turbo/zoo/digits.py`.
- **Split:** by scan, stratified, fixed seed: 400 test, 200 validation, 1,197 training. It is not by
  writer: one writer can occur in several parts.
- **Command:** `{record["command"]}`
- **Time:** {record["minutes"]} minutes, {record["images"]:,} images, on {record["machine"]}.
- **Validation accuracy:** {record["validation"]:.1%} (200 scans in 2,000 scenes). This part
  chose among checkpoints.
- **Test accuracy:** {record["test"]:.1%} (400 scans never trained on, in 4,000 scenes:
  `digit_scenes("test", 4000, 1)`).
- **Weights:** float16; `turbo.zoo.load("vit-digits")` gives float32.

Pixel values are normalised with mean 0.5 and standard deviation 0.5 (`turbo.zoo.preprocess`). The
schedule follows the clock, so a second run, or another machine, gives slightly different weights.
The model is for tests and demonstrations of token merging, and for nothing else.
"""


def main() -> None:
    """Runs the training from the command line."""
    parser = options("vit-digits", __doc__, minutes=17.0, seed=0, rate=2e-3)
    chosen = parser.parse_args()
    device = best_device()
    model, record = train(chosen.minutes, chosen.seed, chosen.rate, device)
    record["command"] = command("train_vit_digits", chosen)
    record["machine"] = machine()
    save(model, record, chosen.out)


if __name__ == "__main__":
    main()
