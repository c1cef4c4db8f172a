"""Times full-size models (random weights) untouched, with turbo and with ToMe, all in turn.

    python benchmarks/speed.py                                  # every case: more than an hour on two cores
    python benchmarks/speed.py bars growth-batch --tome ../ToMe
    python benchmarks/speed.py vit-b16-224 --rounds 3 --out out/speed
    python benchmarks/speed.py --list

A case is one record, benchmarks/results/speed-CASE.json, written when all of its runs are done. Sides of a run share
the weights and get the same images: "untouched" as its library ships it, fused attention included; turbo's "s1"; in the
bars "tome", redundancy alone, and "drop=0", which must cost nothing. A speed-up is the median over rounds of the ratio
within a round. `--tome` takes a checkout of https://github.com/facebookresearch/ToMe, which is timed on timm's models;
it is no dependency.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from speed_cases import CASES, Case, Run, choose
from speed_peers import Peer, load_tome

from turbo.bench import Comparison, compare
from turbo.bench.compare import machine
from turbo.bench.folder import write_json
from turbo.cli.progress import progress
from turbo.cli.tables import comparison_table
from turbo.errors import TurboError

RESULTS = Path(__file__).parent / "results"
SIDES: Mapping[str, Mapping[str, Any]] = {
    "s1": {"strategy": "s1"},
    "tome": {"strategy": "tome"},
    "drop=0": {"strategy": "s1", "drop": 0},
}
"""Name -> options of `turbo.accelerate`; the drop is the run's where none is given."""


def main(arguments: list[str] | None = None) -> int:
    """Times the cases that were asked for; the exit status is 2 after an error."""
    options = parse(arguments)
    console = Console(width=120)
    if options.list:
        for case in CASES.values():
            console.print(f"{case.group:8}{case.name:22}{len(case.runs)} runs", highlight=False)
        return 0
    try:
        peer = None if options.tome is None else load_tome(options.tome)
        with empty_compiler_cache():
            for case in choose(options.cases):
                record = time_case(case, peer, options.rounds, console)
                write_json(options.out / f"speed-{case.name}.json", record)
    except TurboError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="of --list, or bars, modes, growth; default: all")
    parser.add_argument("--tome", type=Path, metavar="FOLDER", help="a checkout of ToMe")
    parser.add_argument("--rounds", type=_count, help="times each side is run; default: the case's own number")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="for the records")
    parser.add_argument("--list", action="store_true", help="name the cases")
    return parser.parse_args(arguments)


def time_case(case: Case, peer: Peer | None, rounds: int | None, console: Console) -> dict[str, Any]:
    """All runs of a case, as its record.

    Raises:
        TurboError: a side cannot be made, or the peer merges another number of tokens.
    """
    runs = []
    for place, run in enumerate(case.runs, start=1):
        result = time_run(run, case.sides, peer, rounds, f"{case.name}, {place} of {len(case.runs)}")
        console.print(comparison_table(result))
        left_out = dict(result.failed)
        if peer is not None and not run.of_timm:
            left_out[peer.name] = "patches timm's VisionTransformer only"
        found = result.to_json()
        del found["machine"], found["failed"]
        runs.append({"title": run.title, "drop": run.drop, "at": run.at, **found, "left_out": left_out})
    return {
        "case": case.name,
        "group": case.group,
        "axis": case.axis,
        "command": command(case, peer, rounds),
        "machine": machine(torch.device("cpu")),
        "peers": {} if peer is None else {peer.name: {"repository": peer.repository, "commit": peer.commit}},
        "runs": runs,
    }


def time_run(run: Run, sides: Sequence[str], peer: Peer | None, rounds: int | None, label: str) -> Comparison:
    """One interleaved run of all sides, turbo's by their names in `SIDES`."""
    with progress(f"{label}: building {run.title}"):
        loaded = run.load()
    count = rounds or run.rounds
    rivals = {}
    if peer is not None and run.of_timm:
        rivals[peer.name] = partial(peer.patch, drop=run.drop)
    with progress(f"{label}: {run.title}", steps=count + 1) as advance:
        result = compare(
            loaded,
            {name: {"drop": run.drop, **SIDES[name]} for name in sides},
            rivals=rivals,
            compiled=run.compiled,
            batch=run.batch,
            rounds=count,
            on_round=advance,
        )
    tokens = {side.name: side.tokens for side in result.sides if side.name not in ("untouched", "drop=0")}
    if len(set(tokens.values())) > 1:
        raise TurboError(f"{label}: sides end with different numbers of tokens, {tokens}: they cannot be compared")
    torch.compiler.reset()  # the next run's models would only wait in the same caches
    gc.collect()
    return result


@contextmanager
def empty_compiler_cache() -> Iterator[None]:
    """Have torch.compile start from nothing: what earlier processes left on disk would shorten what is timed."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before


def command(case: Case, peer: Peer | None, rounds: int | None) -> str:
    """What makes the same record, with FOLDER for a path."""
    tome = " --tome FOLDER" if peer is not None else ""
    return f"python benchmarks/speed.py {case.name}{tome}" + (f" --rounds {rounds}" if rounds else "")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
