"""The sides of a comparison made ready: each a copy of one model, patched, counted, compiled where asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from turbo.bench.compiling import compile_call
from turbo.bench.copies import copy_loaded
from turbo.bench.counting import count_flops
from turbo.bench.memory import peak_memory
from turbo.bench.tokens import counting_tokens
from turbo.errors import TurboError
from turbo.models import LoadedModel

Patch = Callable[[nn.Module], object]
"""Changes the model that it is given, in place."""


@dataclass(frozen=True)
class Prepared:
    """A side that can be timed.

    Attributes:
        call: what is timed.
        flops: of a call, counted by torch before anything is compiled.
        peak: bytes of tensors alive at the worst moment of a call, 0 where not measured.
        tokens: that leave the last block.
        compile_seconds: of the first compiled call; None where nothing is compiled.
        whole_graph: compiled as one graph; None where nothing is compiled.
    """

    call: Callable[[], object]
    flops: int
    peak: int
    tokens: int
    compile_seconds: float | None
    whole_graph: bool | None


def prepare_sides(
    loaded: LoadedModel,
    patches: Mapping[str, Patch],
    images: Tensor,
    block: str,
    *,
    compiled: bool,
    memory: bool,
    spare: Collection[str] = (),
) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Make every side of a comparison, and run each once or more.

    Args:
        loaded: the model.
        patches: name of a side -> what makes it of a copy of the model.
        images: what each is called with.
        block: dotted name of the last block, for the count of tokens.
        compiled: compile each.
        memory: measure peak memory.
        spare: names that may be left out where they cannot be compiled.

    Returns:
        The sides by name, and what was left out with the reason.

    Raises:
        TurboError: a side cannot be made or compiled.
    """
    sides: dict[str, Prepared] = {}
    failed: dict[str, str] = {}
    for name, patch in patches.items():
        try:
            sides[name] = _prepare(loaded, patch, images, block, compiled=compiled, memory=memory)
        except _CannotCompileError as error:
            if name not in spare:
                raise TurboError(f"{name}: {error}") from error
            failed[name] = str(error)
    return sides, failed


class _CannotCompileError(TurboError):
    """torch.compile failed, in distinction from what makes or runs a side."""


def _prepare(
    loaded: LoadedModel, patch: Patch, images: Tensor, block: str, *, compiled: bool, memory: bool
) -> Prepared:
    side = copy_loaded(loaded)
    patch(side.model)
    with counting_tokens(side.model, block) as tokens:
        flops = count_flops(lambda: side.images(images))
        left = tokens()
    path, seconds, whole = side.images, None, None
    if compiled:
        try:
            made = compile_call(path, images)
        except TurboError as error:
            raise _CannotCompileError(str(error)) from error
        path, seconds, whole = made.call, made.seconds, made.whole

    def call() -> object:
        return path(images)

    return Prepared(call, flops, peak_memory(call, images.device) if memory else 0, left, seconds, whole)
