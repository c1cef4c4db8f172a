"""What the choices inside turbo's diffusion engine are worth: each taken out, or replaced, one at a time.

    python benchmarks/generation_choices.py    # some 6 minutes on 2 cores

For noised scenes at five timesteps the guided prediction of the zoo's text-to-image model is compared to the untouched
one: relative squared error, its mean over scenes and timesteps, and the paired difference to the first row of its
block of rows with its standard error. No sampling, so errors do not build up, and little noise. Results go to
benchmarks/results/generation-choices.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import turbo
from turbo import zoo
from turbo.adapters.base import split_heads
from turbo.adapters.unet import UNet, UNetBlock
from turbo.bench.compare import machine
from turbo.cli.progress import progress
from turbo.zoo import captioned_scenes

TIMESTEPS = (900, 700, 500, 300, 100)
SA, CA, FF = "self_attention", "cross_attention", "feed_forward"


def mean_query(block: UNetBlock, x: Tensor) -> Tensor:
    """Attention of the mean query."""
    return _attention(block, x, lambda q: q.mean(dim=2, keepdim=True))


def received(block: UNetBlock, x: Tensor) -> Tensor:
    """Attention received from all queries."""
    return _attention(block, x, lambda q: q)


def norm(block: UNetBlock, x: Tensor) -> Tensor:
    """Length of the token."""
    return x.norm(dim=-1)


def value_norm(block: UNetBlock, x: Tensor) -> Tensor:
    """Length of the value vector."""
    return block.module.attn1.to_v(x).norm(dim=-1)


def _attention(block: UNetBlock, x: Tensor, choose: Any) -> Tensor:
    q, k = (split_heads(layer(x), block.heads) for layer in (block.module.attn1.to_q, block.module.attn1.to_k))
    return (choose(q) @ k.transpose(2, 3) * block.scale).softmax(-1).mean(dim=(1, 2))


@dataclass(frozen=True)
class Variant:
    """One way to do it: what differs from turbo as it is."""

    label: str
    parts: tuple[str, ...] = (SA,)
    strategy: Any = "s1"
    ratio: float = 0.5
    value: Any = None
    guided: bool = True
    log_size: bool = True
    share: bool = True
    text_token: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def block_class(self) -> type[UNetBlock]:
        """A description of a block with the variant's pieces."""
        variant = self

        class Block(UNetBlock):
            def visual_value(self, x: Tensor) -> Tensor:
                return super().visual_value(x) if variant.value is None else variant.value(self, x)

            def guided_value(self, without: Tensor, with_text: Tensor) -> Tensor:
                found = super().guided_value(without, with_text)
                return found if variant.guided and variant.value is None else torch.zeros_like(found)

            def self_attention_bias(self, bias: Tensor) -> dict[str, Any]:
                return super().self_attention_bias(bias) if variant.log_size else {}

        return Block


def variants() -> Iterator[list[Variant]]:
    """Blocks of rows; each is compared with its first."""
    s1 = turbo.fusion.S1
    for ratio in (0.25, 0.5, 0.75):
        names = ("tome", "s1", "s2", "s3", "s4", "distortion", "ward", "bound", "attention", "random")
        chosen = {name: turbo.fusion.Ward(0.0) if name == "ward" else name for name in names}  # as it was measured
        yield [Variant(f"{name}, ratio {ratio:g}", strategy=it, ratio=ratio) for name, it in chosen.items()]
    tome = Variant("R alone", strategy="tome")
    yield [
        tome,
        Variant("s1"),
        Variant("R alone, without log s", strategy="tome", log_size=False),
        Variant("R alone, halves of guidance matched by themselves", strategy="tome", share=False),
        Variant("R alone, neither", strategy="tome", log_size=False, share=False),
        Variant("random, without log s", strategy="random", log_size=False),
        Variant("R alone, states before keys", strategy="tome", options={"metric": "hidden"}),
        Variant("R alone, parity", strategy="tome", options={"destinations": "parity"}),
        Variant("R alone, downsample 2 as well", strategy="tome", options={"max_downsample": 2}),
    ]
    for name in ("s1", "distortion"):
        yield [
            tome,
            Variant(f"{name}: changed by the text", strategy=name),
            Variant(f"{name}: distance from the mean token", strategy=name, guided=False),
            Variant(f"{name}: length of the token", strategy=name, value=norm),
            Variant(f"{name}: length of the value vector", strategy=name, value=value_norm),
            Variant(f"{name}: attention of the mean query", strategy=name, value=mean_query),
            Variant(f"{name}: attention received", strategy=name, value=received),
        ]
    yield [Variant(f"S1, alpha {alpha:g}", strategy=s1(alpha=alpha)) for alpha in (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)]
    for part in (FF, CA):
        hidden = {"metric": "hidden"}
        yield [
            Variant(f"{part}: R alone", (part,), "tome"),
            Variant(f"{part}: s1", (part,)),
            Variant(f"{part}: distortion", (part,), "distortion"),
            Variant(f"{part}: random", (part,), "random"),
            Variant(f"{part}: R alone, states", (part,), "tome", options=hidden),
            Variant(f"{part}: distortion, states", (part,), "distortion", options=hidden),
            Variant(f"{part}: halves by themselves", (part,), "tome", share=False),
        ]
    by_word = {"the end of sequence": -1, "the start of sequence": 0, "the colour word": 3, "the word after it": 4}
    yield [
        Variant(f"{CA}: R alone", (CA,), "tome"),
        *(Variant(f"{CA}: s1 by {name}", (CA,), text_token=token) for name, token in by_word.items()),
    ]
    yield [
        Variant("all parts: R alone", (SA, CA, FF), "tome"),
        Variant("all parts: R alone, by themselves, no log s", (SA, CA, FF), "tome", log_size=False, share=False),
        Variant("all parts: s1", (SA, CA, FF)),
        Variant("all parts: distortion", (SA, CA, FF), "distortion"),
        Variant("all parts: distortion, states", (SA, CA, FF), "distortion", options={"metric": "hidden"}),
    ]


