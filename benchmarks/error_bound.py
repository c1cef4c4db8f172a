"""How tight the error bounds are, and which strategy ranks merges best, on real activations of the digits model.

    python benchmarks/error_bound.py       # some minutes on 2 cores; writes benchmarks/results/error-bound.json

In one block at a time, each source that could merge is merged alone into its partner.

1. Bounds: the change of the class token's attention output (per head, keys and values merged linearly, as in the
   theory), and each bound's ratio to it. 1 would be exact.
2. Ranking: the change of the model's logits when the merge is really run through the rest of the network, and its
   rank correlation (Spearman) with each strategy's cost, over the sources of one image. And what a strategy's
   better half of the sources costs: the sum of their changes over the sum of the least changes, 1 for a perfect choice.

Both on untouched tokens (all sizes 1) and after a hard first merge (sizes of several patches).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from turbo import zoo
from turbo.adapters import ResidualBlock
from turbo.adapters.vit import ViT
from turbo.attention import proportional_attention
from turbo.bench.compare import machine
from turbo.cli.progress import progress
from turbo.fusion import S1, S2, S3, S4, Attention, Bound, Candidates, Distortion, Random, ToMe, Ward
from turbo.information import mutual_redundancy, semantic_value, token_metric
from turbo.matching import select
from turbo.merging import merge
from turbo.partition import Partition, parity

IMAGES = 12
FIRST_DROP = 100
STRATEGIES = (ToMe(), Attention(), S1(), S2(), S3(), S4(), Bound(), Ward(0.0), Distortion(), Random())
BOUNDS = ("9.4, groups", "9.4, distances of logits", "9.4, distances of keys", "9.5, Ward's weight")


@dataclass(frozen=True)
class Stage:
    """A block on the way through the network: what enters its attention, and what leaves it."""

    depth: int
    q: Tensor
    k: Tensor
    v: Tensor
    x: Tensor
    size: Tensor

    @property
    def partition(self) -> Partition:
        """Roles of the tokens."""
        return parity(self.x.shape[1], protected=1)

    def candidates(self) -> tuple[Candidates, Tensor]:
        """What a strategy sees, and each source's partner."""
        part, metric = self.partition, token_metric(self.k)
        redundancy, partner = mutual_redundancy(metric[:, part.source], metric[:, part.destination])
        value = semantic_value(self.q[:, :, :1], self.k, self.size) * self.x.shape[1]
        ends = [(t[:, part.source], t[:, part.destination].gather(1, partner)) for t in (value, self.size)]
        (value_s, value_d), (size_s, size_d) = ends
        return Candidates(redundancy, value_s, value_d, size_s, size_d, self.depth), partner


def attend(block: ResidualBlock, x: Tensor, size: Tensor, depth: int) -> Stage:
    """The first half of a block."""
    q, k, v = block.qkv(x)
    y = proportional_attention(q, k, v, size)
    return Stage(depth, q, k, v, x + block.project(y.transpose(1, 2).flatten(2)), size)


def finish(model: Any, blocks: list[ResidualBlock], depth: int, x: Tensor, size: Tensor) -> Tensor:
    """Logits from what leaves the attention of block `depth`."""
    x = x + blocks[depth].mlp(x)
    for later, block in enumerate(blocks[depth + 1 :], start=depth + 1):
        x = attend(block, x, size, later).x
        x = x + block.mlp(x)
    logits: Tensor = model.classifier(model.vit.layernorm(x)[:, 0])
    return logits


def merge_each_alone(stage: Stage, partner: Tensor) -> tuple[Tensor, Tensor]:
    """``m n-1 d`` and ``m n-1``: the sequence of one image with source i alone merged, for each i."""
    m = partner.shape[1]
    one = torch.eye(m)
    matching = select(one, partner.expand(m, -1), 1, stage.partition)
    return merge(stage.x.expand(m, -1, -1), matching, stage.size.expand(m, -1).contiguous())


