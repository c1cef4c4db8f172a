"""Times a full-size Stable Diffusion UNet (random weights) untouched, with turbo and with tomesd, all in turn.

    python benchmarks/sd_unet.py --config sd15-unet --latents 64 128 --parts self_attention self_attention,feed_forward
    python benchmarks/sd_unet.py --config sdxl-unet --latents 128 --max-downsample 2 --tomesd ../tomesd
    python benchmarks/sd_unet.py --config sd15-unet --device cuda --dtype float16 --batch 1 8 --compile

Every latents size, batch and mode (eager, compiled) is one interleaved run: a side's seconds are those of one step of
the UNet, both halves of guidance stacked. The untouched side is diffusers' own, fused attention included. `--tomesd`
takes a checkout of https://github.com/dbolya/tomesd, whose sides get the same ratio and parts; it is no dependency.
FLOPs are counted by torch in a call of the real model on its device, fused attention included. Results go to
benchmarks/results/CONFIG-DEVICE.json, after each run.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from rich.console import Console
from rich.table import Table
from sd_models import CONFIGS, build, inputs
from speed_peers import TOMESD, commit_of, import_function
from torch import Tensor

import turbo
from turbo.bench import copy_sharing, hold_allocator, interleave, quartiles
from turbo.bench.compare import machine
from turbo.bench.compiling import room_for_sides
from turbo.bench.counting import flops_by_operation
from turbo.bench.folder import write_json
from turbo.bench.memory import peak_memory
from turbo.cli.progress import progress
from turbo.errors import TurboError

UNTOUCHED = "untouched"
TOMESD_PARTS = {"self_attention": "merge_attn", "cross_attention": "merge_crossattn", "feed_forward": "merge_mlp"}
Call = Callable[[], object]


def main() -> None:
    """Time every combination that was asked for."""
    options = parse()
    hold_allocator()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    peers = {}
    if options.tomesd is not None:
        import_function(TOMESD, options.tomesd)  # what is wrong with it says so before anything is timed
        peers[TOMESD.name] = {"repository": TOMESD.url, "commit": commit_of(options.tomesd)}
    unet = build(options.config, device, dtype)
    runs: list[dict[str, Any]] = []
    modes = (False, True) if options.compile else (False,)
    out = options.out or Path(__file__).parent / "results" / f"{options.config}-{device.type}.json"
    for latents, batch, compiled in itertools.product(options.latents, options.batch, modes):
        runs.append(time_sides(unet, options, latents, batch, compiled=compiled))
        show(runs[-1])
        command = "python benchmarks/sd_unet.py " + " ".join(sys.argv[1:])
        about = machine(device) | {"diffusers": version("diffusers")}
        head = {"command": command, "machine": about, "peers": peers}
        write_json(out, head | {"runs": runs})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default="sd15-unet")
    parser.add_argument("--latents", type=int, nargs="+", default=[64, 128], help="side of the latents: pixels / 8")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images; guidance makes two rows of each")
    parser.add_argument("--no-guidance", action="store_true", help="one row for each image")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="time compiled UNets as well")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--strategy", default="s1")
    parser.add_argument("--parts", nargs="+", default=["self_attention"], help="each a set, and a side: a,b")
    parser.add_argument("--ratio", type=float, nargs="+", default=[0.5])
    parser.add_argument("--refresh-every", type=int, nargs="+", default=[1], help="each a side")
    parser.add_argument("--max-downsample", type=int, help="by default turbo's, and 1 for tomesd")
    parser.add_argument("--tomesd", type=Path, help="a checkout of tomesd")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="measure peak memory as well")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def sides_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Name of a side -> what it is made of."""
    found: dict[str, dict[str, Any]] = {UNTOUCHED: {"steps": 1}}
    for parts, ratio in itertools.product(options.parts, options.ratio):
        names = parts.split(",")
        for steps in options.refresh_every:
            label = f"turbo {options.strategy} {parts} {ratio:g}" + (f" every {steps}" if steps > 1 else "")
            arguments = {"strategy": options.strategy, "ratio": dict.fromkeys(names, ratio), "refresh_every": steps}
            found[label] = {"steps": steps, "turbo": arguments | {"max_downsample": options.max_downsample}}
        if options.tomesd:
            chosen = {option: part in names for part, option in TOMESD_PARTS.items()}
            arguments = {"ratio": ratio, "max_downsample": options.max_downsample or 1, **chosen}
            found[f"tomesd {parts} {ratio:g}"] = {"steps": 1, "tomesd": arguments}
    return found


