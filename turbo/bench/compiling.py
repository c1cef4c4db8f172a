"""Calls compiled with torch.compile, with what it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch._dynamo
from torch import Tensor

from turbo.engine.clock import seconds_of
from turbo.errors import TurboError

_SIDES = 256  # models of one class that may be compiled beside each other; torch allows 8


@dataclass(frozen=True)
class Compiled:
    """A compiled call.

    Attributes:
        call: images -> what the model returns.
        seconds: of the first call, which compiles.
        whole: compiled as one graph; False where parts of it run in Python.
    """

    call: Callable[[Tensor], object]
    seconds: float
    whole: bool


def compile_call(call: Callable[..., Any], images: Tensor) -> Compiled:
    """Compile a call for images of one size, as one graph where that is possible.

    Args:
        call: what to compile.
        images: what it is first called with.

    Raises:
        TurboError: torch.compile fails.
    """
    try:
        return _compiled(call, images, whole=True)
    except torch._dynamo.exc.Unsupported:
        return _compiled(call, images, whole=False)


def _compiled(call: Callable[..., Any], images: Tensor, *, whole: bool) -> Compiled:
    compiled = torch.compile(call, fullgraph=whole, dynamic=False)
    try:
        return Compiled(compiled, seconds_of(lambda: compiled(images), images.device), whole)
    except torch._dynamo.exc.Unsupported:
        if whole:
            raise
        raise TurboError("torch.compile does not support this model, not even in parts") from None
    except Exception as error:  # the compilers behind torch.compile raise what they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TurboError(f"torch.compile failed with {type(error).__name__}: {reason}") from error


@contextmanager
def room_for_sides() -> Iterator[None]:
    """Let many models of one class stay compiled; an error where torch would fall back to eager without a word."""
    with torch._dynamo.config.patch(
        recompile_limit=_SIDES, accumulated_recompile_limit=16 * _SIDES, fail_on_recompile_limit_hit=True
    ):
        yield
