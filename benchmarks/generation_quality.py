"""Quality of the zoo's text-to-image model under merging: curves over the ratio, for every way to choose tokens.

    python benchmarks/generation_quality.py                 # some 20 minutes on 2 free cores; stop and rerun at will
    python benchmarks/generation_quality.py --parts self_attention,feed_forward --images 16 --seeds 3
    python benchmarks/generation_quality.py --pairs-only    # the picture of pairs alone

Every side draws the same captions from the same noise, at equal tokens in equal parts. Rows are written one by one
into benchmarks/results/generation-quality.json, and a row that is there is not measured again; `--fresh` starts over.
Seed by seed: Frechet distance to held-out drawn scenes and to the untouched images (features of the zoo's scene judge),
agreement with the captions as the judge reads them, PSNR and the judge's feature distance to the untouched image.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from generation_pictures import difference, draw_curves, draw_pairs, spread
from rich.console import Console
from rich.table import Table
from tomesd_algorithm import tomesd
from torch import Tensor

import turbo
from turbo import zoo
from turbo.bench import hold_allocator
from turbo.bench.compare import machine
from turbo.bench.fidelity import (
    FrechetReference,
    caption_agreement,
    feature_distance,
    find_extractor,
    psnr,
    squared_error,
)
from turbo.cli.progress import progress
from turbo.errors import TurboError
from turbo.zoo.captioned import captioned_scenes

HERE = Path(__file__).parent
METHODS = ("s1", "s2", "s3", "s4", "distortion", "ward", "bound", "tome", "attention", "random", "tomesd")
REFERENCE, REFERENCE_SEED = 2000, 900
PAIRS = 0.0  # share of scenes with two objects, which the model does not draw well
UNTOUCHED = "untouched"


def main() -> None:
    """Measure what is missing, write it down, and draw it."""
    options = parse()
    hold_allocator()
    pipe = zoo.load("t2i-scenes")
    pipe.set_progress_bar_config(disable=True)
    images = HERE.parent / "docs" / "images"
    pair_parts = options.parts[0]
    draw_pairs(pipe, images / "generation-pairs.png", options.pair_strategy, options.pair_ratio, pair_parts.split(","))
    if options.pairs_only:
        return
    settings = {name: getattr(options, name) for name in ("images", "steps", "guidance", "batch", "max_downsample")}
    settings |= {"model_digest": digest(pipe.unet), "reference": f"{REFERENCE} drawn held-out scenes of one object"}
    record = load_record(options.out, settings, fresh=options.fresh)
    measure(pipe, options, record)
    show(record["rows"])
    draw_curves(record["rows"], images / f"{options.out.stem}.png")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=32, help="per seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.25, 0.5, 0.6, 0.75])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="'s1', 's1 every 4', tomesd, …")
    parser.add_argument("--parts", nargs="+", default=["self_attention"], help="each a set: a,b")
    parser.add_argument("--max-downsample", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "generation-quality.json")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that are there")
    parser.add_argument("--pairs-only", action="store_true")
    parser.add_argument("--pair-strategy", default="s1")
    parser.add_argument("--pair-ratio", type=float, default=0.5)
    return parser.parse_args()


def load_record(path: Path, settings: dict[str, Any], *, fresh: bool) -> dict[str, Any]:
    """The record to go on with; rows of other settings are no part of it."""
    record: dict[str, Any] = {"path": path, "settings": settings, "rows": []}
    if path.exists() and not fresh:
        found = json.loads(path.read_text())
        if found["settings"] != settings:
            other = [name for name, value in settings.items() if found["settings"].get(name) != value]
            raise TurboError(f"{path} has rows of other settings ({', '.join(other)}): give --fresh or another --out")
        record["rows"] = found["rows"]
    return record


def measure(pipe: Any, options: argparse.Namespace, record: dict[str, Any]) -> None:
    """Measure every condition of every seed that has no row yet, seed by seed."""
    judge: Any = zoo.load("scene-judge")
    extractor = find_extractor("judge")
    drawn = torch.from_numpy(captioned_scenes("test", REFERENCE, REFERENCE_SEED, PAIRS)[0]).permute(0, 3, 1, 2)
    reference = FrechetReference(torch.split(drawn, 250), extractor)
    conditions = [(p, m, r) for p in options.parts for r in options.ratios for m in options.methods]
    done = {(row["parts"], row["method"], row["ratio"], row["seed"]) for row in record["rows"]}
    todo = {s: [c for c in conditions if (*c, s) not in done] for s in options.seeds}
    with progress("drawing", steps=sum(map(len, todo.values()))) as advance:
        for seed in options.seeds:
            fresh = ("", UNTOUCHED, 0.0, seed) not in done
            if not todo[seed] and not fresh:
                continue
            _, captions, labels = captioned_scenes("test", options.images, seed, PAIRS)
            untouched, took = draw(pipe, captions, seed, options)

            def score(
                images: Tensor, seconds: float, labels: Any = labels, untouched: Tensor = untouched
            ) -> dict[str, Any]:
                return {
                    "frechet": reference.distance([images]),
                    "frechet_untouched": FrechetReference([untouched], extractor).distance([images]),
                    "agreement": caption_agreement([images], labels, judge),
                    **paired(images, untouched, judge),
                    "seconds": seconds,
                }

            if fresh:
                add(record, {"parts": "", "method": UNTOUCHED, "ratio": 0.0, "seed": seed, **score(untouched, took)})
            for parts, method, ratio in todo[seed]:
                with merged(pipe, method, ratio, parts.split(","), options.max_downsample, seed):
                    images, took = draw(pipe, captions, seed, options)
                row = {"parts": parts, "method": method, "ratio": ratio, "seed": seed}
                add(record, row | score(images, took))
                advance()


def merged(
    pipe: Any, method: str, ratio: float, parts: Sequence[str], max_downsample: int, seed: int
) -> AbstractContextManager[Any]:
    """A method at work, for the length of a `with` block."""
    if method == "tomesd":
        return tomesd(pipe.unet, ratio, parts, max_downsample=max_downsample, seed=seed)
    name, _, steps = method.partition(" every ")
    return turbo.accelerated(
        pipe,
        turbo.fusion.Random(seed) if name == "random" else name,
        ratio=dict.fromkeys(parts, ratio),
        max_downsample=max_downsample,
        refresh_every=int(steps or 1),
        seed=seed,
    )


def draw(pipe: Any, captions: Sequence[str], seed: int, options: argparse.Namespace) -> tuple[Tensor, float]:
    """Images of captions, uint8 ``b 3 h w``, and seconds per image."""
    found = []
    start = time.perf_counter()
    for part in batches(range(len(captions)), options.batch):
        images = pipe(
            [captions[i] for i in part],
            generator=[torch.Generator().manual_seed(100_000 * seed + i) for i in part],
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            output_type="pt",
        ).images
        found.append((images * 255).round().byte())
    return torch.cat(found), (time.perf_counter() - start) / len(captions)


def batches(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Neighbours together."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def paired(images: Tensor, untouched: Tensor, judge: Any) -> dict[str, float | None]:
    """Distances to the untouched images of the same noise; no PSNR where nothing differs."""
    error = squared_error(images, untouched).mean()
    return {
        "psnr": None if error == 0 else psnr(error).item(),
        "feature_distance": feature_distance(images, untouched, judge).mean().item(),
    }


def add(record: dict[str, Any], row: dict[str, Any]) -> None:
    """Append a row, and write all of them: whole, or not at all."""
    record["rows"].append(row)
    head = {
        "command": "python benchmarks/generation_quality.py " + shlex.join(sys.argv[1:]),
        "machine": machine(torch.device("cpu"))
        | {"diffusers": version("diffusers"), "torchmetrics": version("torchmetrics")},
        "features": "turbo's scene-judge",
        "settings": record["settings"],
    }
    lines = ",\n".join("  " + json.dumps(each) for each in record["rows"])
    text = json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + lines + "\n ]\n}\n"
    record["path"].parent.mkdir(parents=True, exist_ok=True)
    part = record["path"].with_suffix(".part")
    part.write_text(text)
    part.replace(record["path"])


def digest(model: torch.nn.Module) -> str:
    """A fingerprint of weights: rows of another model are another record."""
    found = hashlib.sha256()
    for weight in model.state_dict().values():
        found.update(weight.float().numpy().tobytes())
    return found.hexdigest()[:12]


def show(rows: list[dict[str, Any]]) -> None:
    """Print means and standard errors over seeds; Frechet distance and agreement minus those untouched."""
    names = {"frechet": "Δ Frechet", "feature_distance": "feature distance", "psnr": "PSNR", "exact": "Δ exact"}
    table = Table("parts", "ratio", "method", *(f"{name} ± s.e." for name in names.values()), "s/image")
    untouched = {row["seed"]: row for row in rows if row["method"] == UNTOUCHED}
    groups: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["method"] != UNTOUCHED:
            groups.setdefault((row["parts"], row["ratio"], row["method"]), []).append(row)
    for (parts, ratio, method), found in sorted(groups.items(), key=lambda group: group[0][:2]):
        cells = []
        for name in names:
            values = [value for row in found if (value := difference(row, untouched, name)) is not None]
            cells.append("{:.4f} ± {:.4f}".format(*spread(values)) if values else "")
        table.add_row(parts, f"{ratio:g}", method, *cells, f"{mean(row['seconds'] for row in found):.2f}")
    console = Console(width=150)
    console.print(table)
    first = list(untouched.values())
    agreement = ", ".join(f"{name} {mean(r['agreement'][name] for r in first):.1%}" for name in first[0]["agreement"])
    console.print(
        f"untouched: Frechet distance {mean(row['frechet'] for row in first):.4f}, agreement: {agreement}, "
        f"{mean(row['seconds'] for row in first):.2f} s/image"
    )


if __name__ == "__main__":
    main()