def bound_ratios(stage: Stage, partner: Tensor) -> dict[str, Tensor]:
    """Each bound over the change of the class token's attention output: one number per head and source."""
    part, n = stage.partition, stage.x.shape[1]
    position = torch.arange(n)
    i, j = position[part.source], position[part.destination][partner[0]]
    q, k, v = (t[0].double() for t in (stage.q[:, :, :1], stage.k, stage.v))
    size, scale = stage.size[0].double(), q.shape[-1] ** -0.5
    logits = (q @ k.transpose(1, 2))[:, 0] * scale
    p = (logits + size.log()).softmax(dim=-1)
    output = (p[..., None] * v).sum(dim=1)
    w = size[i] / (size[i] + size[j])
    delta = logits[:, i] - logits[:, j]
    mass = p[:, i] + p[:, j]
    # Exact by Proposition 9.3 and without cancellation: much attention is tiny, and so is the change then.
    excess = w * ((1 - w) * delta).expm1() + (1 - w) * (-w * delta).expm1()
    lost = excess / (1 + excess)  # 1 - rho
    tau = w * (1 - w) * delta.expm1() / (w * delta.exp() + 1 - w)
    apart = v[:, i] - v[:, j]
    own = (p[:, i, None] * v[:, i] + p[:, j, None] * v[:, j]) / mass[..., None]
    rest = (output[:, None] - mass[..., None] * own) / (1 - mass)[..., None]
    kept = (1 - lost) * mass / (1 - lost * mass)
    gone = mass * (1 - mass) * lost / (1 - lost * mass)
    change = ((kept * tau)[..., None] * apart + gone[..., None] * (own - rest)).norm(dim=-1)
    apart = apart.norm(dim=-1)
    diameter = torch.cdist(v, v).amax(dim=(1, 2))[:, None]
    keys = q[:, 0].norm(dim=-1)[:, None] * (k[:, i] - k[:, j]).norm(dim=-1) * scale
    weight, far = p[:, i] * p[:, j] / mass, delta.abs()

    def by_distance(spread: Tensor) -> Tensor:
        return mass * ((spread / 4).tanh() * apart + -(-(spread**2) / 8).expm1() * diameter)

    bounds = (
        mass * (tau.abs() * apart + lost * diameter),
        by_distance(far),
        by_distance(keys),
        weight * (far.expm1() * apart + ((far - 1) * far.exp() + 1) * diameter),
    )
    return {name: (bound / change).flatten() for name, bound in zip(BOUNDS, bounds, strict=True)}


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation."""
    return float(torch.corrcoef(torch.stack([t.argsort().argsort().double() for t in (a, b)]))[0, 1])


def cost_of_half(priority: Tensor, change: Tensor) -> float:
    """The changes of the half that would merge, over the least that any half could cost."""
    half = len(change) // 2
    return float(change[priority.topk(half).indices].sum() / change.topk(half, largest=False).values.sum())


def stages_of(model: Any, blocks: list[ResidualBlock], image: Tensor, first_drop: int) -> list[Stage]:
    """Every block's stage of one image, after `first_drop` tokens merged in the first block (by Ward's cost)."""
    x = model.vit.embeddings(image)
    size, stages = torch.ones(x.shape[:2]), []
    for depth, block in enumerate(blocks):
        stage = attend(block, x, size, depth)
        x = stage.x
        if depth == 0 and first_drop:
            candidates, partner = stage.candidates()
            x, size = merge(x, select(Ward(0.0)(candidates), partner, first_drop, stage.partition), size)
        else:
            stages.append(stage)
        x = x + block.mlp(x)
    return stages[:-1]  # nothing reads what merges in the last block


@torch.inference_mode()
def study(model: Any, blocks: list[ResidualBlock], image: Tensor, first_drop: int) -> list[dict[str, Any]]:
    """One record per block of one image."""
    rows = []
    for stage in stages_of(model, blocks, image, first_drop):
        candidates, partner = stage.candidates()
        untouched = finish(model, blocks, stage.depth, stage.x, stage.size)
        merged, size = merge_each_alone(stage, partner)
        change = (finish(model, blocks, stage.depth, merged, size) - untouched).norm(dim=1)
        ratios = bound_ratios(stage, partner)
        rows.append(
            {
                "depth": stage.depth,
                "largest_size": float(stage.size.max()),
                "ratios": {
                    name: ratio.quantile(torch.tensor([0.25, 0.5, 0.75]).double()) for name, ratio in ratios.items()
                },
                "smallest_ratio": min(float(ratio.min()) for ratio in ratios.values()),
                "spearman": {type(s).__name__: spearman(-s(candidates)[0], change) for s in STRATEGIES},
                "half": {type(s).__name__: cost_of_half(s(candidates)[0], change) for s in STRATEGIES},
            }
        )
    return rows


def main() -> None:
    """Study each image untouched and after a hard merge, average, print, write."""
    model = zoo.load("vit-digits")
    blocks = [site for site in ViT().sites(model.vit) if isinstance(site, ResidualBlock)]
    images = zoo.preprocess(zoo.digit_scenes("validation", IMAGES, seed=31)[0])
    record: dict[str, Any] = {
        "scenes": f"validation, {IMAGES}, seed 31",
    }
    with progress("merging one source at a time", steps=2 * IMAGES) as advance:
        for label, first_drop in (("untouched", 0), (f"after {FIRST_DROP} merged in block 0", FIRST_DROP)):
            rows = []
            for image in images.split(1):
                rows += study(model, blocks, image, first_drop)
                advance()
            record[label] = summary(rows)
    head = {"command": "python benchmarks/error_bound.py", "machine": machine(torch.device("cpu"))}
    (Path(__file__).parent / "results" / "error-bound.json").write_text(json.dumps(head | record, indent=1) + "\n")
    show(record)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and quartiles of the ratios, mean rank correlations with their standard error over images and blocks."""
    correlations = {name: torch.tensor([row["spearman"][name] for row in rows]) for name in rows[0]["spearman"]}
    by_depth = sorted({row["depth"] for row in rows})
    return {
        "largest_size": max(row["largest_size"] for row in rows),
        "smallest_ratio": min(row["smallest_ratio"] for row in rows),
        "ratio_quartiles": {
            name: [round(float(x), 3) for x in torch.stack([row["ratios"][name] for row in rows]).mean(dim=0)]
            for name in BOUNDS
        },
        "spearman": {
            name: {"mean": round(float(c.mean()), 3), "standard_error": round(float(c.std() / len(c) ** 0.5), 3)}
            for name, c in correlations.items()
        },
        "cost_of_half": {name: round(mean(row["half"][name] for row in rows), 3) for name in correlations},
        "spearman_by_block": {
            depth: {
                name: round(float(torch.tensor([r["spearman"][name] for r in rows if r["depth"] == depth]).mean()), 3)
                for name in correlations
            }
            for depth in by_depth
        },
    }


def show(record: dict[str, Any]) -> None:
    """Two tables."""
    labels = [label for label, part in record.items() if isinstance(part, dict) and "spearman" in part]
    console = Console()
    table = Table("bound over change", *labels)
    for name in BOUNDS:
        table.add_row(
            name, *("{} ({}-{})".format(*(record[la]["ratio_quartiles"][name][i] for i in (1, 0, 2))) for la in labels)
        )
    console.print(table)
    table = Table("rank correlation with the change of the logits", *labels)
    for strategy in STRATEGIES:
        name = type(strategy).__name__
        table.add_row(name, *("{mean} ± {standard_error}".format(**record[la]["spearman"][name]) for la in labels))
    console.print(table)
    table = Table("change of the better half over the least possible", *labels)
    for strategy in STRATEGIES:
        name = type(strategy).__name__
        table.add_row(name, *(str(record[la]["cost_of_half"][name]) for la in labels))
    console.print(table)


if __name__ == "__main__":
    main()
