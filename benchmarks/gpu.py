"""Measures on one GPU what decides turbo's CUDA path: attention's roads, candidate kernels, whole models, CUDA graphs.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json --tome ../ToMe
    python benchmarks/gpu.py --device cpu --quick --backend eager --out out/gpu.json

bfloat16. `--tome` takes a checkout of https://github.com/facebookresearch/ToMe; it is no dependency. Each part has a
share of `--minutes` and begins nothing new after it; what was left out is in the record with the reason. An error is
recorded with its text, the rest goes on, and the exit status is 1. On a CPU with `--quick` everything is tiny, Triton
runs in its interpreter, and the times say nothing: it shows that the script works.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

SHARES = {"attention": 0.2, "execution": 0.1, "models": 0.5, "similarity": 0.1, "merging": 0.1}
"""Parts in their order, with their shares of the time. Triton is last: a kernel that reads astray spoils the device."""


def main() -> int:
    """Run the parts that were asked for."""
    options = parse()
    if options.device == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported
    return run(options)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    parser.add_argument("--tome", type=Path, help="a checkout of ToMe, measured on the same weights")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--minutes", type=float, default=9, help="for all parts; what is under way goes on")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--rounds", type=int, default=0, help="readings of each side; 0 means 15, or 2 with --quick")
    options = parser.parse_args()
    if options.tome is not None and not (options.tome / "tome").is_dir():
        parser.error(f"--tome {options.tome}: there is no folder tome in it; give a checkout of ToMe")
    return options


def run(options: argparse.Namespace) -> int:
    """All parts, one after another."""
    import gpu_attention
    import gpu_execution
    import gpu_models
    import gpu_scoring
    import torch
    from gpu_record import Record
    from gpu_settings import Settings

    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: try --device cpu --quick", file=sys.stderr)
        return 2
    if device.type != "cuda" and not options.quick:
        print(f"--device {options.device} measures nothing: --quick shows whether the script works", file=sys.stderr)
        return 2
    rounds = options.rounds or (2 if options.quick else 15)
    settings = Settings(device, options.quick, options.backend, options.tome, rounds)
    arguments = " ".join(Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:])
    head = {"command": f"python benchmarks/gpu.py {arguments}", "machine": settings.machine()}
    record = Record(options.out, head)
    measures = {
        "attention": gpu_attention.measure,
        "execution": gpu_execution.measure,
        "models": gpu_models.measure,
        "similarity": gpu_scoring.measure_similarity,
        "merging": gpu_scoring.measure_merging,
    }
    parts = [part for part in SHARES if part in options.parts]
    whole, given = sum(SHARES[part] for part in parts), 0.0
    start = time.monotonic()
    for part in parts:
        given += SHARES[part] / whole  # what earlier parts left is the next one's
        record.deadline = start + 60 * options.minutes * given
        with record.attempt(part, "the part as a whole"):
            measures[part](settings, record)
    record.save()
    print(f"{len(record.rows)} findings, {len(record.failed)} failures, {len(record.left_out)} left out: {options.out}")
    return 1 if record.failed else 0


if __name__ == "__main__":
    sys.exit(main())
