"""Writes tiny data sets in the layouts in which the real ones are published."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

WORDNET = [f"n{1_000_000 + 37 * place:08d}" for place in range(1000)]
"""Invented numbers of the 1,000 classes, in order."""


def write_image(path: Path, level: int, mode: str = "RGB") -> None:
    """An image of one grey, so that a test can tell which it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).convert(mode).save(path, "JPEG", quality=95)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def karpathy_entry(name: str, split: str, captions: list[str], folder: str | None = None, number: int = 0) -> dict:
    entry = {
        "filename": name,
        "split": split,
        "imgid": number,
        "sentids": [10 * number + place for place in range(len(captions))],
        "sentences": [
            {"tokens": text.lower().split(), "raw": text, "imgid": number, "sentid": 10 * number + place}
            for place, text in enumerate(captions)
        ],
    }
    return entry | ({"filepath": folder, "cocoid": number} if folder else {})


COCO = [
    ("val2014", 391895, "test", ["A man with a red helmet.", "A man rides a bike. "]),
    ("val2014", 522418, "val", ["A woman cuts a cake."]),
    ("val2014", 60623, "test", ["A child holds an umbrella.", "A girl in the rain.", "A wet girl."]),
    ("val2014", 1000, "restval", ["A tennis court."]),
    ("train2014", 318219, "train", ["A boy in headphones."]),
    ("val2014", 5802, "test", ["Two men cook."]),
]


def coco_name(folder: str, number: int) -> str:
    return f"COCO_{folder}_{number:012d}.jpg"


def write_coco(root: Path) -> Path:
    entries = [
        karpathy_entry(coco_name(folder, number), split, captions, folder, number)
        for folder, number, split, captions in COCO
    ]
    write_json(root / "dataset_coco.json", {"images": entries, "dataset": "coco"})
    write_coco_images(root)
    return root


def write_coco_of_blip(root: Path) -> Path:
    for split in ("test", "val"):
        rows = [
            {"image": f"{folder}/{coco_name(folder, number)}", "caption": captions}
            for folder, number, part, captions in COCO
            if part == split
        ]
        write_json(root / f"coco_karpathy_{split}.json", rows)
    write_coco_images(root)
    return root


def write_coco_images(root: Path) -> None:
    for place, (folder, number, _, _) in enumerate(COCO):
        write_image(root / folder / coco_name(folder, number), 40 * place)


def write_flickr30k(root: Path, home: str = "flickr30k-images") -> Path:
    parts = [
        ("1000092795.jpg", "train"),
        ("1007129816.jpg", "test"),
        ("1007320043.jpg", "val"),
        ("102617084.jpg", "test"),
    ]
    entries = [
        karpathy_entry(name, split, [f"Caption {line} of {name}." for line in range(5)], number=place)
        for place, (name, split) in enumerate(parts)
    ]
    write_json(root / "dataset_flickr30k.json", {"images": entries, "dataset": "flickr30k"})
    for place, (name, _) in enumerate(parts):
        write_image(root / home / name, 40 * place)
    return root


VQA = [
    (262148, 262148000, "Where is he looking?", "other", ["down"] * 6 + ["at table"] * 4),
    (393225, 393225000, "Is it red?", "yes/no", ["yes"] * 10),
    (262148, 262148001, "How many people are there?", "number", ["2"] * 3 + ["two"] * 7),
]


def write_vqav2(root: Path, part: str = "val2014") -> Path:
    questions = [{"image_id": image, "question": text, "question_id": number} for image, number, text, _, _ in VQA]
    write_json(root / f"v2_OpenEnded_mscoco_{part}_questions.json", {"data_subtype": part, "questions": questions})
    # The annotations come in another order than the questions.
    annotations = [
        {
            "question_id": number,
            "image_id": image,
            "question_type": "none of the above",
            "answer_type": kind,
            "multiple_choice_answer": answers[0],
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": place}
                for place, answer in enumerate(answers, start=1)
            ],
        }
        for image, number, _, kind, answers in reversed(VQA)
    ]
    write_json(root / f"v2_mscoco_{part}_annotations.json", {"annotations": annotations})
    for image, level in ((262148, 80), (393225, 160)):
        write_image(root / part / f"COCO_{part}_{image:012d}.jpg", level)
    return root


IMAGENET = [970, 3, 516, 3]
"""The class of each image of the tiny ImageNet, in the order of the images' numbers."""


def imagenet_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def write_imagenet_folders(root: Path) -> Path:
    """A folder for each class, 997 of them empty."""
    for number in WORDNET:
        (root / "val" / number).mkdir(parents=True)
    for place, label in enumerate(IMAGENET):
        write_image(root / "val" / WORDNET[label] / imagenet_name(place + 1), 40 * place)
    return root


def write_imagenet_flat(root: Path, home: str) -> Path:
    for place in range(len(IMAGENET)):
        write_image(root / home / imagenet_name(place + 1), 40 * place)
    return root


def write_mapping(root: Path) -> None:
    lines = (f"{number} name, other name" for number in WORDNET)
    (root / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_imagenet_of_kaggle(root: Path, home: str = "ILSVRC/Data/CLS-LOC/val") -> Path:
    write_imagenet_flat(root, home)
    write_mapping(root)
    with (root / "LOC_val_solution.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ImageId", "PredictionString"])
        # Kaggle's rows are in no order.
        for place in (2, 0, 3, 1):
            rows.writerow([imagenet_name(place + 1).removesuffix(".JPEG"), f"{WORDNET[IMAGENET[place]]} 1 2 3 4 "])
    return root


def write_imagenet_of_devkit(root: Path, at: str = "ILSVRC2012_devkit_t12/data") -> Path:
    """The devkit numbers the classes in an order of its own: here the reverse."""
    from scipy.io import savemat

    write_imagenet_flat(root, "ILSVRC2012_img_val")
    folder = root / at
    folder.mkdir(parents=True, exist_ok=True)
    truth = "".join(f"{1000 - label}\n" for label in IMAGENET)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    # Numbers above 1,000 are groups of classes.
    numbers = [*reversed(WORDNET), "n00001740"]
    synsets = np.zeros((len(numbers), 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)])
    for place, number in enumerate(numbers):
        synsets[place, 0] = (np.array([[place + 1]]), number, np.array([[0]]))
    savemat(folder / "meta.mat", {"synsets": synsets})
    return root
