"""A small network that says what a captioned scene shows, to judge generated images by."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from turbo.errors import TurboError
from turbo.zoo.captioned import GROUNDS, RELATIONS, SIDE, SceneLabels
from turbo.zoo.words import COLOURS, KINDS, NONE, SIZES

_CELLS = SIDE // 4
_PART = 256
# Of each object: one class more than names, for an object that is not there.
_OBJECT = {"size": len(SIZES) + 1, "colour": len(COLOURS) + 1, "kind": len(KINDS) + 1}
_SCENE = {"relation": len(RELATIONS), "ground": len(GROUNDS)}


class SceneJudge(nn.Module):
    """Names size, colour and kind of up to two objects, their relation and the ground.

    Convolutions turn a scene into 8 x 8 cells; a transformer lets one token for each object and
    one for the scene look at them. Images come as a tensor (`b 3 32 32`) or an array (`b 32 32 3`),
    in uint8 or as numbers from 0 to 1.

    Args:
        width: channels of the tokens; pooled features have as many.
        depth: transformer layers.
    """

    def __init__(self, width: int = 96, depth: int = 2) -> None:
        super().__init__()
        self.config = {"width": width, "depth": depth}
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 32, 1), (32, 48, 2), (48, 64, 1), (64, width, 2), (width, width, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.positions = nn.Parameter(0.3 * torch.randn(_CELLS * _CELLS, width))
        self.queries = nn.Parameter(torch.randn(3, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.mixer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, classes) for name, classes in {**_OBJECT, **_SCENE}.items()})

    @classmethod
    def from_pretrained(cls, folder: Path) -> SceneJudge:
        """Loads what `save_pretrained` wrote: float32, in evaluation mode."""
        from safetensors.torch import load_file

        judge = cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        judge.load_state_dict(load_file(folder / "model.safetensors"))
        return judge.float().eval()

    def save_pretrained(self, folder: Path) -> None:
        """Writes half-precision weights and the configuration to a folder."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = {name: part.half() if part.is_floating_point() else part for name, part in self.state_dict().items()}
        save_file({name: part.cpu().contiguous() for name, part in state.items()}, folder / "model.safetensors")
        (folder / "model.safetensors").chmod(0o644)  # it comes out readable by its owner alone
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")

    def cells(self, images: Tensor | npt.NDArray[Any]) -> Tensor:
        """Gives what the convolutions make of each cell, `b n width` (64 cells of an image of 32 x 32)."""
        return self.trunk(as_pixels(images).to(self.queries)).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]

    def tokens(self, cells: Tensor) -> Tensor:
        """Gives the tokens of two objects, the scene and the cells, `b 67 width`."""
        if cells.shape[1] != len(self.positions):
            raise TurboError(
                f"the judge reads images of {SIDE} x {SIDE} pixels: these have {16 * cells.shape[1]} pixels"
            )
        queries = self.queries.expand(len(cells), -1, -1)
        return self.norm(self.mixer(torch.cat([queries, cells + self.positions], 1)))  # type: ignore[no-any-return]

    def forward(self, images: Tensor | npt.NDArray[Any]) -> dict[str, Tensor]:
        """Gives logits: size, colour and kind `b 2 classes` (the last for "none"), relation and ground `b classes`."""
        return self.answers(self.cells(images))

    def answers(self, cells: Tensor) -> dict[str, Tensor]:
        """Gives the logits of `forward` from what the convolutions made."""
        tokens = self.tokens(cells)
        found = {name: self.heads[name](tokens[:, :2]) for name in _OBJECT}
        return found | {name: self.heads[name](tokens[:, 2]) for name in _SCENE}

    @torch.no_grad()
    def read(self, images: Tensor | npt.NDArray[Any]) -> SceneLabels:
        """Says what images show."""
        # In parts: thousands of images at once would take gigabytes.
        parts = [self(images[first : first + _PART]) for first in range(0, len(images), _PART)]
        found = {name: torch.cat([part[name].argmax(-1) for part in parts]).cpu().numpy() for name in parts[0]}
        for name, classes in _OBJECT.items():
            found[name] = np.where(found[name] == classes - 1, NONE, found[name])
        return SceneLabels(**found)

    @torch.no_grad()
    def features(self, images: Tensor | npt.NDArray[Any]) -> Tensor:
        """Gives pooled features (`b width`), for distances between images or sets of them."""
        return self.tokens(self.cells(images))[:, 3:].mean(1)

    def agreement(self, images: Tensor | npt.NDArray[Any], labels: SceneLabels) -> dict[str, float]:
        """Compares what images show with labels.

        Args:
            images: `b` images.
            labels: what they should show, `b`.

        Returns:
            The share of right answers for each attribute (over the objects that the labels have)
            and, as "exact", the share of images in which everything is right.
        """
        if len(images) != len(labels):
            raise TurboError(f"{len(images)} images have {len(labels)} labels: give one label for each")
        found = self.read(images)
        right = {field.name: getattr(found, field.name) == getattr(labels, field.name) for field in fields(labels)}
        there = labels.kind != NONE
        shares = {name: float((hit[there] if hit.ndim == 2 else hit).mean()) for name, hit in right.items()}
        exact = np.all([hit.all(1) if hit.ndim == 2 else hit for hit in right.values()], axis=0)
        return shares | {"exact": float(exact.mean())}


class SceneFeatures(nn.Module):
    """The judge as a feature extractor for ``torchmetrics.image.fid.FrechetInceptionDistance``.

    Args:
        judge: the judge.

    Attributes:
        num_features: width of the features.
    """

    def __init__(self, judge: SceneJudge) -> None:
        super().__init__()
        self.judge = judge
        self.num_features = judge.config["width"]

    def forward(self, images: Tensor) -> Tensor:
        """Gives features (`b width`) of images (uint8, or float from 0 to 1, `b 3 32 32`)."""
        return self.judge.features(images)


def as_pixels(images: Tensor | npt.NDArray[Any]) -> Tensor:
    """Turns images (a tensor `b 3 h w` or an array `b h w 3`) into a tensor `b 3 h w` from -1 to 1."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    scale = 1.0 if images.is_floating_point() else 255.0
    return images.float() / scale * 2 - 1
