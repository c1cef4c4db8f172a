"""Checks of what an adapter says about a denoiser and its round-trip blocks: that it is true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from turbo.adapters import Denoiser, RoundTrip, split_heads
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import differ, require, require_close
from turbo.testing.parts import DenoiserCall, PartCall, denoiser_of, watch_denoiser, watch_parts
from turbo.testing.probe import list_round_trips, shape_of
from turbo.testing.results import NotApplicable


def check_denoiser_surrounds_the_blocks(case: AdapterCase) -> None:
    """A forward pass calls the Denoiser once, with the arguments it names, and every block once within that call."""
    model, inputs = case.make_model(), case.make_inputs()
    blocks = list_round_trips(case, model)
    call = watch_denoiser(case, model, inputs)
    inside, ran = False, dict.fromkeys(range(len(blocks)), 0)

    def enter(*_: Any) -> None:
        nonlocal inside
        inside = True

    def leave(*_: Any) -> None:
        nonlocal inside
        inside = False

    def note(index: int) -> Any:
        def hook(*_: Any) -> None:
            require(inside, f"block {index} of sites() runs outside a call of the Denoiser: name the module around it")
            ran[index] += 1

        return hook

    site = denoiser_of(case, model)
    site.module.register_forward_pre_hook(enter)
    site.module.register_forward_hook(leave)
    for index, block in enumerate(blocks):
        block.module.register_forward_pre_hook(note(index))
    case.run(model, inputs)
    for index, times in ran.items():
        require(
            times == 1,
            f"block {index} of sites() ran {times} times in one step; list each block once, and none that does not run",
        )
    _require_own_inputs(site, call)


def _require_own_inputs(site: Denoiser, call: DenoiserCall) -> None:
    """What the site says of the latents' own size, and the inputs that the report counts with."""
    height, width = call.latents.shape[-2:]
    require(
        tuple(site.size) == (height, width),
        f"the Denoiser's size is {tuple(site.size)}, latents are {height} x {width}: the case's inputs have to be of "
        "the model's own size",
    )
    try:
        with torch.no_grad():
            given = site.inputs(height, width)
            site.module(**given)
    except Exception as error:
        raise AssertionError(
            f"{type(site.module).__name__} does not run on the Denoiser's own inputs({height}, {width}): "
            f"{type(error).__name__}: {error}"
        ) from error
    shape = tuple(given[site.latents].shape)
    require(
        shape == (1, *call.latents.shape[1:]),
        f"the Denoiser's own inputs({height}, {width}) hold latents {shape}: they must be for one image",
    )


def check_parts_are_called_by_the_block(case: AdapterCase) -> None:
    """Each block calls each of its parts once, with tokens b n d first, and gets tokens b n d back."""
    model = case.make_model()
    blocks = list_round_trips(case, model)
    known: dict[nn.Module, str] = {}
    for index, block in enumerate(blocks):
        for name, part in block.parts.items():
            label = f"{name} of block {index}"
            require(part not in known, f"{label} is {known.get(part)} as well: a module can be one part of one block")
            known[part] = label
    calls = watch_parts(case, model, case.make_inputs())
    for index, block in enumerate(blocks):
        inside = set(block.module.modules())
        for name, part in block.parts.items():
            require(
                part in inside,
                f"{name} of block {index} is no submodule of its block: name the very module that the block calls",
            )
            found = [call for call in calls if (call.index, call.part) == (index, name)]
            require(len(found) == 1, f"block {index} calls its {name} {len(found)} times in one step, not once")
            [call] = found
            require(
                call.y.shape == call.x.shape,
                f"{call.label} takes {shape_of(call.x)} and returns {shape_of(call.y)}: tokens cannot be restored",
            )


