"""The shipped model and its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import turbo
from turbo import zoo
from turbo.zoo.digits import split_indices


def accuracy(model, **accelerate) -> float:
    images, labels = zoo.scenes("test", 150, seed=5)
    if accelerate:
        turbo.accelerate(model, **accelerate)
    with torch.inference_mode():
        found = model(zoo.preprocess(images)).logits.argmax(1)
    if accelerate:
        turbo.restore(model)
    return (found == torch.from_numpy(labels)).float().mean().item()


def test_digits_are_read_and_merging_the_right_tokens_keeps_them():
    """Held-out digits; the paper's strategy keeps what random merging loses."""
    model = zoo.load("vit-digits")
    assert accuracy(model) >= 0.93
    assert accuracy(model, strategy="s1", drop=26) >= 0.92
    assert accuracy(model, strategy="random", drop=26) < accuracy(model, strategy="s1", drop=26) - 0.02


def test_splits_are_disjoint_and_whole():
    parts = [set(split_indices(name)) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1197, 200, 400]
    assert len(set.union(*parts)) == 1797


def test_scenes_are_reproducible():
    first, again, other = (zoo.scenes("test", 8, seed=s) for s in (3, 3, 4))
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (8, 64, 64, 3)
    assert first[0].dtype == np.uint8
    assert zoo.preprocess(first[0]).shape == (8, 3, 64, 64)


def test_unknown_names():
    with pytest.raises(turbo.TurboError, match="the zoo has vit-digits"):
        zoo.load("nope")
    with pytest.raises(turbo.TurboError, match="nope"):
        zoo.scenes("nope", 1, seed=0)


def test_shipped_weights_are_small():
    folder = Path(zoo.__file__).parent / "weights" / "vit-digits"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_000_000
    assert {file.name for file in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
