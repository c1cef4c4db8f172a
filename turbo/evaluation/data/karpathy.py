"""Captions in the splits of Karpathy & Fei-Fei (CVPR 2015), as they published them and as BLIP's authors did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from turbo.evaluation.data import Captions
from turbo.evaluation.data.folders import Published, read_json, reading
from turbo.evaluation.data.images import images_of_files

Entry = tuple[str, tuple[str, ...]]
"""The file of an image, and its captions."""


def load_karpathy(
    data: Published, files: tuple[str, ...], homes: tuple[str, ...], split: str, limit: int | None
) -> Captions:
    """Loads a part of a data set that comes in Karpathy's splits.

    Args:
        data: the data set.
        files: names of its JSON files; the first that is there is read. "{split}" in a name stands for the part.
        homes: folders that may have the images for which the file names no folder.
        split: part to load, by its published name.
        limit: how many images, the first ones of the file; all without it.

    Returns:
        The images in the file's order, with all their captions.

    Raises:
        TurboError: something is missing, the part is unknown, or the limit is larger than the part.
    """
    path = data.find(*(name.format(split=split) for name in files))
    content = read_json(path, "a split of captions")
    with reading(path, "a split of captions"):
        if isinstance(content, list):
            entries = [(entry["image"], _texts(entry["caption"])) for entry in content]
        else:
            entries = _published(data, content, path, split)
    chosen = data.take(entries, limit, f"images of the part {split!r}")
    named = [name for name, _ in chosen]
    home = data.folder if any("/" in name for name in named) else data.find(*homes)
    paths = [home / name for name in named]
    data.find_images(paths)
    return Captions(f"{data.name} {split}", images_of_files(paths), tuple(captions for _, captions in chosen))


def _published(data: Published, content: dict[str, Any], path: Path, split: str) -> list[Entry]:
    """The entries of one part, from a file with all parts."""
    parts = {image["split"] for image in content["images"]}
    if split not in parts:
        raise data.refuse(f"{path.name} has no part {split!r}: choose one of {', '.join(sorted(parts))}")
    return [
        (
            "/".join(filter(None, (image.get("filepath"), image["filename"]))),
            _texts([sentence["raw"] for sentence in image["sentences"]]),
        )
        for image in content["images"]
        if image["split"] == split
    ]


def _texts(captions: Any) -> tuple[str, ...]:
    if not isinstance(captions, list) or not captions:
        raise ValueError(f"captions are {captions!r}, not a list of one or more texts")
    return tuple(caption.strip() for caption in captions)
