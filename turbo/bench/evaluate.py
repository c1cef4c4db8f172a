"""Figures of a protocol's two folders of images: quality against a reference and the captions, and time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from turbo.bench.compare import machine
from turbo.bench.fidelity import (
    Extractor,
    caption_agreement,
    clip_scores,
    feature_distance,
    frechet_distances,
    psnr,
    squared_error,
)
from turbo.bench.generate import SIDES, TURBO, UNTOUCHED, Protocol, image_path, read_images, read_times, summarise_times
from turbo.bench.prompts import Prompts
from turbo.errors import TurboError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def find_reference(folder: Path) -> list[Path]:
    """The images of a reference folder, sub-folders included.

    Raises:
        TurboError: there are fewer than two.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(found) < 2:
        raise TurboError(
            f"reference {folder}: {len(found)} images ({', '.join(SUFFIXES)}) in it; two or more are needed"
        )
    return found


def evaluate(
    protocol: Protocol,
    prompts: Prompts,
    images: int,
    out: Path,
    *,
    reference: list[Path] | None,
    extractor: Extractor,
    clip: tuple[Any, Any] | None = None,
    on_part: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Everything that can be said of a finished run, as plain data.

    Args:
        protocol: of the run.
        prompts: of the run.
        images: how many of each side.
        out: its folder.
        reference: files of reference images; None takes the scenes drawn for the prompts, or no reference at all where
            there are none.
        extractor: of the features whose distributions are compared.
        clip: a CLIP model and its processor (see `load_clip`); None leaves the CLIP score out.
        on_part: called with the name of what comes next.

    Returns:
        The results; None for what was left out.
    """
    paths = {side: [image_path(out, side, index) for index in range(images)] for side in SIDES}
    size = next(read_images(paths[UNTOUCHED][:1])).shape[-1]
    device = protocol.device

    def both() -> dict[str, Iterable[Tensor]]:
        return {side: read_images(paths[side]) for side in SIDES}

    on_part("Frechet distance between the sides")
    between = frechet_distances(read_images(paths[UNTOUCHED]), {TURBO: read_images(paths[TURBO])}, extractor, device)
    against = _reference_images(reference, prompts, size)
    fid, count = None, 0
    if against is not None:
        on_part("Frechet distance to the reference")
        fid = frechet_distances(against, both(), extractor, device)
        count = len(reference) if reference is not None else len(prompts.drawn)  # type: ignore[arg-type]
    results: dict[str, Any] = {
        "settings": protocol.record(prompts),
        "machine": machine(torch.device(device)) | {"diffusers": version("diffusers")},
        "images": images,
        "features": extractor.name,
        "reference_images": count,
        "fid": fid,
        "fid_between": between[TURBO],
        "notes": _notes(images, count, extractor),
        **_paired(paths, prompts.labels is not None),
        "agreement": None,
        "clip": None,
        "clip_score": None,
        **summarise_times(read_times(out), protocol.batch),
    }
    if (labels := prompts.labels_of(images)) is not None:
        on_part("agreement with the captions")
        judge = _judge()
        results["agreement"] = {side: caption_agreement(found, labels, judge) for side, found in both().items()}
    if clip is not None:
        on_part("CLIP score")
        model, processor = clip[0].to(device), clip[1]
        results["clip"] = model.name_or_path
        texts = [prompts.of(index) for index in range(images)]
        results["clip_score"] = {
            side: max(0.0, clip_scores(found, texts, model, processor).mean().item()) for side, found in both().items()
        }
    return results


def _reference_images(reference: list[Path] | None, prompts: Prompts, size: int) -> Iterable[Tensor] | None:
    if reference is not None:
        return read_images(reference, side=size)
    return None if prompts.drawn is None else torch.split(prompts.drawn, 32)


def _paired(paths: dict[str, list[Path]], judged: bool) -> dict[str, Any]:
    """How far the accelerated images are from the untouched ones of the same seeds."""
    errors, distances = [], []
    for one, other in zip(read_images(paths[UNTOUCHED]), read_images(paths[TURBO]), strict=True):
        errors.append(squared_error(one, other))
        if judged:
            distances.append(feature_distance(one, other, _judge()))
    error = torch.cat(errors).mean()
    return {
        "psnr": None if error == 0 else psnr(error).item(),  # JSON has no infinity
        "identical": bool(error == 0),
        "feature_distance": torch.cat(distances).mean().item() if judged else None,
    }


def _judge() -> Any:
    from turbo import zoo

    return zoo.load("scene-judge")


def _notes(images: int, reference: int, extractor: Extractor) -> list[str]:
    few = [count for count in (images, reference) if 0 < count <= extractor.width]
    if not few:
        return []
    counts = f"{min(few)} images and {extractor.width} features"
    return [f"the Frechet distance is of {counts}: it is biased upwards; compare only sides of this run by it"]
