"""COCO's captions in Karpathy's split (Lin et al., ECCV 2014; Karpathy & Fei-Fei, CVPR 2015)."""

from __future__ import annotations

from pathlib import Path

from turbo.evaluation.data import Captions
from turbo.evaluation.data.folders import Published
from turbo.evaluation.data.karpathy import load_karpathy

LAYOUT = (
    "dataset_coco.json (of Karpathy's caption_datasets.zip) or coco_karpathy_test.json and coco_karpathy_val.json (of "
    "BLIP's authors), and the images in train2014/ and val2014/"
)


def load_coco(folder: Path, split: str = "test", limit: int | None = None) -> Captions:
    """Loads captions of COCO, for captioning and retrieval.

    Every published caption is kept: five for most images, six or seven for some.

    Args:
        folder: has ``dataset_coco.json`` or, where that is missing, BLIP's ``coco_karpathy_{test,val}.json``, and the
            folders ``val2014`` and, for "train", ``train2014`` of images.
        split: "test" and "val" (5,000 images each); of ``dataset_coco.json`` also "restval" and "train".
        limit: the first images of the file only.

    Returns:
        The captions of the part.

    Raises:
        TurboError: something is missing, the split is unknown, or the limit is larger than the part.
    """
    files = ("dataset_coco.json", *(["coco_karpathy_{split}.json"] if split in {"test", "val"} else []))
    return load_karpathy(Published("coco", folder, LAYOUT), files, ("val2014",), split, limit)
