"""What can be seen of a denoiser from outside: how it is called, and what its blocks' parts get and give."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from turbo.adapters import Denoiser, RoundTrip
from turbo.adapters.round_trip import PartName
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import require
from turbo.testing.probe import list_round_trips, list_sites, shape_of


@dataclass
class PartCall:
    """One call of a part.

    Attributes:
        index: of the block.
        part: its name.
        x: ``b n d``, the tokens that the block called it with.
        y: ``b n d``, what the block got back.
        got: ``b m d``, the tokens that the part itself ran on.
        gave: ``b m d``, what the part itself returned.
        rest: what else it was called with, by position.
        named: what else it was called with, by name.
    """

    index: int
    part: PartName
    x: Tensor
    y: Tensor
    got: Tensor
    gave: Tensor
    rest: tuple[Any, ...]
    named: dict[str, Any]

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.part} of block {self.index}"


@dataclass
class DenoiserCall:
    """One call of the denoiser: the arguments that its site names."""

    latents: Tensor
    timestep: Any
    text: Any


def denoiser_of(case: AdapterCase, model: nn.Module) -> Denoiser:
    """The adapter's denoiser of a model."""
    found = [site for site in list_sites(case, model) if isinstance(site, Denoiser)]
    require(len(found) == 1, f"sites() lists {len(found)} Denoisers: RoundTrip blocks need one around them")
    return found[0]


def watch_denoiser(case: AdapterCase, model: nn.Module, inputs: Mapping[str, Tensor]) -> DenoiserCall:
    """The only call of the denoiser in one forward pass of the model."""
    site = denoiser_of(case, model)
    names = list(inspect.signature(type(site.module).forward).parameters)[1:]
    for role in ("latents", "timestep", "text"):
        name = getattr(site, role)
        require(
            name in names,
            f"Denoiser({role}={name!r}): {type(site.module).__name__}.forward has no such argument; it has "
            f"{', '.join(names)}",
        )
    calls: list[dict[str, Any]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(dict(zip(names, args, strict=False)) | kwargs)

    handle = site.module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        case.run(model, inputs)
    finally:
        handle.remove()
    require(
        len(calls) == 1,
        f"the Denoiser ran {len(calls)} times in one forward pass of the model: a call of it is one step",
    )
    call = calls[0]
    latents: Any = call.get(site.latents)
    timestep: Any = call.get(site.timestep)
    require(
        isinstance(latents, Tensor) and latents.ndim == 4,
        f"the Denoiser's latents, {site.latents!r}, are {shape_of(latents)}: they must be b c h w",
    )
    require(
        isinstance(timestep, int | float) or (isinstance(timestep, Tensor) and timestep.ndim < 2),
        f"the Denoiser's timestep, {site.timestep!r}, is {shape_of(timestep)}: it must be a number, or a tensor of "
        "one, or of one per sample",
    )
    return DenoiserCall(latents, timestep, call.get(site.text))


def watch_parts(
    case: AdapterCase,
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    options: Mapping[str, Any] | None = None,
    strategy: Any = "s1",
) -> list[PartCall]:
    """The calls of all parts in one forward pass, in order.

    Args:
        case: the case.
        model: not accelerated yet.
        inputs: of the model.
        options: accelerate with these; None watches the untouched model.
        strategy: of the acceleration.
    """
    with watching_parts(list_round_trips(case, model)) as calls:
        if options is not None:
            case.accelerate(model, strategy, **options)
        case.run(model, inputs)
    return calls


@contextmanager
def watching_parts(blocks: list[RoundTrip]) -> Iterator[list[PartCall]]:
    """Note what parts get and give, from the block's side and from their own.

    Accelerate inside: the forward that turbo calls is looked up then.
    """
    calls: list[PartCall] = []
    inside: list[tuple[Tensor, Tensor]] = []
    with ExitStack() as stack:
        for index, block in enumerate(blocks):
            for name, part in block.parts.items():
                cls = type(part)
                if not hasattr(cls, "_watched"):
                    _set_class(part, _noting_inside(cls, inside))
                    stack.callback(_set_class, part, cls)
                before, after = _noting_outside(calls, inside, index, name, cls)
                stack.callback(part.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(part.register_forward_hook(after, with_kwargs=True).remove)
        yield calls


def _set_class(module: nn.Module, cls: type) -> None:
    module.__class__ = cls


def _noting_inside(cls: Any, inside: list[tuple[Tensor, Tensor]]) -> type:
    """The class with a forward that notes the tokens it ran on and what became of them."""
    first = next(iter(list(inspect.signature(cls.forward).parameters)[1:]), "")

    @functools.wraps(cls.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        output = cls.forward(self, *args, **kwargs)
        x: Any = args[0] if args else kwargs.get(first)
        inside.append((x, output))
        return output

    return type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__, "_watched": True})


def _noting_outside(
    calls: list[PartCall], inside: list[tuple[Tensor, Tensor]], index: int, name: PartName, cls: Any
) -> tuple[Any, Any]:
    first = next(iter(list(inspect.signature(cls.forward).parameters)[1:]), "")
    label = f"{name} of block {index}, a {cls.__name__},"
    entered: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get(first)
        _require_tokens(x, f"{label} takes")
        inside.clear()
        entered.append(x.clone())  # type: ignore[union-attr]

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> None:
        _require_tokens(y, f"{label} returns")
        require(inside, f"{label} returned without being called")
        got, gave = inside[-1]
        named = {key: value for key, value in kwargs.items() if key != first}
        calls.append(PartCall(index, name, entered.pop(), y, got, gave, args[1:], named))

    return before, after


def _require_tokens(value: Any, what: str) -> None:
    require(
        isinstance(value, Tensor) and value.ndim == 3,
        f"{what} {shape_of(value)}: it must be tokens, b n d, and nothing else",
    )


def groups_of(call: PartCall) -> Tensor:
    """Which of the tokens that a part ran on each of the block's tokens was answered by: ``b n`` int64."""
    same = (call.y[:, :, None] == call.gave[:, None]).all(dim=-1)
    require(
        bool(same.any(dim=-1).all()),
        f"{call.label} answers some tokens with what it gave to no token: outputs are not restored in place",
    )
    return same.long().argmax(dim=-1)


def role_in_inputs(value: Any, inputs: Mapping[str, Tensor]) -> str | None:
    """The input that a denoiser's argument is, by its name; None where it is none of them."""
    for name, given in inputs.items():
        if given is value:
            return name
    if not isinstance(value, Tensor):
        return None
    alike = (name for name, given in inputs.items() if given.shape == value.shape and torch.equal(given, value))
    return next(alike, None)