class Meter:
    """Scenes, their noise, and the untouched prediction."""

    def __init__(self, images: int) -> None:
        self.pipe: Any = zoo.load("t2i-scenes")
        drawn, captions, _ = captioned_scenes("validation", images, 5, pairs=0.3)
        self.clean = zoo.preprocess(drawn)
        self.noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            self.text = torch.cat([self.pipe.encode([""] * images), self.pipe.encode(captions)])
        self.untouched = self.predict()

    def predict(self) -> Tensor:
        """The guided prediction at every timestep, ``t b c h w``."""
        found = []
        for timestep in TIMESTEPS:
            times = torch.full((len(self.clean),), timestep)
            noisy = self.pipe.scheduler.add_noise(self.clean, self.noise, times)
            with torch.inference_mode():
                pair = self.pipe.unet(torch.cat([noisy] * 2), timestep, encoder_hidden_states=self.text).sample
            without, with_text = pair.chunk(2)
            found.append(without + 4.0 * (with_text - without))
        return torch.stack(found)

    def error(self, variant: Variant) -> Tensor:
        """Relative squared error, ``t b``."""
        adapter = UNet(variant.text_token)
        whole = UNetBlock if variant == Variant(variant.label) else variant.block_class()
        twins = patch("turbo.engine.round_trip.generation._twins", lambda latents: False)
        with patch("turbo.adapters.unet.UNetBlock", whole):
            turbo.accelerate(
                self.pipe,
                variant.strategy,
                ratio=dict.fromkeys(variant.parts, variant.ratio),
                adapter=adapter,
                **variant.options,
            )
        try:
            if variant.share:
                found = self.predict()
            else:
                with twins:
                    found = self.predict()
        finally:
            turbo.restore(self.pipe)
        return ((found - self.untouched) ** 2).mean(dim=(2, 3, 4)) / (self.untouched**2).mean(dim=(2, 3, 4))


def main() -> None:
    """Measure every variant, print a table, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "generation-choices.json")
    options = parser.parse_args()
    meter = Meter(options.images)
    groups = list(variants())
    rows: list[dict[str, Any]] = []
    with progress("measuring", steps=sum(map(len, groups))) as advance:
        for number, group in enumerate(groups):
            first: Tensor | None = None
            for variant in group:
                error = meter.error(variant)
                mean = error.mean(dim=0)
                first = mean if first is None else first
                gap = mean - first
                rows.append(
                    {
                        "group": number,
                        "label": variant.label,
                        "error": mean.mean().item(),
                        "by_timestep": dict(zip(map(str, TIMESTEPS), error.mean(dim=1).tolist(), strict=True)),
                        "difference": gap.mean().item(),
                        "standard_error": (gap.std() / len(gap) ** 0.5).item(),
                    }
                )
                advance()
    record = {
        "command": "python benchmarks/generation_choices.py " + " ".join(sys.argv[1:]),
        "machine": machine(torch.device("cpu")),
        "images": options.images,
        "rows": rows,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    table = Table("variant", "error, 1e-3", "difference ± s.e.")
    for row in rows:
        table.add_row(
            row["label"],
            f"{row['error'] * 1e3:.2f}",
            f"{row['difference'] * 1e3:+.2f} ± {row['standard_error'] * 1e3:.2f}",
            end_section=row is rows[-1] or rows[rows.index(row) + 1]["group"] != row["group"],
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
