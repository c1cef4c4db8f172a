"""What log s costs fused attention on a CPU, by each exact way to add it: ``python benchmarks/attention_cpu.py``.

All ways in turn on the same q, k and v, which lie as a fused projection leaves them; and "map", which is not fused: the
whole map is made, as ToMe does. FlexAttention is left out: torch's compiler has no CPU code for it here. The record is
benchmarks/results/attention-cpu.json. `gpu.py` measures a GPU.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from gpu_attention import roads
from torch import Tensor

from turbo.allocator import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.folder import write_json
from turbo.bench.timing import interleave
from turbo.engine.times import median_ratio
from turbo.errors import TurboError

OUT = Path(__file__).parent / "results" / "attention-cpu.json"
SHAPES = {"ViT-B/16 at 224 px": (8, 197, 12), "ViT-B/16 at 384 px": (4, 577, 12), "ViT-B/16 at 1024 px": (1, 4097, 12)}
"""A model -> images, tokens and heads of its attention."""
WIDTH = 64  # of a head
LIMIT = "plain"


def with_map(q: Tensor, k: Tensor, v: Tensor, size: Tensor) -> Tensor:
    """Proportional attention by its formula, all in the type of q."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3) + size.log()[:, None, None, :].to(q.dtype)
    return scores.softmax(dim=-1) @ v


def measure(shape: tuple[int, int, int], dtype: torch.dtype, rounds: int) -> dict[str, float]:
    """By what factor each way takes longer than attention without log s: the median over rounds."""
    batch, n, heads = shape
    torch.manual_seed(0)
    q, k, v = torch.randn(batch, n, 3, heads, WIDTH).to(dtype).permute(2, 0, 3, 1, 4).unbind(0)
    size = torch.randint(1, 9, (batch, n)).float()
    ways = {name: road for name, road in roads().items() if name != "flex"} | {"map": with_map}
    calls = {name: partial(way, q, k, v, size) for name, way in ways.items()}
    with torch.inference_mode():
        require_agreement({name: call() for name, call in calls.items() if name != LIMIT})
        seconds = interleave(calls, rounds=rounds)
    return {name: median_ratio(took, seconds[LIMIT]) for name, took in seconds.items()}


def require_agreement(outputs: dict[str, Tensor]) -> None:
    """All ways compute the same, to rounding: an error where they do not."""
    wanted = outputs["mask"].float()
    within = 1e-4 if outputs["mask"].dtype == torch.float32 else 0.02
    for name, output in outputs.items():
        if not torch.allclose(output.float(), wanted, rtol=within, atol=within):
            raise TurboError(f"{name} is not what the mask computes: its time says nothing")


def main() -> int:
    """Measures all shapes and writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    options = parser.parse_args()
    hold_allocator()
    runs = []
    for dtype in (torch.float32, torch.bfloat16):
        for title, shape in SHAPES.items():
            about = {"title": title, "dtype": str(dtype).removeprefix("torch."), "batch": shape[0], "n": shape[1]}
            runs.append({**about, "times": measure(shape, dtype, options.rounds)})
    record = {
        "command": f"python benchmarks/attention_cpu.py --rounds {options.rounds}",
        "rounds": options.rounds,
        "machine": machine(torch.device("cpu")),
        "runs": runs,
    }
    write_json(options.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
