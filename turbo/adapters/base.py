"""What an adapter says about a model family: where its blocks are and how to call their parts.

An adapter describes, it patches nothing. Concrete adapters import this module and nothing else of turbo.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from turbo.adapters.reader import Handover, Reader
from turbo.adapters.round_trip import Denoiser, RoundTrip
from turbo.errors import TurboError
from turbo.information import spread_queries


class Unsupported(TurboError):
    """A model of a supported class whose variant an adapter cannot describe. Say what was found."""


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``b n (h e)`` -> ``b h n e``, without a copy."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def split_qkv(x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """A fused projection's ``b n (3 h e)`` -> q, k, v, each ``b h n e``, without a copy."""
    q, k, v = x.chunk(3, dim=-1)
    return split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)


class ResidualBlock(ABC):
    """A pre-norm transformer block: ``x = x + project(attention(qkv(x)))``, then ``x = x + mlp(x)``.

    The three maps *call* the block's own submodules and never repeat their arithmetic, so that LayerScale, q/k
    norm, dropout and stochastic depth come along by themselves. Tokens merge between the two halves.

    Attributes:
        module: the block; it takes ``b n d`` as its first argument and returns ``b n d``.
        protected: leading tokens that never merge (class, distillation and register tokens).
        class_token: whether token 0 is a class token, whose attention is A. Without one, A is the attention that
            tokens receive from a few others (see `query`).
        scale: what attention scores are multiplied by; None means 1/√e.
    """

    scale: float | None = None

    def __init__(self, module: nn.Module, *, protected: int = 1, class_token: bool = True) -> None:
        self.module: Any = module
        self.protected = protected
        self.class_token = class_token

    @abstractmethod
    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``b n d`` -> q, k, v, each ``b h n e``, the first norm included."""

    @abstractmethod
    def project(self, y: Tensor) -> Tensor:
        """Attention's output, ``b n (h e)`` -> what is added to the residual, ``b n d``."""

    @abstractmethod
    def mlp(self, x: Tensor) -> Tensor:
        """``b n d`` -> what the second half adds to the residual, ``b n d``, the second norm included."""

    def query(self, q: Tensor) -> Tensor:
        """The queries whose attention, averaged, is the semantic value: ``b h n e`` -> ``b h m e``.

        The class token's; without one, those of a few tokens all over the sequence.
        """
        return q[:, :, :1] if self.class_token else spread_queries(q)

    def dropout(self) -> float:
        """Probability with which attention weights are dropped in training."""
        return 0.0

    def checkpointing(self) -> Callable[..., Any] | None:
        """The function that recomputes the block in the backward pass, where the model asks for one.

        The default is transformers' protocol; a model that wraps the whole block from outside needs nothing.
        """
        if self.module.training and getattr(self.module, "gradient_checkpointing", False):
            function: Callable[..., Any] = self.module._gradient_checkpointing_func
            return function
        return None


@dataclass(frozen=True, eq=False)
class Restore:
    """A module whose output, ``b n d``, gets its full sequence back: each patch receives its token's output.

    For readers of all patches (a mean, an attention pool, a dense grid): they see what they would have seen,
    each merged token counted once per patch.

    Attributes:
        module: runs on merged tokens, returns a tensor.
    """

    module: nn.Module


@dataclass(frozen=True, eq=False)
class Refuse:
    """A method that cannot work on merged tokens: it raises a TurboError instead of a wrong result.

    Attributes:
        module: the module that has the method.
        method: its name.
        reason: what it needs that merging takes away.
    """

    module: nn.Module
    method: str
    reason: str


Site = ResidualBlock | Restore | Refuse | Handover | Reader | Denoiser | RoundTrip


@dataclass(frozen=True, eq=False)
class Example:
    """A small model of a family with random weights, and inputs for it: what `turbo check` runs on.

    Attributes:
        model: builds the model.
        inputs: batch size -> the model's inputs by keyword, in the order of its forward's signature.
        output: what the model returns -> one tensor, batch first; None where the kit can tell (a tensor, logits,
            pooler_output and the like).
    """

    model: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Tensor]]
    output: Callable[[Any], Tensor] | None = None


class Adapter(ABC):
    """A description of one model family.

    Examples:
        >>> from turbo.adapters.vit import ViT
        >>> ViT().distance(nn.Linear(1, 1)) is None
        True
    """

    target: ClassVar[str | tuple[str, ...]]
    """``"package.module:Class"``, or several. Resolved through `sys.modules`: an instance proves the import."""

    @abstractmethod
    def sites(self, model: Any) -> Sequence[Site]:
        """The blocks of a model, and what restores their output, in the order in which they run."""

    @abstractmethod
    def shape(self, model: Any) -> tuple[int, int]:
        """Tokens n and width d that enter the first block at the model's own resolution."""

    def example(self) -> Example | None:
        """A small model that this adapter describes, and inputs for it: a few narrow blocks, a small image.

        Import the model's library in here. None where there is no example.
        """
        return None

    def distance(self, model: object) -> int | None:
        """How far the model's class is from the nearest target class: 0 for the class itself, None if unrelated."""
        found = (_loaded(target) for target in targets_of(self))
        classes = type(model).__mro__
        return min((classes.index(cls) for cls in found if cls in classes), default=None)


def targets_of(adapter: Adapter) -> tuple[str, ...]:
    """The targets of an adapter, none where it needs none because it has a `distance` of its own.

    Raises:
        TurboError: it has no target, or one is not ``"package.module:Class"``.
    """
    given = getattr(adapter, "target", ())
    targets = tuple(given) if isinstance(given, tuple | list) else (given,)
    for target in targets:
        if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)*:\w+", target):
            raise TurboError(f'target {target!r} of {type(adapter).__name__} is not "package.module:Class"')
    if not targets and type(adapter).distance is Adapter.distance:
        raise TurboError(f'{type(adapter).__name__} has no target: set it to "package.module:Class" of its model')
    return targets


def _loaded(target: str) -> Any:
    """The class that a target names, or None where its module is not imported."""
    module, _, name = target.partition(":")
    return getattr(sys.modules.get(module), name, None)
