"""One block on one scene, step by step, as docs/how-it-works.md computes it: the numbers of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import turbo
from turbo import zoo
from turbo.information import mutual_redundancy, semantic_value, token_metric
from turbo.matching import select
from turbo.partition import parity
from turbo.reporting import Report

SIDE = 14  # patches along each side of a scene
STRATEGY = "s1"
ALPHA = turbo.fusion.S1().alpha
ROW = 2  # of twelve scenes: the one on the page


@dataclass(frozen=True)
class Step:
    """What the first block finds. Patches are counted from 0, without the class token.

    Attributes:
        image: ``h w 3`` in [0, 1].
        source: ``m``, the patches that may merge.
        partner: ``m``, the patch into which each would.
        redundancy: ``m``, R.
        value: ``n``, A of every patch in relative units.
        priority: ``m``, E of S1.
        chosen: ``r``, the sources that merge.
        groups: ``n``, after the merge the token of each patch.
        size: for each token how many patches it stands for, the class token first.
    """

    image: np.ndarray[Any, Any]
    source: Tensor
    partner: Tensor
    redundancy: Tensor
    value: Tensor
    priority: Tensor
    chosen: Tensor
    groups: Tensor
    size: Tensor


def first_block(drop: int) -> Step:
    """Scores and merges in the captioner's first block."""
    scene = zoo.draw_scenes("test", 12, seed=3, ground="distractors")[ROW : ROW + 1]
    tower = zoo.load("blip-scenes").vision_model
    block = tower.encoder.layers[0]
    with torch.no_grad():
        x = tower.embeddings(zoo.preprocess(scene.images))
        n = x.shape[1]
        q, k, _ = block.self_attn.qkv(block.layer_norm1(x)).view(1, n, 3, 4, -1).permute(2, 0, 3, 1, 4)
        part = parity(n, protected=1)
        metric = token_metric(k)
        redundancy, partner = mutual_redundancy(metric[:, part.source], metric[:, part.destination])
        value = n * semantic_value(q[:, :, :1], k, size=None)
    priority = redundancy - ALPHA * value[:, part.source]
    matching = select(priority, partner, drop, part)
    patches = torch.arange(n) - 1
    return Step(
        image=scene.images[0] / 255,
        source=patches[part.source],
        partner=patches[part.destination][partner[0]],
        redundancy=redundancy[0],
        value=value[0, 1:],
        priority=priority[0],
        chosen=priority[0].topk(drop).indices,
        groups=matching.assignment[0, 1:],
        size=matching.assignment[0].bincount(),
    )


@dataclass(frozen=True)
class Run:
    """What all blocks do to one scene.

    Attributes:
        image: ``h w 3`` in [0, 1].
        groups: after each block ``n``, the token of each patch.
        left: after each block the tokens, the class token included.
        untouched: the caption of the untouched model.
        caption: that of the accelerated one.
    """

    image: np.ndarray[Any, Any]
    groups: list[Tensor]
    left: list[int]
    untouched: str
    caption: str


def all_blocks(rows: tuple[int, ...]) -> tuple[list[Run], Report]:
    """Runs the accelerated captioner on scenes and has it write, and tells what its blocks cost."""
    from transformers import AutoProcessor

    scenes = zoo.draw_scenes("test", 12, seed=3, ground="distractors")
    pixels = zoo.preprocess(scenes.images)
    model, processor = zoo.load("blip-scenes"), AutoProcessor.from_pretrained(zoo.folder("blip-scenes"))

    @torch.inference_mode()
    def write() -> list[str]:
        answer: list[str] = processor.batch_decode(
            model.generate(pixels, num_beams=3, max_length=32), skip_special_tokens=True
        )
        return answer

    untouched = write()
    turbo.accelerate(model, STRATEGY)
    caption = write()
    with torch.inference_mode(), turbo.recording(model) as trace:
        model.vision_model(pixels)
    runs = [
        Run(
            image=scenes.images[row] / 255,
            groups=[trace.groups(upto=block.depth)[row, 1:] for block in trace.blocks],
            left=[block.size.shape[1] for block in trace.blocks],
            untouched=untouched[row],
            caption=caption[row],
        )
        for row in rows
    ]
    return runs, turbo.report(model)
