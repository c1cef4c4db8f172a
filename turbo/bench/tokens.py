"""How many tokens leave the last block of a model: two sides that say the same have merged as much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from turbo.adapters.base import Adapter, ResidualBlock
from turbo.engine.detect import find_tower, list_sites
from turbo.errors import TurboError


def last_block(model: nn.Module, adapter: str | Adapter | None = None) -> str:
    """The dotted name of the last block in which tokens can merge.

    Args:
        model: a supported model that is not accelerated.
        adapter: as for `turbo.accelerate`.

    Raises:
        TurboError: the model is not supported, or is a denoiser.

    Examples:
        >>> from turbo.models import load_model
        >>> last_block(load_model("zoo:vit-digits").model)
        'vit.layers.7'
    """
    tower, name, found = find_tower(model, adapter)
    blocks = [site.module for site in list_sites(tower, name, found) if isinstance(site, ResidualBlock)]
    if not blocks:
        raise TurboError(
            f"{type(model).__name__} restores its tokens in every block, so there is no count at its end to compare: "
            "time a pipeline with `turbo generate`, and a UNet with benchmarks/sd_unet.py"
        )
    paths: dict[nn.Module, str] = {module: path for path, module in model.named_modules()}
    return paths[blocks[-1]]


@contextmanager
def counting_tokens(model: nn.Module, block: str) -> Iterator[Callable[[], int]]:
    """Count the tokens that leave a block, for the length of a `with` block.

    Args:
        model: a model, patched or not.
        block: dotted name of the block.

    Yields:
        A function that says how many left it in the last call; a TurboError where the block did not run.
    """
    seen: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        seen.append(tokens.shape[1])

    def last() -> int:
        if not seen:
            raise TurboError(
                f"{block} of this {type(model).__name__} did not run: the path of its images leads around it, or "
                "through another model; give one that leads through this one"
            )
        return seen[-1]

    handle = model.get_submodule(block).register_forward_hook(note)
    try:
        yield last
    finally:
        handle.remove()
