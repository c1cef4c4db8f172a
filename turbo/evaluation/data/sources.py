"""What ``--data`` may name: the zoo's scenes, and published data sets in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from turbo.errors import TurboError
from turbo.evaluation.data import Data, coco, flickr30k, imagenet, vqav2
from turbo.evaluation.data.coco import load_coco
from turbo.evaluation.data.digits import labelled_digits
from turbo.evaluation.data.flickr30k import load_flickr30k
from turbo.evaluation.data.imagenet import load_imagenet
from turbo.evaluation.data.scenes import scene_captions, scene_classes, scene_pairs, scene_questions, scene_retrieval
from turbo.evaluation.data.vqav2 import load_vqav2
from turbo.zoo.paint import GROUNDS, Ground
from turbo.zoo.scans import Split

Task = Literal["captioning", "vqa", "matching", "retrieval", "classification"]
TASKS: tuple[Task, ...] = get_args(Task)
SCENES = 1000  # of the zoo, where no limit says how many

Draw = Callable[[Ground, Split, int, int], Data]
Read = Callable[[Path, str, int | None], Data]


@dataclass(frozen=True)
class Drawn:
    """A source that draws its data: a function of ground, split, number of scenes and seed for each task."""

    tasks: dict[Task, Draw]


@dataclass(frozen=True)
class Kept:
    """A source that reads a folder: a function of folder, split and limit for each task."""

    tasks: dict[Task, Read]
    layout: str


SOURCES: dict[str, Drawn | Kept] = {
    "scenes": Drawn(
        {
            "captioning": scene_captions,
            "vqa": scene_questions,
            "matching": scene_pairs,
            "retrieval": scene_retrieval,
            "classification": scene_classes,
        }
    ),
    "digits": Drawn({"classification": labelled_digits}),
    "coco": Kept({"captioning": load_coco, "retrieval": load_coco}, coco.LAYOUT),
    "flickr30k": Kept({"captioning": load_flickr30k, "retrieval": load_flickr30k}, flickr30k.LAYOUT),
    "vqav2": Kept({"vqa": load_vqav2}, vqav2.LAYOUT),
    "imagenet": Kept({"classification": load_imagenet}, imagenet.LAYOUT),
}


def load_data(
    spec: str, task: Task, *, split: str = "test", limit: int | None = None, seed: int = 0
) -> tuple[Data, ...]:
    """Loads the data that a name stands for.

    Args:
        spec: "scenes" or "digits", the zoo's, on both grounds; "scenes:plain", "scenes:distractors" and the same of
            digits, on one; "coco:FOLDER", "flickr30k:FOLDER", "vqav2:FOLDER" or "imagenet:FOLDER", a published data
            set in its published layout (`SOURCES` has their layouts).
        task: "captioning" or "retrieval" gives `Captions`, "vqa" or "matching" `Questions`, "classification"
            `Labelled`.
        split: "test", "validation" (or "val") or "train"; for COCO also "restval". VQA v2 and ImageNet publish no
            answers to their test parts: results are reported on "validation".
        limit: of the zoo, how many scenes are drawn (`SCENES` without it); of a folder, how many examples (questions
            of VQA v2, images elsewhere) are taken, the first in the published order (all without it).
        seed: of the zoo's drawing. Published data are what they are, so they refuse another than 0.

    Returns:
        The data in parts, each to be measured and reported by itself: one for each ground of the zoo's, else one.
        Images of folders are read when they are asked for.

    Raises:
        TurboError: nothing has that name, it has no data for the task, an option does not fit, or a file is missing
            or damaged; the text says what was looked for and how it should look.

    Examples:
        >>> plain, distractors = load_data("scenes", "captioning", limit=2)
        >>> plain.name, plain.references == distractors.references
        ('scenes:plain test seed 0', True)
    """
    name, colon, rest = spec.partition(":")
    if name not in SOURCES:
        raise TurboError(f"unknown data {spec!r}: choose one of {', '.join(_forms())}")
    source = SOURCES[name]
    if task not in TASKS:
        raise TurboError(f"unknown task {task!r}: choose one of {', '.join(TASKS)}")
    if task not in source.tasks:
        able = ", ".join(other for other, has in SOURCES.items() if task in has.tasks)
        raise TurboError(f"{name} is for {' and '.join(source.tasks)}, not for {task}; for that there are {able}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise TurboError(f"limit={limit!r}: give a whole number of 1 or more, or None")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise TurboError(f"seed={seed!r}: give a whole number of 0 or more")
    if isinstance(source, Kept):
        return (_read(name, source, task, rest, split, limit, seed),)
    if colon and rest not in GROUNDS:
        grounds = " or ".join(f"{name}:{ground}" for ground in GROUNDS)
        raise TurboError(f"unknown ground in {spec!r}: give {grounds}, or {name} for both")
    part = cast(Split, "validation" if split == "val" else split)
    return tuple(
        source.tasks[task](ground, part, SCENES if limit is None else limit, seed)
        for ground in GROUNDS
        if rest in ("", ground)
    )


def _read(name: str, source: Kept, task: Task, rest: str, split: str, limit: int | None, seed: int) -> Data:
    if seed:
        raise TurboError(f"seed={seed}: {name} is published data, which a seed does not change; leave it out")
    if not rest:
        raise TurboError(f"{name} needs its folder: {name}:FOLDER, which has {source.layout}")
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        raise TurboError(f"{name}: there is no folder {folder}; expected one with {source.layout}")
    return source.tasks[task](folder, "val" if split == "validation" else split, limit)


def _forms() -> list[str]:
    zoo = "[:" + "|".join(GROUNDS) + "]"
    return [name + (zoo if isinstance(source, Drawn) else ":FOLDER") for name, source in SOURCES.items()]
