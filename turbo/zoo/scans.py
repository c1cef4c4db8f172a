"""Real handwriting: the scans that scikit-learn bundles, in three parts that never overlap.

``load_digits`` has 1,797 scans of 8 x 8 (UCI "Optical Recognition of Handwritten Digits", CC BY 4.0).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from turbo.errors import TurboError
from turbo.zoo.paint import Floats, Labels, cubic, uniform

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TEST_COUNT, VALIDATION_COUNT = 400, 200
_SPLIT_SEED = 20240
GRID = 16  # side that digits are smoothed to before they are placed


@lru_cache(maxsize=1)
def load_scans() -> tuple[Floats, Labels]:
    """Loads the scans, smoothed to (`n grid grid`, 0 to 1), and their labels (`n`)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise TurboError('turbo.zoo needs scikit-learn for its digits: pip install "turbo-vlm[zoo]"') from error
    data: Any = load_digits()
    taps = cubic((np.arange(GRID, dtype=np.float32) + 0.5) * 8 / GRID - 0.5, 8)
    smooth = taps @ (np.asarray(data.images, dtype=np.float32) / 16) @ taps.T
    return np.clip(smooth, 0, 1), np.asarray(data.target, dtype=np.int64)


@lru_cache(maxsize=3)
def split_indices(split: Split) -> Labels:
    """Gives the indices (`m`) of the scans that belong to a split; the three never overlap.

    Each scan is ranked inside its class by a fixed shuffle; ordering all scans by relative rank
    makes every prefix stratified, so the first 400 are the test part and the next 200 validation.
    """
    if split not in SPLITS:
        raise TurboError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    labels = load_scans()[1]
    rng = np.random.default_rng(_SPLIT_SEED)
    rank = np.empty(len(labels))
    for label in range(10):
        members = np.flatnonzero(labels == label)
        rank[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.argsort(rank, kind="stable").astype(np.int64)
    held = TEST_COUNT + VALIDATION_COUNT
    parts = {
        "test": order[:TEST_COUNT],
        "validation": order[TEST_COUNT:held],
        "train": order[held:],
    }
    return np.sort(parts[split])


def warp(digits: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Rotates, shears and stretches digits (`b g g`) at random; strength 0 leaves them alone."""
    if not strength:
        return digits
    count = len(digits)
    matrix = np.eye(2, dtype=np.float32) + strength * uniform(rng, -0.1, 0.1, (count, 2, 2))
    turn = strength * uniform(rng, -0.2, 0.2, (count,))
    matrix[:, 0, 1] += turn
    matrix[:, 1, 0] -= turn
    grid = np.stack(np.meshgrid(*[np.arange(GRID, dtype=np.float32)] * 2, indexing="ij"))
    middle = (GRID - 1) / 2
    where = matrix @ (grid.reshape(2, -1) - middle) + middle
    inside = ((where > -1) & (where < GRID)).all(1)
    where = np.clip(where, 0, GRID - 1.001)
    base = where.astype(np.int64)
    part = where - base
    batch = np.arange(count)[:, None]
    warped = np.zeros(where[:, 0].shape, dtype=np.float32)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            warped += weight * digits[batch, base[:, 0] + down, base[:, 1] + right]
    warped *= inside
    return warped.reshape(digits.shape)