def check_downsample_is_the_grids(case: AdapterCase) -> None:
    """A block of downsample s gets one token for each s x s latent pixels."""
    model, inputs = case.make_model(), case.make_inputs()
    blocks = list_round_trips(case, model)
    height, width = watch_denoiser(case, model, inputs).latents.shape[-2:]
    for call in watch_parts(case, model, inputs):
        step = blocks[call.index].downsample
        wanted = -(-height // step) * -(-width // step)
        require(
            call.x.shape[1] == wanted,
            f"block {call.index} of downsample={step} gets {call.x.shape[1]} tokens; latents of {height} x {width} "
            f"make {wanted}",
        )


def check_attention_is_as_described(case: AdapterCase) -> None:
    """keys(), queries(), text_query(), heads and scale are those that attention itself uses; visual_value() is b n."""
    model = case.make_model()
    blocks = list_round_trips(case, model)
    with _watching_attention(blocks) as seen:
        calls = {(call.index, call.part): call for call in watch_parts(case, model, case.make_inputs())}
    if not seen:
        raise NotApplicable("no part calls F.scaled_dot_product_attention, where the kit looks")
    for index, block in enumerate(blocks):
        if (found := seen.get((index, "self_attention"))) is not None:
            call = calls[index, "self_attention"]
            _require_scale(block, found, call)
            _require_heads(block.keys(), found.key, call, block, "keys()")
            _require_value(block.visual_value(call.x), call)
        if (found := seen.get((index, "cross_attention"))) is not None:
            call = calls[index, "cross_attention"]
            _require_scale(block, found, call)
            _require_heads(block.queries(), found.query, call, block, "queries()")
            row = block.text_query(*call.rest, **call.named)
            _require_row(row, found.query, call, "text_query()")
            is_key = [not differ(row, found.key[:, :, [place]]) for place in range(found.key.shape[2])]
            require(any(is_key), f"text_query() of block {index} is the key of no text token of {call.label}")


@dataclass
class _Attention:
    """One call of F.scaled_dot_product_attention: ``b h n e`` each."""

    query: Tensor
    key: Tensor
    scale: float


class _Watch(TorchFunctionMode):
    """Notes the attention that runs inside a part."""

    def __init__(self) -> None:
        super().__init__()
        self.now: tuple[int, str] | None = None
        self.seen: dict[tuple[int, str], _Attention] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention and self.now is not None:
            given = dict(zip(("query", "key"), args, strict=False)) | kwargs
            query, key = given["query"].detach(), given["key"].detach()
            scale = given.get("scale")
            self.seen[self.now] = _Attention(query, key, query.shape[-1] ** -0.5 if scale is None else scale)
        return function(*args, **kwargs)

    def entering(self, index: int, part: str) -> Any:
        def hook(*_: Any) -> None:
            self.now = index, part

        return hook

    def leaving(self, *_: Any) -> None:
        self.now = None


@contextmanager
def _watching_attention(blocks: list[RoundTrip]) -> Iterator[dict[tuple[int, str], _Attention]]:
    with ExitStack() as stack, _Watch() as watch:
        for index, block in enumerate(blocks):
            for name, part in block.parts.items():
                stack.callback(part.register_forward_pre_hook(watch.entering(index, name)).remove)
                stack.callback(part.register_forward_hook(watch.leaving).remove)
        yield watch.seen


def _require_scale(block: RoundTrip, found: _Attention, call: PartCall) -> None:
    scale = found.query.shape[-1] ** -0.5 if block.scale is None else block.scale
    require(
        abs(scale - found.scale) <= 1e-6 * found.scale,
        f"scale of block {call.index} is {scale:.4g}, {call.part} multiplies its scores by {found.scale:.4g}",
    )


def _require_heads(layer: nn.Module, wanted: Tensor, call: PartCall, block: RoundTrip, name: str) -> None:
    """The layer, on what enters the part, gives the part's own keys or queries."""
    with torch.no_grad():
        mapped = layer(call.x)
    what = f"{name} of block {call.index}"
    heads = wanted.shape[1]
    require(
        isinstance(mapped, Tensor) and mapped.shape == (*call.x.shape[:2], heads * wanted.shape[-1]),
        f"{what} makes {shape_of(mapped)} of {shape_of(call.x)}; {call.part} has {heads} heads of width "
        f"{wanted.shape[-1]}: it must be b n (h e)",
    )
    require(block.heads == heads, f"block {call.index} has heads={block.heads}, {call.part} has {heads}")
    require_close(split_heads(mapped, heads), wanted, f"{what} gives something else than {call.part} uses")


def _require_row(row: Tensor, like: Tensor, call: PartCall, name: str) -> None:
    batch, heads, _, width = like.shape
    require(
        isinstance(row, Tensor) and row.shape == (batch, heads, 1, width),
        f"{name} of block {call.index} returned {shape_of(row)}: it must be b h 1 e, here {(batch, heads, 1, width)}",
    )
    require(row.isfinite().all(), f"{name} of block {call.index} returned NaN or infinite numbers")


def _require_value(value: Tensor, call: PartCall) -> None:
    shape = tuple(call.x.shape[:2])
    require(
        isinstance(value, Tensor) and value.shape == shape,
        f"visual_value() of block {call.index} returned {shape_of(value)}: it must be b n, here {shape}",
    )
    require(
        value.isfinite().all() and (value >= 0).all(),
        f"visual_value() of block {call.index} returned NaN, infinite or negative numbers",
    )


def check_sizes_weigh_in_self_attention(case: AdapterCase) -> None:
    """With self_attention_bias(log s) a token is attended to as s copies of it are."""
    model = case.make_model()
    blocks = list_round_trips(case, model)
    for call in watch_parts(case, model, case.make_inputs()):
        if call.part != "self_attention":
            continue
        block, n = blocks[call.index], call.x.shape[1]
        part: Any = block.parts[call.part]
        twice = n // 2  # so many tokens are there two times
        size = torch.ones(call.x.shape[:2])
        size[:, :twice] = 2
        with torch.no_grad():
            bias = block.self_attention_bias(size.log().to(call.x))
            found = part(call.x, *call.rest, **call.named | bias)
            wanted = part(torch.cat([call.x, call.x[:, :twice]], dim=1), *call.rest, **call.named)[:, :n]
        require_close(
            found,
            wanted,
            f"self_attention_bias() of block {call.index} does not make self-attention add log s to the scores of its "
            "keys",
        )


CHECKS = (
    check_denoiser_surrounds_the_blocks,
    check_parts_are_called_by_the_block,
    check_downsample_is_the_grids,
    check_attention_is_as_described,
    check_sizes_weigh_in_self_attention,
)
