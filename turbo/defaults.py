"""What `turbo.accelerate` does where it is not told; docs/benchmarks/choices.md has the measurements behind it."""

from __future__ import annotations

from typing import Final

STRATEGY: Final = "ward"
"""Where tokens stay merged."""
DENOISER_STRATEGY: Final = "s1"
FLOOR: Final = 0.3
"""What every token is worth beside A, in relative units, to `ward`."""
ALPHA: Final = 0.25
"""Weight of A, in relative units, in S1, S3 and S4."""
CROSS_MODAL: Final = 0.0
"""Share of the image tokens that merge after each layer of a text model."""
ASKING: Final = 32
"""Tokens whose attention makes A where there is no class token."""
MOMENTUM: Final = 0.5
"""How much of A comes from the blocks before, where tokens stay merged."""
SCHEDULE: Final = "decreasing"
"""In which blocks the tokens of a `speedup` merge."""
DESTINATIONS: Final = "parity"
"""Which tokens may receive others, where tokens stay merged."""
METRIC: Final = "keys"
SEMANTIC_UNITS: Final = "relative"
MERGED_SHARE: Final = 0.55
"""Share of the tokens that merge, by `SCHEDULE`, where neither `drop` nor `ratio` nor `speedup` says how many: the
blocks' FLOPs fall by about 1.6."""
