"""What a block is called with beside its tokens: the places of patches are carried along, a mask of them is refused."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from turbo.adapters.base import ResidualBlock
from turbo.adapters.rotary import RotaryBlock
from turbo.engine.acceleration import Flow
from turbo.errors import TurboError
from turbo.merging import group_means


class Arguments:
    """The arguments of a block's calls, by name.

    Attributes:
        first: name of the one that brings the tokens.
    """

    def __init__(self, block: ResidualBlock) -> None:
        self.block = block
        _, self.first, *self.more = inspect.signature(type(block.module).forward).parameters
        self.places = block.argument if isinstance(block, RotaryBlock) else None

    def others(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All but the tokens."""
        others = {name: value for name, value in kwargs.items() if name != self.first}
        for index, value in enumerate(args[1:]):
            others[self.more[index] if index < len(self.more) else f"positional argument {index + 1}"] = value
        return others

    def require_tokens_only(self, others: dict[str, Any]) -> None:
        """Refuse what a merged sequence cannot honour: masks, attention maps, causal order, unread places."""
        for name, value in others.items():
            tensor = None if name == self.places else _tensor_in(value)
            if tensor is None and not (name in ("output_attentions", "is_causal") and value):
                continue
            found = repr(value)
            if tensor is not None:
                inside = "" if tensor is value else f"a {type(value).__name__} with "
                found = f"{inside}a tensor of shape {tuple(tensor.shape)}"
            raise TurboError(
                f"{self._name} was called with {name} = {found}: masks and attention maps refer to single patches, "
                "which merge here; call without it, or turbo.restore(model) first; if the model itself passes it, this "
                "variant cannot be accelerated: raise Unsupported in sites(); rotary positions need a RotaryBlock"
            )

    def merged_places(self, x: Tensor, flow: Flow, others: dict[str, Any]) -> Tensor | None:
        """The place of each token of ``b n d``, a merged one's the mean over its patches: ``b n 2e``, or None."""
        block = self.block
        if not isinstance(block, RotaryBlock):
            return None
        given = others.get(block.argument)
        if given is None:
            raise TurboError(f"{self._name} was called without {block.argument}: it turns tokens by their places")
        entered = x.shape[1] if flow.assignment is None else flow.assignment.shape[1]
        places = block.places(given, entered).expand(x.shape[0], -1, -1)
        if flow.assignment is None or flow.size is None:
            return places
        return group_means(places, flow.assignment, flow.size)

    @property
    def _name(self) -> str:
        return type(self.block.module).__name__


def _tensor_in(value: Any) -> Tensor | None:
    """The first tensor in what may be a collection of several. Scalars (a loss's normaliser, say) refer to no patch."""
    if isinstance(value, Tensor):
        return value if value.ndim else None
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            if (found := _tensor_in(each)) is not None:
                return found
    return None
