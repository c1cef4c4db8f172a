"""tomesd's algorithm, written from its description, to compare with (tomesd itself is not a dependency).

Per block, tokens are matched by the cosine of the block's raw input, all channels, before the norm; both halves of
guidance by themselves. One random token of each 2 x 2 cell receives, the same for a whole batch; of the others the
most similar ones merge, by unweighted mean, and every token gets its token's output. No semantic value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PARTS = {"self_attention": "attn1", "cross_attention": "attn2", "feed_forward": "ff"}
Change = Callable[[Tensor], Tensor]


@contextmanager
def tomesd(
    unet: Any, ratio: float, parts: Sequence[str] = ("self_attention",), *, max_downsample: int = 1, seed: int = 0
) -> Iterator[None]:
    """Run a UNet2DConditionModel's parts on merged tokens for the length of a `with` block.

    Args:
        unet: the model; its sample must be the first positional argument.
        ratio: share of the tokens of a block that merge.
        parts: which parts of a block.
        max_downsample: coarsest resolution whose blocks merge.
        seed: of the destinations; the draws go on from step to step.
    """
    generator = torch.Generator(unet.device).manual_seed(seed)
    size = [0, 0]
    changes: dict[nn.Module, tuple[Change, Change]] = {}

    def see_size(_: nn.Module, args: tuple[Any, ...]) -> None:
        size[:] = args[0].shape[-2:]

    def match(block: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0]
        downsample = math.ceil(math.sqrt(size[0] * size[1] // x.shape[1]))
        changes.pop(block, None)
        if downsample <= max_downsample:
            height, width = (math.ceil(side / downsample) for side in size)
            destinations = draw(height, width, generator, fixed=len(x) % 2 == 1)
            changes[block] = matched(x, destinations, int(x.shape[1] * ratio))

    def around(part: nn.Module, block: nn.Module) -> None:
        original = part.forward

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if block not in changes:
                return original(x, *args, **kwargs)
            merge, unmerge = changes[block]
            return unmerge(original(merge(x), *args, **kwargs))

        part.forward = forward  # type: ignore[assignment]

    handles = [unet.register_forward_pre_hook(see_size)]
    changed = []
    for block in unet.modules():
        if type(block).__name__ == "BasicTransformerBlock":
            handles.append(block.register_forward_pre_hook(match))
            changed += [getattr(block, PARTS[part]) for part in parts]
            for part in parts:
                around(getattr(block, PARTS[part]), block)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for part in changed:
            del part.forward


def draw(height: int, width: int, generator: torch.Generator, *, fixed: bool = False) -> Tensor:
    """One position of each whole 2 x 2 cell, the upper left one if `fixed` -> ``cells`` int64, cells row by row.

    A last odd row or column has no cells: all its tokens are sources.
    """
    rows, columns = height // 2, width // 2
    place = torch.zeros(rows * columns, dtype=torch.int64, device=generator.device)
    if not fixed:
        place = torch.randint(4, (rows * columns,), generator=generator, device=generator.device)
    cell = torch.arange(rows * columns, device=generator.device)
    return (cell // columns * 2 + place // 2) * width + cell % columns * 2 + place % 2


@torch.no_grad()
def matched(x: Tensor, destinations: Tensor, count: int) -> tuple[Change, Change]:
    """Merge the `count` most similar of the other tokens into their most similar destination.

    Args:
        x: ``b n d``, what tokens are compared by.
        destinations: ``k``, positions that receive.
        count: how many merge, at most all that can.

    Returns:
        What merges, ``b n d -> b n-count d``, and what undoes it.
    """
    batch, n, _ = x.shape
    is_source = torch.ones(n, dtype=torch.bool, device=x.device)
    is_source[destinations] = False
    sources = is_source.nonzero()[:, 0]
    count = min(count, len(sources))
    unit = x / x.norm(dim=-1, keepdim=True)
    similarity, partner = (unit[:, sources] @ unit[:, destinations].transpose(1, 2)).max(dim=-1)
    order = similarity.argsort(dim=-1, descending=True)
    gone, stays = order[:, :count], order[:, count:]
    left = stays.shape[1]
    # Position of every token in the merged sequence: sources that stay, then destinations.
    place = torch.empty(batch, n, dtype=torch.int64, device=x.device)
    place[:, destinations] = left + torch.arange(len(destinations), device=x.device)
    place.scatter_(1, sources[stays], torch.arange(left, device=x.device).expand(batch, -1))
    place.scatter_(1, sources[gone], left + partner.gather(1, gone))

    def merge(tokens: Tensor) -> Tensor:
        width = tokens.shape[-1]
        index = place[..., None].expand(-1, -1, width)
        empty = tokens.new_zeros(batch, left + len(destinations), width)
        return empty.scatter_reduce(1, index, tokens, reduce="mean", include_self=False)

    def unmerge(tokens: Tensor) -> Tensor:
        return tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[-1]))

    return merge, unmerge
