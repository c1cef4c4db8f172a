"""What can be seen of a model from outside: its tower, its blocks, and what goes through them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from turbo.adapters import ResidualBlock, Site
from turbo.testing.cases import AdapterCase
from turbo.testing.compare import require


@dataclass
class Call:
    """One call of a block: the tokens it got, and those it returned."""

    x: Tensor
    output: Tensor


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
    """The adapter's blocks of a model."""
    blocks = [site for site in list_sites(case, model) if isinstance(site, ResidualBlock)]
    require(blocks, "sites() lists no ResidualBlock")
    return blocks


@contextmanager
def watching(blocks: list[ResidualBlock]) -> Iterator[Watched]:
    """Note what goes in and out of each block."""
    watched = Watched()
    with ExitStack() as stack:
        for depth, block in enumerate(blocks):
            handle = block.module.register_forward_hook(_noting(watched, depth, block.module), with_kwargs=True)
            stack.callback(handle.remove)
        yield watched


def watch(case: AdapterCase, model: nn.Module, blocks: list[ResidualBlock], inputs: Mapping[str, Tensor]) -> list[Call]:
    """The calls of all blocks in one forward pass, one per block."""
    with watching(blocks) as watched:
        case.run(model, inputs)
    return [watched.one(depth) for depth in range(len(blocks))]


def _noting(watched: Watched, depth: int, module: nn.Module) -> Any:
    first = next(iter(inspect.signature(type(module).forward.__get__(module)).parameters))

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        x = args[0] if args else kwargs[first]
        kind = f"block {depth} of sites(), a {type(module).__name__},"
        for verb, value in (("takes", x), ("returns", output)):
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            require(isinstance(value, Tensor) and value.ndim == 3, f"{kind} {verb} {found}: it must be tokens, b n d")
        watched.calls.setdefault(depth, []).append(Call(x.detach(), output.detach()))

    return note
