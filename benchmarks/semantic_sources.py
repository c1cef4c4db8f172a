"""Where A should come from if there is no class token: candidates, measured on the zoo's models.

    python benchmarks/pool_tower.py --out out/pool-scenes.pt     # a tower that has none; 16 minutes
    python benchmarks/semantic_sources.py                        # about an hour on one core

In the zoo's own models the class token is hidden: it neither asks nor is asked, and stays protected. The tower of
`pool_tower.py` has none. Figures are the negative log-likelihood (nats) and, of embeddings, 1 - their cosine with the
untouched model's. Results go to benchmarks/results/semantic-sources.json: the validation part chooses, the test part
reports.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guided_runs import SEEDS, Guided, jobs, load, rows, run, write_record
from guides import Head, Received, Source, even, mean_query, mean_query_by_size

from turbo.allocator import hold_allocator

RESULTS = Path(__file__).parent / "results" / "semantic-sources.json"
MODELS = ("blip-scenes", "clip-scenes", "vit-digits", "pool-scenes")
AMOUNTS = (1.6, 2.0, 2.5, 3.0)
SOURCES: Mapping[str, Source] = {
    "even": even,
    "mean query": mean_query,
    "mean query by size": mean_query_by_size,
    **{f"received from {most}": Received(most) for most in (8, 16, 32)},
    "received from 32 by size": Received(32, by_size=True),
    "received from all": Received(2**20),
}
WITH_S1 = ("even", "mean query", "received from 32", "received from all")


def settings(name: str, model: Any) -> list[Guided]:
    """All that is measured of a model; of the class token's own A, where there is one, to compare with."""
    last: dict[str, Source | None] = {"class token": None}
    if name == "pool-scenes":
        last = {"head's query": Head(model.tower)}
    found = []
    for amount in AMOUNTS:
        found.append(Guided("tome", amount, "none"))
        for source, make in {**SOURCES, **last}.items():
            found.append(Guided("ward", amount, source, make))
            if source in (*WITH_S1, *last):
                found.append(Guided("s1", amount, source, make))
    return found


def alone(setting: Guided) -> Guided:
    """What a setting is compared with: R alone."""
    return Guided("tome", setting.speedup, "none")


def main() -> None:
    """Measures, collects and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, help="what is measured now")
    parser.add_argument("--splits", nargs="+", default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--pool", type=Path, default=Path("out/pool-scenes.pt"), help="by pool_tower.py")
    parser.add_argument("--out", type=Path, default=Path("out/semantic-sources"))
    options = parser.parse_args()
    hold_allocator()
    found: dict[str, list[dict[str, Any]]] = {split: [] for split in options.splits}
    for split in options.splits:
        for name in options.models:
            loaded, inputs = load(name, options.pool)
            wanted, folder = settings(name, loaded.model), options.out / split / name
            for part, job in jobs(name, split, loaded, inputs):
                run(job, folder / part, wanted, hide_first=name != "pool-scenes")
            found[split] += rows(name, split, folder, wanted, alone)
    if options.models == list(MODELS) and options.splits == list(SEEDS):
        write_record(RESULTS, "python benchmarks/semantic_sources.py", found)


if __name__ == "__main__":
    main()
