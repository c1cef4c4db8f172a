"""The one tensor to compare, out of whatever a model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

import turbo

KNOWN = ("logits", "logits_per_image", "pooler_output", "image_embeds", "reconstruction", "sample", "last_hidden_state")
"""Fields that are looked for, in this order. The last one gets shorter where tokens merge; rather name another."""


def pick_output(result: Any, output: Callable[[Any], Tensor] | None, name: str) -> Tensor:
    """The output tensor of a model.

    Args:
        result: what the model returned.
        output: the case's own way to read it, None to look for a known field.
        name: the case, for error messages.

    Returns:
        The tensor.

    Raises:
        TurboError: there is no telling which tensor is meant.

    Examples:
        >>> import torch
        >>> pick_output({"logits": torch.zeros(2, 5)}, None, "mine").shape
        torch.Size([2, 5])
    """
    found = _known(result) if output is None else output(result)
    if not isinstance(found, Tensor):
        what = type(result).__name__ if output is None else type(found).__name__
        hint = "give the case an output=, which picks one" if output is None else "output= must return a tensor"
        raise turbo.TurboError(f"{name}: cannot compare a {what}: {hint}")
    return found


def _known(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result
    fields = result if isinstance(result, Mapping) else {name: getattr(result, name, None) for name in KNOWN}
    return next((value for name in KNOWN if isinstance(value := fields.get(name), Tensor)), None)
