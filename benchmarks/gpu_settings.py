"""What a run of `gpu.py` measures: sizes, device, compiler."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from turbo.bench.compare import machine


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        device: where everything runs.
        quick: tiny sizes, to see that the script works.
        backend: of torch.compile.
        tome: a checkout of ToMe, or None.
        rounds: how often each side is timed.
    """

    device: torch.device
    quick: bool
    backend: str
    tome: Path | None
    rounds: int
    dtype: torch.dtype = torch.bfloat16

    @property
    def cuda(self) -> bool:
        """Whether there are CUDA graphs, several attention kernels and events."""
        return self.device.type == "cuda"

    @property
    def tokens(self) -> tuple[int, int, int]:
        """Tokens of the second block of CLIP ViT-L/14 at 336 px, where sizes differ; heads; width of a head."""
        return (21, 2, 16) if self.quick else (556, 16, 64)

    @property
    def drop(self) -> int:
        """Tokens that one block merges; 21 is what `ideal` takes."""
        return 3 if self.quick else 21

    @property
    def ideal(self) -> float:
        """By how much a model's FLOPs should fall; turbo and ToMe merge the constant count that does it."""
        return 1.2 if self.quick else 1.8

    @property
    def batches(self) -> tuple[int, ...]:
        """Of single functions; the most telling first."""
        return (2,) if self.quick else (32, 1, 256, 64)

    @property
    def model_batches(self) -> tuple[int, ...]:
        """Of whole models."""
        return (1,) if self.quick else (32, 1, 128)

    @property
    def compiled_runs(self) -> tuple[tuple[int, str], ...]:
        """Batch and mode of torch.compile, the most telling first: a large model takes the compiler a minute."""
        if self.quick:
            return ((1, "default"),)
        graphs = "reduce-overhead"
        return (32, "default"), (1, graphs), (128, "default"), (1, "default"), (32, graphs), (128, graphs)

    @property
    def why_no_triton(self) -> str | None:
        """Why the Triton kernels cannot run; None where they can."""
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        return None

    def machine(self) -> dict[str, object]:
        """What it was measured on."""
        found: dict[str, object] = dict(machine(self.device))
        if importlib.util.find_spec("triton") is not None:
            import triton

            found["triton"] = triton.__version__
        if self.cuda:
            properties = torch.cuda.get_device_properties(self.device)
            found |= {
                "capability": f"{properties.major}.{properties.minor}",
                "memory_gb": round(properties.total_memory / 1e9, 1),
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
            }
        return found