def time_sides(unet: Any, options: argparse.Namespace, latents: int, batch: int, *, compiled: bool) -> dict[str, Any]:
    """One interleaved run of all sides."""
    guidance = not options.no_guidance
    wanted = sides_of(options)
    given = inputs(unet, latents, batch, guidance=guidance)
    steps = math.lcm(*(side["steps"] for side in wanted.values()))
    torch._dynamo.reset()
    with torch.inference_mode(), room_for_sides():
        models = {name: make_side(unet, side, options.tomesd) for name, side in wanted.items()}
        failed: dict[str, str] = {}
        calls: dict[str, Call] = {}
        gflops, peaks = {}, {}
        with progress("first calls", steps=len(models)) as advance:
            for name, model in models.items():
                eager = sequence(model, given, steps)
                gflops[name] = count_flops(eager) / steps  # warms up as well
                peaks[name] = peak_memory(eager, unet.device) / 1e6 if options.memory else None
                call = sequence(torch.compile(model, backend=options.backend), given, steps) if compiled else eager
                try:
                    for _ in range(3 if compiled else 0):
                        call()
                    calls[name] = call
                except Exception as error:  # whatever a compiler makes of another library's patches is a result
                    failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                advance()
        label = f"timing {latents} x {latents}, batch {batch}" + (", compiled" if compiled else "")
        with progress(label, steps=options.rounds + 1) as advance:
            seconds = interleave(calls, rounds=options.rounds, device=unet.device, on_round=advance)
    results = []
    for name, took in seconds.items():
        each = [value / steps for value in took]
        speedup = statistics.median(seconds[UNTOUCHED]) / statistics.median(took)
        ideal = gflops[UNTOUCHED] / gflops[name]
        results.append(
            {
                "side": name,
                "options": wanted[name].get("turbo") or wanted[name].get("tomesd"),
                "median": statistics.median(each),
                "spread": quartiles(each),
                "speedup": speedup,
                "ideal": ideal,
                "efficiency": speedup / ideal,
                "gflops": gflops[name],
                "peak_mb": peaks[name],
                "seconds": each,
            }
        )
    return {
        "config": options.config,
        "latents": latents,
        "batch": batch,
        "rows": len(given["sample"]),
        "dtype": options.dtype,
        "compiled": compiled,
        "steps_per_call": steps,
        "sides": results,
        "failed": failed,
    }


def make_side(unet: Any, side: Mapping[str, Any], checkout: Path | None) -> Any:
    """A UNet of its own with the same weights in the same memory, so that no side is patched and unpatched."""
    model = copy_sharing(unet)
    if "turbo" in side:
        turbo.accelerate(model, **{name: value for name, value in side["turbo"].items() if value is not None})
    elif "tomesd" in side:
        assert checkout is not None
        import_function(TOMESD, checkout)(model, **side["tomesd"])
    return model


def sequence(model: Any, given: Mapping[str, Any], steps: int) -> Call:
    """Steps of one image, from a late timestep down: what keeps its matchings can do so within a call."""
    sample: Tensor = given["sample"]
    rest = {name: value for name, value in given.items() if name != "sample"}
    times = [torch.tensor(981 - 20 * step, device=sample.device) for step in range(steps)]

    def call() -> object:
        for t in times:
            found = model(sample, t, **rest, return_dict=False)
        return found

    return call


def count_flops(call: Call) -> float:
    """GFLOPs of a call, by torch's counter; attention must be among what it knows."""
    found = flops_by_operation(call)
    if not any("attention" in name or "bmm" in name for name in found):
        raise TurboError(f"torch's counter saw no attention, only {', '.join(found)}: no FLOPs to compare")
    return sum(found.values()) / 1e9


def show(run: Mapping[str, Any]) -> None:
    """Print a run as a table."""
    table = Table("", "seconds a step", "quartiles", "speed-up", "ideal", "eff.", "GFLOPs", "MB", title_justify="left")
    mode = "compiled" if run["compiled"] else "eager"
    side = run["latents"]
    table.title = f"{run['config']}, latents {side} x {side}, {run['rows']} rows, {run['dtype']}, {mode}"
    for each in run["sides"]:
        table.add_row(
            each["side"],
            f"{each['median']:.4g}",
            "{:.4g} to {:.4g}".format(*each["spread"]),
            f"{each['speedup']:.3f}x",
            f"{each['ideal']:.3f}x",
            f"{each['efficiency']:.0%}",
            f"{each['gflops']:.4g}",
            "" if each["peak_mb"] is None else f"{each['peak_mb']:.0f}",
        )
    console = Console(width=140)
    console.print(table)
    for name, why in run["failed"].items():
        console.print(f"{name} did not compile: {why}", style="yellow", markup=False)


if __name__ == "__main__":
    main()
