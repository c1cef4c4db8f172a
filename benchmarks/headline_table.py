"""The table on README's first screen, from the records of several benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_tables import pipe_table
from speed_tables import PEER, UNTOUCHED, Load, sides_of, times

from turbo import defaults
from turbo.errors import TurboError

MODELS = ("vit-b16-384", "vit-b16-224", "clip-l14-336", "blip-base-384")
UNET, CAPTIONER = "sd15-unet-128-cpu", "default-blip-scenes"
STRATEGY, PARTS = "s1", "self_attention 0.5"
HEADER = ("model, images per call", "call", "speed-up", "if only FLOPs counted", "published code", "peak memory")


def headline(load: Load) -> str:
    """Four vision towers, a UNet and the shipped captioner; published code is ToMe's and tomesd's, on the same weights.

    Raises:
        TurboError: a record does not have what stands in the table.
    """
    rows = [*(_model(load, name) for name in MODELS), _unet(load(UNET)), _captioner(load(CAPTIONER))]
    return pipe_table(HEADER, rows, [False] * len(HEADER))


def _model(load: Load, name: str) -> tuple[str, ...]:
    (run,) = load(f"speed-{name}")["runs"]
    sides = sides_of(run)
    ours, untouched = sides[STRATEGY], sides[UNTOUCHED]
    peak = f"{untouched['peak_mb']:.0f} → {ours['peak_mb']:.0f} MB"
    call = f'`accelerate(model, "{STRATEGY}", drop={run["drop"]})`'
    return f"{run['title']}, {run['batch']}", call, *_factors(ours, sides.get(PEER), PEER), peak


def _unet(record: Mapping[str, Any]) -> tuple[str, ...]:
    (run,) = record["runs"]
    sides = {side["side"]: side for side in run["sides"]}
    name = f"turbo {STRATEGY} {PARTS}"
    if name not in sides:
        raise TurboError(f"{UNET} has no side {name!r}; there are: {', '.join(sides)}")
    title = f"Stable Diffusion 1.5's UNet, {run['latents']} × {run['latents']} latents, {run['batch']}"
    return title, "`accelerate(pipe, ratio=0.5)`", *_factors(sides[name], sides.get(f"tomesd {PARTS}"), "tomesd"), ""


def _captioner(record: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"{defaults.STRATEGY} default"
    if name not in record["settings"]:
        raise TurboError(f"{CAPTIONER} has no setting {name!r}; there are: {', '.join(record['settings'])}")
    speed = record["settings"][name]["speed"]["encoder"]["speedup"]
    ideal = record["settings"][name]["ideal_speedup"]
    cider = {
        ground: [
            record["parts"][f"scenes:{ground} test"]["settings"][each]["cider"]["value"] for each in ("untouched", name)
        ]
        for ground in ("plain", "distractors")
    }
    plain, hard = (f"{before:.2f} → {after:.2f}" for before, after in cider.values())
    title = f"shipped captioner `zoo:blip-scenes` at 112 px, {record['run']['batch']}"
    gain = f"**{times(speed)}**, CIDEr {plain}; among distractors {hard}"
    return title, "`accelerate(model)`", gain, times(ideal), "", ""


def _factors(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None, name: str) -> tuple[str, str, str]:
    peer = f"{name} {times(theirs['speedup'])}" if theirs else ""
    return f"**{times(ours['speedup'])}**", times(ours["ideal"]), peer
