"""What can be seen of a model from outside: its tower, its blocks, and what goes through them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turbo.adapters import ResidualBlock, RotaryBlock, RoundTrip, Site
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import require
from turbo.testing.results import NotApplicable


@dataclass
class Call:
    """One call of a block: the tokens it got and those it returned, its rotary positions, other tensors by name."""

    x: Tensor
    output: Tensor
    others: dict[str, Tensor]
    positions: Any = None


@dataclass
class Watched:
    """The calls of each block, by depth."""

    calls: dict[int, list[Call]] = field(default_factory=dict)

    def one(self, depth: int) -> Call:
        """The only call of a block."""
        calls = self.calls.get(depth, [])
        require(
            len(calls) == 1,
            f"block {depth} of sites() ran {len(calls)} times in one forward pass of the model; list each block "
            "once, in the order in which they run, and none that does not run",
        )
        return calls[0]


def find_tower(case: AdapterCase, model: nn.Module) -> nn.Module:
    """The outermost module that the adapter fits."""
    tower = next((module for module in model.modules() if case.instance.distance(module) is not None), None)
    require(
        tower is not None,
        f"the adapter fits neither {type(model).__name__} nor anything in it: does target name the class by the module "
        "that defines it? (type(model).__module__)",
    )
    assert tower is not None
    return tower


def list_sites(case: AdapterCase, model: nn.Module) -> list[Site]:
    """The adapter's sites of a model."""
    return list(case.instance.sites(find_tower(case, model)))


def list_blocks(case: AdapterCase, model: nn.Module) -> list[ResidualBlock]:
    """The adapter's blocks of a model whose tokens stay merged.

    Raises:
        NotApplicable: its blocks restore their tokens.
    """
    sites = list_sites(case, model)
    blocks = [site for site in sites if isinstance(site, ResidualBlock)]
    if not blocks and any(isinstance(site, RoundTrip) for site in sites):
        raise NotApplicable("about tokens that stay merged; these blocks restore theirs after each part")
    require(blocks, "sites() lists no ResidualBlock")
    return blocks


def list_round_trips(case: AdapterCase, model: nn.Module) -> list[RoundTrip]:
    """The adapter's blocks of a model that restore their tokens.

    Raises:
        NotApplicable: their tokens stay merged.
    """
    blocks = [site for site in list_sites(case, model) if isinstance(site, RoundTrip)]
    if not blocks:
        raise NotApplicable("about blocks that restore their tokens; here they stay merged")
    return blocks


def list_modules(case: AdapterCase, model: nn.Module) -> list[nn.Module]:
    """The modules of the adapter's blocks, of either kind."""
    modules = [site.module for site in list_sites(case, model) if isinstance(site, ResidualBlock | RoundTrip)]
    require(modules, "sites() lists no block")
    return modules


def attend(block: ResidualBlock, call: Call, depth: int, scale: float | None = None) -> Tensor:
    """The first half of a block as its maps describe it, on the tokens of a call: ``b n d`` -> ``b n d``."""
    x = call.x
    q, k, v = block.qkv(x)
    for name, part in (("q", q), ("k", k), ("v", v)):
        require(
            part.ndim == 4 and (part.shape[0], part.shape[2]) == x.shape[:2],
            f"qkv() of block {depth} returned {name} of shape {tuple(part.shape)} for tokens of shape "
            f"{tuple(x.shape)}: it must be b h n e; see turbo.adapters.split_heads",
        )
    if isinstance(block, RotaryBlock):
        require(call.positions is not None, f"block {depth} was called without {block.argument}, which brings places")
        q, k = block.turn(q, k, block.places(call.positions, x.shape[1]))
    y = F.scaled_dot_product_attention(q, k, v, scale=block.scale if scale is None else scale)
    return _added("project", block.project(y.transpose(1, 2).flatten(2)), x, depth)


def feed_forward(block: ResidualBlock, x: Tensor, depth: int) -> Tensor:
    """The second half of a block as its map describes it: ``b n d`` -> ``b n d``."""
    return _added("mlp", block.mlp(x), x, depth)


def compose(block: ResidualBlock, call: Call, depth: int) -> Tensor:
    """The whole block as its maps describe it, on a full sequence."""
    with torch.no_grad():
        return feed_forward(block, attend(block, call, depth), depth)


def _added(name: str, found: Tensor, x: Tensor, depth: int) -> Tensor:
    require(
        isinstance(found, Tensor) and found.shape == x.shape,
        f"{name}() of block {depth} returned {shape_of(found)} for tokens of shape {tuple(x.shape)}: it must be "
        "b n d, what is added to the residual",
    )
    return x + found


def shape_of(value: object) -> str:
    """A tensor's shape in words; the type of anything else."""
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def watching(blocks: list[ResidualBlock]) -> Iterator[Watched]:
    """Note what goes in and out of each block."""
    watched = Watched()
    with ExitStack() as stack:
        for depth, block in enumerate(blocks):
            handle = block.module.register_forward_hook(_noting(watched, depth, block), with_kwargs=True)
            stack.callback(handle.remove)
        yield watched


def watch(case: AdapterCase, model: nn.Module, blocks: list[ResidualBlock], inputs: Mapping[str, Tensor]) -> list[Call]:
    """The calls of all blocks in one forward pass, one per block."""
    with watching(blocks) as watched:
        case.run(model, inputs)
    return [watched.one(depth) for depth in range(len(blocks))]


def first_argument(module: nn.Module) -> str:
    """Name of the argument by which a module gets its tokens, whether it is accelerated or not."""
    return next(iter(parameters(module)))


def parameters(module: nn.Module) -> list[str]:
    """Names of the arguments of a module's forward, whether it is accelerated or not."""
    return list(inspect.signature(type(module).forward.__get__(module)).parameters)


def by_name(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of a module by the names of its forward's."""
    return dict(zip(parameters(module), args, strict=False)) | dict(kwargs)


def _noting(watched: Watched, depth: int, block: ResidualBlock) -> Any:
    first = first_argument(block.module)

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = by_name(module, args, kwargs)
        x = given.pop(first)
        kind = f"block {depth} of sites(), a {type(module).__name__},"
        for verb, value in (("takes", x), ("returns", output)):
            require(
                isinstance(value, Tensor) and value.ndim == 3,
                f"{kind} {verb} {shape_of(value)}: it must be tokens, b n d, and nothing else (a block that returns a "
                "tuple cannot be described: raise Unsupported in sites())",
            )
        positions = given.pop(block.argument, None) if isinstance(block, RotaryBlock) else None
        others = {name: tensor for name, value in given.items() if (tensor := _tensor_in(value)) is not None}
        watched.calls.setdefault(depth, []).append(Call(x.detach(), output.detach(), others, positions))

    return note


def _tensor_in(value: Any) -> Tensor | None:
    """A tensor, or the first one of several; scalars refer to no patch."""
    if isinstance(value, Tensor):
        return value if value.ndim else None
    parts = map(_tensor_in, value) if isinstance(value, list | tuple) else ()
    return next((part for part in parts if part is not None), None)
