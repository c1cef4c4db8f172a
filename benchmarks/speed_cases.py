"""What `speed.py` times: cases by name, each one or more interleaved runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from turbo.errors import TurboError
from turbo.models import LoadedModel, load_model

NEW_TOKENS, BEAMS = 20, 3  # of a caption
SHARE = 0.0683  # of the tokens, merged in each block of the cases that grow
VIT_B, VIT_L = "random:timm/vit_base_patch16_224", "random:timm/vit_large_patch14_clip_336"


@dataclass(frozen=True)
class Run:
    """One interleaved run.

    Attributes:
        title: model and resolution, as the pages call it.
        model: as for `turbo.models.load_model`, with these options.
        batch: images per call.
        drop: tokens merged per block.
        rounds: how many times each side is timed.
        options: of the model.
        dtype: of the model and its images.
        compiled: compile each side.
        captions: time `generate`, with as many new tokens on every side, in place of the image path.
        at: where the run lies on the axis of a case that grows.
    """

    title: str
    model: str
    batch: int
    drop: int
    rounds: int
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    compiled: bool = False
    captions: bool = False
    at: int | None = None

    @property
    def of_timm(self) -> bool:
        """Whether the model is timm's, the only library whose models ToMe patches as they are today."""
        return self.model.startswith("random:timm/")

    def load(self) -> LoadedModel:
        """The model with random weights, always the same."""
        loaded = load_model(self.model, self.options)
        loaded.model.to(getattr(torch, self.dtype))
        if self.captions:
            path = Captions(loaded.model)
            loaded = LoadedModel(loaded.name, loaded.model, loaded.image_size, path)
        return loaded


@dataclass(frozen=True)
class Captions:
    """Images -> captions of a captioner, all of one length. It is copied with its model, as a function is not."""

    model: nn.Module

    def __call__(self, images: Tensor) -> Tensor:
        """The captions' tokens."""
        generate: Any = self.model.generate
        found: Tensor = generate(images, num_beams=BEAMS, min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS)
        start = found.shape[1] - NEW_TOKENS
        if not 0 <= start <= 2:  # what the captioner starts from is returned too
            raise TurboError(f"a caption has {found.shape[1]} tokens, not {NEW_TOKENS} new ones: sides cannot compare")
        return found


@dataclass(frozen=True)
class Case:
    """One record of benchmarks/results.

    Attributes:
        name: of the case; the record is speed-NAME.json.
        group: "bars", "modes" or "growth".
        runs: in the order of their time.
        axis: of a case that grows: what grows.
        sides: of turbo's that are timed, by their names in `speed.SIDES`.
    """

    name: str
    group: str
    runs: tuple[Run, ...]
    axis: str = ""
    sides: tuple[str, ...] = ("s1",)


def _bars() -> list[Case]:
    large, large_name = partial(Run, "timm's ViT-L/14 at 336 px", VIT_L), "timm-l14-336"
    blip = partial(Run, model="random:blip-base-384", batch=4, drop=30)
    runs = {
        "vit-b16-384": Run("ViT-B/16 at 384 px", "random:timm/vit_base_patch16_384", 4, 40, 15),
        "vit-b16-224": Run("ViT-B/16 at 224 px", VIT_B, 8, 13, 25),
        "vit-b16-1024": Run("ViT-B/16 at 1024 px", VIT_B, 1, 280, 7, {"img_size": 1024}),
        f"{large_name}-1": large(1, 20, 11),
        f"{large_name}-4": large(4, 20, 5),
        "timm-h14-224": Run("timm's ViT-H/14 at 224 px", "random:timm/vit_huge_patch14_clip_224", 2, 7, 9),
        "clip-l14-336": Run("CLIP ViT-L/14 at 336 px", "random:clip-l14-336", 1, 20, 11),
        "blip-base-384": blip(title="BLIP-base encoder at 384 px", rounds=9),
        "blip-generate": blip(title="BLIP-base captions at 384 px", rounds=7, captions=True),
    }
    return [Case(name, "bars", (run,), sides=("s1", "tome", "drop=0")) for name, run in runs.items()]


def _modes() -> list[Case]:
    models: dict[str, partial[Run]] = {
        "vit-b16-384": partial(Run, "ViT-B/16 at 384 px", "random:timm/vit_base_patch16_384", 4, 40, 7),
        "clip-l14-336": partial(Run, "CLIP ViT-L/14 at 336 px", "random:clip-l14-336", 1, 20, 5),
    }
    modes = [{"dtype": dtype, "compiled": compiled} for dtype in ("float32", "bfloat16") for compiled in (False, True)]
    return [Case(f"modes-{name}", "modes", tuple(make(**mode) for mode in modes)) for name, make in models.items()]


def _growth() -> list[Case]:
    sizes = {224: 11, 384: 9, 512: 7, 768: 5, 1024: 5}  # pixels -> rounds
    batches = {1: 11, 2: 11, 4: 9, 8: 7, 16: 5, 32: 3, 64: 5}
    depths = {12: 13, 20: 8, 32: 5, 40: 4}  # blocks -> drop: about 160 of 197 tokens merge in all
    grow = partial(Run, model=VIT_B)
    pixels = []
    for side, rounds in sizes.items():
        n = (side // 16) ** 2 + 1
        options = {"img_size": side}
        pixels.append(grow(f"{n} tokens", batch=1, drop=round(SHARE * n), rounds=rounds, options=options, at=n))
    return [
        Case("growth-tokens", "growth", tuple(pixels), "tokens N (one image)"),
        Case(
            "growth-batch",
            "growth",
            tuple(grow(f"batch {b}", batch=b, drop=13, rounds=r, at=b) for b, r in batches.items()),
            "images per call (197 tokens)",
        ),
        Case(
            "growth-blocks",
            "growth",
            tuple(
                grow(f"{d} blocks", batch=4, drop=drop, rounds=5, options={"depth": d}, at=d)
                for d, drop in depths.items()
            ),
            "blocks of width 768 (197 tokens, 4 images)",
        ),
    ]


CASES: dict[str, Case] = {case.name: case for case in [*_bars(), *_modes(), *_growth()]}
GROUPS = ("bars", "modes", "growth")


def choose(names: list[str]) -> list[Case]:
    """Cases by their names or those of their groups; all where none is named.

    Raises:
        TurboError: there is no such case.
    """
    if unknown := [name for name in names if name not in CASES and name not in GROUPS]:
        raise TurboError(f"no case is called {unknown[0]!r}; there are: {', '.join([*GROUPS, *CASES])}")
    return [case for case in CASES.values() if not names or {case.name, case.group} & set(names)]
