"""Flickr30k in Karpathy's split (Young et al., TACL 2014; Karpathy & Fei-Fei, CVPR 2015)."""

from __future__ import annotations

from pathlib import Path

from turbo.evaluation.data import Captions
from turbo.evaluation.data.folders import Published
from turbo.evaluation.data.karpathy import load_karpathy

LAYOUT = (
    "dataset_flickr30k.json (of Karpathy's caption_datasets.zip) or flickr30k_test.json and flickr30k_val.json (of "
    "BLIP's authors), and the images in flickr30k-images/ (or images/)"
)


def load_flickr30k(folder: Path, split: str = "test", limit: int | None = None) -> Captions:
    """Loads captions of Flickr30k, five for each image, for retrieval and captioning.

    Args:
        folder: has ``dataset_flickr30k.json`` or, where that is missing, BLIP's ``flickr30k_{test,val}.json``, and
            the images in ``flickr30k-images``; with the former, ``images`` will do.
        split: "test" and "val" (1,000 and 1,014 images); of ``dataset_flickr30k.json`` also "train".
        limit: the first images of the file only.

    Returns:
        The captions of the part.

    Raises:
        TurboError: something is missing, the split is unknown, or the limit is larger than the part.
    """
    files = ("dataset_flickr30k.json", *(["flickr30k_{split}.json"] if split in {"test", "val"} else []))
    homes = ("flickr30k-images", "images")
    return load_karpathy(Published("flickr30k", folder, LAYOUT), files, homes, split, limit)
