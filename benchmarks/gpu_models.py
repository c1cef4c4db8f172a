"""Whole models: a vision tower untouched, with turbo, with turbo on candidate kernels, and with ToMe; same weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from gpu_kernels import attention
from gpu_record import Record
from gpu_settings import Settings
from gpu_timing import Call, captured, summary, time_sides
from speed_peers import load_tome
from torch import Tensor, nn

import turbo
from turbo.bench import copy_sharing
from turbo.bench.compiling import room_for_sides
from turbo.bench.counting import count_flops
from turbo.engine import runners, score
from turbo.engine.times import median_ratio
from turbo.errors import TurboError

PART = "models"
NAME = "vit_large_patch14_clip_336"
TURBO = "turbo s1"
TRITON = f"{TURBO}, triton"
KEYS = f"{TURBO}, key_channel"
VALUES = f"{TURBO}, value_channel"


def build(settings: Settings) -> Any:
    """CLIP ViT-L/14 at 336 px with random weights, which have the real model's speed; or a tiny tower."""
    torch.manual_seed(0)
    if settings.quick:
        from timm.models.vision_transformer import VisionTransformer

        model = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=0)
    else:
        import timm

        model = timm.create_model(NAME, pretrained=False, num_classes=0)
    return model.eval().to(settings.device, settings.dtype)


def images(settings: Settings, batch: int, seed: int = 0) -> Tensor:
    """Noise, ``b 3 height width``."""
    torch.manual_seed(seed)
    side = 32 if settings.quick else 336
    return torch.randn(batch, 3, side, side, device=settings.device, dtype=settings.dtype)


def find_drop(model: nn.Module, ideal: float) -> int:
    """The smallest constant drop that reaches a factor by turbo's own count."""
    for drop in itertools.count(1):
        with turbo.accelerated(model, "s1", drop=drop):
            found = turbo.report(model)
        if found.flops_untouched >= ideal * found.flops:
            return drop
    raise AssertionError


def make_sides(settings: Settings, record: Record, part: str) -> dict[str, Any]:
    """Name -> a model of its own, the weights shared."""
    model = build(settings)
    drop = find_drop(model, settings.ideal)
    sides = {"untouched": model}
    for name in (TURBO, TRITON, KEYS, VALUES):
        sides[name] = turbo.accelerate(copy_sharing(model), "s1", drop=drop)
    if settings.why_no_triton is not None:
        del sides[TRITON]
        record.leave_out(part, TRITON, settings.why_no_triton)
    if settings.tome is None:
        record.leave_out(part, "ToMe", "no checkout was given (--tome FOLDER)")
    else:
        with record.attempt(part, "ToMe"):
            tome = load_tome(settings.tome)
            patched = copy_sharing(model)
            tome.patch(patched, drop)
            sides[tome.name] = patched
            record.add(part, finding="peer", side=tome.name, repository=tome.repository, commit=tome.commit)
    record.add(part, finding="sides", drop=drop, sides=list(sides))
    return sides


def measure(settings: Settings, record: Record) -> None:
    """Every side eager, replayed from a CUDA graph, compiled, and compiled with CUDA graphs."""
    sides = make_sides(settings, record, PART)
    flops: dict[str, int] = {}
    with torch.inference_mode(), room_for_sides():
        for name, model in sides.items():
            # The candidates' sides count as turbo's here: torch's counter sees no Triton and takes padding for work.
            with record.attempt(PART, f"FLOPs of {name}"):
                flops[name] = count_flops(partial(model, images(settings, 1)))
        for batch in settings.model_batches:
            for mode in ("eager", "replayed") if settings.cuda else ("eager",):
                _time(settings, record, batch, mode, sides, flops)
        few = {name: model for name, model in sides.items() if name not in (KEYS, VALUES)}
        if not settings.cuda and few.pop(TRITON, None) is not None:
            record.leave_out(PART, f"{TRITON}, compiled", "the compiler cannot trace Triton's interpreter")
        for batch, mode in settings.compiled_runs:
            _time(settings, record, batch, mode, few, flops)


def _time(
    settings: Settings, record: Record, batch: int, mode: str, sides: dict[str, Any], flops: dict[str, int]
) -> None:
    """One interleaved run of all sides; a side is made ready only while there is time."""
    given = images(settings, batch)
    torch._dynamo.reset()
    calls: dict[str, Call] = {}
    for name, model in sides.items():
        what = f"{mode} {name}, batch {batch}"
        if not record.has_time(PART, what):
            break
        with record.attempt(PART, what), swapped(name):
            call = partial(model, given)
            if mode in ("default", "reduce-overhead"):
                options = {} if settings.backend != "inductor" else {"mode": mode}
                call = _step(torch.compile(model, backend=settings.backend, dynamic=False, **options), given)
            if record.warms_up(PART, what, call):
                if mode != "replayed":
                    calls[name] = call
                    continue
                with record.attempt(PART, f"capture of {what}"):
                    calls[name] = captured(call)
    if "untouched" not in calls:
        return
    with record.attempt(PART, f"timing {mode}, batch {batch}"):
        seconds = time_sides(calls, settings.device, rounds=settings.rounds, prepare=swapped)
        for name, took in seconds.items():
            found = {"speedup": median_ratio(seconds["untouched"], took)}
            if name in flops and "untouched" in flops:
                found["ideal"] = flops["untouched"] / flops[name]
                found["efficiency"] = found["speedup"] / found["ideal"]
            label = {"default": "compiled", "reduce-overhead": "compiled, reduce-overhead"}.get(mode, mode)
            record.add(PART, finding="time", batch=batch, mode=label, side=name, **summary(took), **found)


@contextmanager
def swapped(name: str) -> Iterator[None]:
    """The candidates in the place of turbo's functions, for the sides that are about them."""
    changes: list[tuple[Any, str, Any]] = []
    if name == TRITON:
        from gpu_kernels import merging, similarity

        changes = [(runners, "merge", merging.merge_only), (score, "mutual_redundancy", similarity.mutual_redundancy)]
    elif name in (KEYS, VALUES):
        road = attention.key_channel if name == KEYS else attention.value_channel
        changes = [(runners, "proportional_attention", partial(_without_dropout, road))]
    before = [getattr(module, function) for module, function, _ in changes]
    try:
        for module, function, candidate in changes:
            setattr(module, function, candidate)
        yield
    finally:
        for (module, function, _), found in zip(changes, before, strict=True):
            setattr(module, function, found)


def _without_dropout(road: Any, *given: Any, scale: float | None, dropout: float) -> Tensor:
    if dropout:
        raise TurboError(f"dropout={dropout}: the candidates are for inference")
    found: Tensor = road(*given, scale=scale)
    return found


def _step(model: Any, given: Tensor) -> Call:
    """A call of a compiled model; its CUDA graphs may write over what the last call returned."""

    def call() -> object:
        torch.compiler.cudagraph_mark_step_begin()
        return model(given)

    return call
