"""Copies of a model that hold its weights in the same memory: every side of a comparison has its own."""

from __future__ import annotations

import copy
import itertools
import types
from typing import TypeVar

from torch import nn

from turbo.errors import TurboError
from turbo.models import LoadedModel

ModelT = TypeVar("ModelT", bound=nn.Module)


def copy_sharing(model: ModelT) -> ModelT:
    """A copy of a model that shares its parameters and buffers; accelerating or patching it leaves the model alone.

    Args:
        model: to copy; its modules are copied, their parameters and buffers are not. What a forward writes into a
            buffer, as BatchNorm does in training, both see.

    Returns:
        The copy.

    Examples:
        >>> model = nn.Linear(2, 3)
        >>> copied = copy_sharing(model)
        >>> copied is model, copied.weight is model.weight
        (False, True)
    """
    return copy.deepcopy(model, _memo(model))


def copy_loaded(loaded: LoadedModel) -> LoadedModel:
    """The same for a model with the path of an image through it: that of the copy leads through the copy.

    Args:
        loaded: its `images` must lead to the model in a way that can be copied: the model, a module in it, one of its
            methods, a `functools.partial` of these, or an object that holds it.

    Raises:
        TurboError: the path is a plain function, whose copy would run the source.
    """
    if isinstance(loaded.images, types.FunctionType):
        raise TurboError(
            f"the images of {loaded.name} go through the function {loaded.images.__name__!r}, which cannot follow a "
            "copy of the model: give the model, one of its methods, or functools.partial of that"
        )
    return copy.deepcopy(loaded, _memo(loaded.model))


def _memo(model: nn.Module) -> dict[int, object]:
    """What deepcopy is told that it has copied already: each tensor, as itself."""
    return {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
