"""ImageNet's validation part (Russakovsky et al., IJCV 2015) in the layouts in which it is found."""

from __future__ import annotations

import csv
import re
import zlib
from pathlib import Path
from typing import Any

from turbo.bench.prompts import _imagenet_classes
from turbo.errors import TurboError
from turbo.evaluation.data import Labelled
from turbo.evaluation.data.folders import Published, reading
from turbo.evaluation.data.images import images_of_files

CLASSES = 1000
LAYOUT = (
    "val/n01440764/*.JPEG and so on, a folder for each of the 1,000 classes; or the images flat in "
    "ILSVRC2012_img_val/, val/ or ILSVRC/Data/CLS-LOC/val/ with LOC_val_solution.csv and LOC_synset_mapping.txt "
    "(Kaggle), or with ILSVRC2012_validation_ground_truth.txt and meta.mat (the devkit, beside them or in "
    "ILSVRC2012_devkit_t12/data/)"
)
_FLAT = ("ILSVRC2012_img_val", "val", "ILSVRC/Data/CLS-LOC/val")
_DEVKIT = "ILSVRC2012_devkit_t12/data"
_MAPPING, _SOLUTION = "LOC_synset_mapping.txt", "LOC_val_solution.csv"
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_WORDNET = re.compile(r"n\d{8}")

Pairs = list[tuple[Path, str]]
"""The file and the WordNet number of each image."""


def load_imagenet(folder: Path, split: str = "val", limit: int | None = None) -> Labelled:
    """Loads ImageNet's validation images.

    Classes are in the order of their WordNet numbers, as classifiers have them; their names are those that the
    authors of CLIP chose, from open_clip. Images are in the published order, that of their numbers, whatever the
    layout: its classes are mixed, so a limit keeps some of nearly all.

    Args:
        folder: in one of the layouts of `LAYOUT`. With folders of classes all 1,000 must be there, or
            ``LOC_synset_mapping.txt`` must say which they are.
        split: "val"; the test labels are not published.
        limit: the first images only.

    Returns:
        The images and their classes.

    Raises:
        TurboError: something is missing, the split is unknown, the limit is larger than the part, or open_clip is not
            installed.
    """
    data = Published("imagenet", folder, LAYOUT)
    if split != "val":
        raise TurboError(
            f"imagenet: only the validation part ('val') is loaded, not {split!r}; results are reported on it"
        )
    if any(_class_folders(folder)):
        pairs, numbers = _of_folders(data)
    elif (folder / _SOLUTION).is_file():
        pairs, numbers = _of_kaggle(data)
    else:
        pairs, numbers = _of_devkit(data)
    if len(set(numbers)) != CLASSES:
        raise data.refuse(
            f"{len(set(numbers))} classes, and all {CLASSES} are needed to tell their order (or {_MAPPING} beside "
            "folders of classes)"
        )
    index = {number: place for place, number in enumerate(sorted(set(numbers)))}
    if strange := next((number for _, number in pairs if number not in index), None):
        raise data.refuse(f"{strange} is none of the {CLASSES} classes")
    chosen = data.take(sorted(pairs, key=lambda pair: pair[0].name), limit, "validation images")
    paths = [path for path, _ in chosen]
    data.find_images(paths)
    labels = tuple(index[number] for _, number in chosen)
    return Labelled("imagenet val", images_of_files(paths), labels, tuple(_imagenet_classes()))


def _class_folders(folder: Path) -> list[Path]:
    val = folder / "val"
    return [path for path in val.iterdir() if path.is_dir() and _WORDNET.fullmatch(path.name)] if val.is_dir() else []


def _of_folders(data: Published) -> tuple[Pairs, list[str]]:
    found = _class_folders(data.folder)
    suffixes = {".jpeg", ".jpg", ".png"}
    pairs = [(file, home.name) for home in found for file in home.iterdir() if file.suffix.lower() in suffixes]
    mapping = data.folder / _MAPPING
    return pairs, _mapping(mapping) if mapping.is_file() else [home.name for home in found]


def _of_kaggle(data: Published) -> tuple[Pairs, list[str]]:
    solution, mapping, home = data.find(_SOLUTION), data.find(_MAPPING), data.find(*_FLAT)
    with reading(solution, "Kaggle's solution of the validation part"), solution.open(newline="") as lines:
        rows = [(row["ImageId"], row["PredictionString"].split()[0]) for row in csv.DictReader(lines)]
    return [(home / f"{image}.JPEG", number) for image, number in rows], _mapping(mapping)


def _of_devkit(data: Published) -> tuple[Pairs, list[str]]:
    home = data.find(*_FLAT)
    truth, meta = (data.find(name, f"{_DEVKIT}/{name}") for name in (_TRUTH, _META))
    numbers = _meta(meta)
    with reading(truth, "the devkit's list of classes, one for each image"):
        classes = [numbers[int(line)] for line in truth.read_text().split()]
    pairs = [(home / f"ILSVRC2012_val_{place:08d}.JPEG", number) for place, number in enumerate(classes, start=1)]
    return pairs, list(numbers.values())


def _mapping(path: Path) -> list[str]:
    with reading(path, "Kaggle's list of classes"):
        numbers = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if strange := next((number for number in numbers if not _WORDNET.fullmatch(number)), None):
            raise ValueError(f"{strange!r} is no WordNet number such as n01440764")
    return numbers


def _meta(path: Path) -> dict[int, str]:
    """The devkit's own numbers of the classes -> WordNet's: the two are in different orders."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise TurboError(f"{path} is a file of MATLAB, which scipy reads: pip install scipy") from error
    with reading(path, "the devkit's meta.mat"):
        try:
            synsets: Any = loadmat(path, squeeze_me=True)["synsets"]
        except (MatReadError, zlib.error) as error:
            raise ValueError(str(error)) from error
        # Numbers above 1,000 are groups of classes.
        both = zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True)
        return {int(own): str(wordnet) for own, wordnet in both if int(own) <= CLASSES}
