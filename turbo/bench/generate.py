"""The paper's protocol for generation: the same prompts and seeds untouched and accelerated, in turn, resumable.

The images on disk are the state: what is there is not made again.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import turbo
from turbo import defaults
from turbo.allocator import hold_allocator
from turbo.bench.folder import SETTINGS, claim
from turbo.bench.prompts import Prompts
from turbo.errors import TurboError

UNTOUCHED = "untouched"
TURBO = "turbo"
SIDES = (UNTOUCHED, TURBO)
WARMUP_STEPS = 2


@dataclass(frozen=True)
class Protocol:
    """What makes an image what it is, and its time.

    Attributes:
        model: as it was asked for.
        seed: image i starts from the noise of seed + i, whatever batch it is in.
        batch: images per call.
        size: pixels of a side; None leaves it to the pipeline, like the next two.
        steps: of the scheduler.
        guidance: scale of classifier-free guidance.
        dtype: of the weights.
        device: where the pipeline runs.
        strategy: as it was asked for.
        options: further keyword arguments of `turbo.accelerate`.
    """

    model: str
    seed: int = 0
    batch: int = 1
    size: int | None = None
    steps: int | None = None
    guidance: float | None = None
    dtype: str = "float32"
    device: str = "cpu"
    strategy: str = defaults.DENOISER_STRATEGY
    options: Mapping[str, Any] | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of a pipeline's call."""
        given = {
            "height": self.size,
            "width": self.size,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
        }
        return {name: value for name, value in given.items() if value is not None}

    def record(self, prompts: Prompts) -> dict[str, Any]:
        """Plain data that tells this run from another."""
        own = {name: value for name, value in vars(self).items() if name != "options"}
        return own | {"options": dict(self.options or {}), "prompts": prompts.name, "prompts_digest": prompts.digest}


def run_protocol(
    pipe: Any,
    protocol: Protocol,
    prompts: Prompts,
    images: int,
    out: Path,
    *,
    strategy: Any = None,
    on_batch: Callable[[], None] = lambda: None,
) -> int:
    """Make the images that are missing: for each batch the untouched pipeline and the accelerated one, in turn.

    Args:
        pipe: a text-to-image pipeline; it is left untouched.
        protocol: the settings; a folder that holds images of others is refused.
        prompts: what is asked for.
        images: how many per side.
        out: the folder.
        strategy: what `protocol.strategy` names, where it is no registered name.
        on_batch: called after each batch of each side, made or found.

    Returns:
        How many images were made.

    Raises:
        TurboError: other settings, or the pipeline cannot be accelerated.
    """
    if images < 1 or protocol.batch < 1:
        raise TurboError(f"images={images}, batch={protocol.batch}: both must be 1 or more")
    options = dict(protocol.options or {})
    with turbo.accelerated(pipe, strategy or protocol.strategy, **options):
        pass  # what cannot work says so before anything is written
    claim_folder(out, protocol.record(prompts))
    hold_allocator()

    def prepare(side: str) -> AbstractContextManager[object]:
        untouched = side == UNTOUCHED
        return nullcontext() if untouched else turbo.accelerated(pipe, strategy or protocol.strategy, **options)

    session = 1 + max((entry["session"] for entry in read_times(out)), default=0)
    warm: set[str] = set()
    made = 0
    for number, start in enumerate(range(0, images, protocol.batch)):
        indices = range(start, min(start + protocol.batch, images))
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            if missing := [index for index in indices if not image_path(out, side, index).exists()]:
                with prepare(side):
                    if side not in warm:
                        _draw(pipe, protocol, prompts, missing, num_inference_steps=WARMUP_STEPS)
                        warm.add(side)
                    begin = time.perf_counter()
                    drawn = _draw(pipe, protocol, prompts, missing)
                    took = time.perf_counter() - begin
                for index, image in zip(missing, drawn, strict=True):
                    _save(image, image_path(out, side, index))
                _note_time(out, {"session": session, "side": side, "images": missing, "seconds": took})
                made += len(missing)
            on_batch()
    return made


def claim_folder(out: Path, record: Mapping[str, Any]) -> None:
    """Write down what a folder's images are made with, or see that it is the same as before.

    Raises:
        TurboError: other settings; the message names each that differs.
    """
    if any((out / side).exists() for side in SIDES) and not (out / SETTINGS).exists():
        raise TurboError(f"{out} holds images and no {SETTINGS}: nobody can tell what made them; take another")
    claim(out, record, "images made")


def image_path(out: Path, side: str, index: int) -> Path:
    """Where an image lies."""
    return out / side / f"{index:05d}.png"


def read_times(out: Path) -> list[dict[str, Any]]:
    """What was timed: one entry per call, with its session, side, images and seconds."""
    path = out / "times.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summarise_times(entries: Sequence[Mapping[str, Any]], batch: int) -> dict[str, Any]:
    """Median seconds per image of each side, and the speed-up.

    Only batches that both sides made, in full and in the same session, are compared: their times are neighbours. Where
    there is none (fewer images than one batch), batches that are not full count too.

    Returns:
        "seconds_per_image" by side and "speedup", or None for them; "batches" that were compared.
    """
    pairs: dict[tuple[int, tuple[int, ...]], dict[str, float]] = {}
    for entry in entries:
        key = entry["session"], tuple(entry["images"])
        pairs.setdefault(key, {})[entry["side"]] = entry["seconds"] / len(entry["images"])
    both = {key: sides for key, sides in pairs.items() if len(sides) == len(SIDES)}
    full = [sides for (_, indices), sides in both.items() if len(indices) == batch] or list(both.values())
    if not full:
        return {"seconds_per_image": None, "speedup": None, "batches": 0}
    medians = {side: statistics.median(sides[side] for sides in full) for side in SIDES}
    return {
        "seconds_per_image": medians,
        "speedup": medians[UNTOUCHED] / medians[TURBO],
        "batches": len(full),
    }


def read_images(paths: Sequence[Path], batch: int = 32, side: int | None = None) -> Iterator[Tensor]:
    """Images of files in batches, uint8 ``b 3 h w``.

    Args:
        paths: of the files.
        batch: images at a time.
        side: scale the shorter side to this many pixels and cut out the middle, a square; None takes images as they
            are, all of one size.
    """
    import numpy as np
    from PIL import Image, ImageOps

    for start in range(0, len(paths), batch):
        images = []
        for path in paths[start : start + batch]:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            if side is not None and image.size != (side, side):
                image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
            images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
        yield torch.stack(images)


def _draw(pipe: Any, protocol: Protocol, prompts: Prompts, indices: Sequence[int], **more: Any) -> list[Any]:
    seeds = [torch.Generator("cpu").manual_seed(protocol.seed + index) for index in indices]
    texts = [prompts.of(index) for index in indices]
    with torch.inference_mode():
        found = pipe(texts, generator=seeds, output_type="pil", **protocol.arguments() | more)
    return list(found.images)


def _save(image: Any, path: Path) -> None:
    """Write an image whole or not at all: a file that is there counts as made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    image.save(part, format="PNG")
    part.replace(path)


def _note_time(out: Path, entry: Mapping[str, Any]) -> None:
    with (out / "times.jsonl").open("a") as file:
        file.write(json.dumps(dict(entry)) + "\n")
