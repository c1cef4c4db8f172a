"""What an adapter says about the layers that read an image's tokens: a text's cross-attention to them.

An adapter describes, it patches nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Handover:
    """A module whose output, ``b n d``, is what readers get: the tower's last norm, usually.

    Attributes:
        module: runs on merged tokens, after the last block, and returns a tensor.
    """

    module: nn.Module


class Reader(ABC):
    """A cross-attention layer: a text's tokens are queries, an image's tokens are keys and values.

    An image token that stands for s patches is attended to as s patches would be. Where `merges`, image tokens merge
    after it, so that the next reader has fewer; A is the attention of the text's class token, which is "naturally
    contained" in the layer (supplement, section 1.1: the "cross-modal cls cross-attention map").

    The three maps *call* the module's own submodules and never repeat their arithmetic.

    Attributes:
        module: the layer. Its first argument is the text, ``b t d``.
        argument: name of the argument that brings the image tokens, ``b n d``; without them the layer runs as it is.
        mask: name of the argument, ``b 1 t n``, that hides image tokens, from all of a text's tokens alike; None:
            there is none. With image tokens that merge here it is refused.
        merges: whether image tokens may merge between this reader and the next. Not where a text is read in several
            calls, as a decoder that writes token after token does: each call would see other tokens.
        protected: leading image tokens that never merge.
        class_token: whether text token 0 is a class token, whose attention is A. Without one, A is that of
            the text's tokens, on average.
        scale: what attention scores are multiplied by; None means 1/√e.
    """

    argument: str = "encoder_hidden_states"
    mask: str | None = None
    scale: float | None = None

    def __init__(self, module: nn.Module, *, merges: bool, protected: int = 1, class_token: bool = True) -> None:
        self.module: Any = module
        self.merges = merges
        self.protected = protected
        self.class_token = class_token

    @abstractmethod
    def queries(self, text: Tensor) -> Tensor:
        """``b t d`` -> ``b h t e``."""

    @abstractmethod
    def keys_values(self, tokens: Tensor, given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Image tokens, ``b n d``, and the module's arguments by name (a cache, say) -> k, v, each ``b h n e``."""

    @abstractmethod
    def output(self, y: Tensor) -> Any:
        """What attention gives, ``b t (h e)`` -> what the module returns."""

    def dropout(self) -> float:
        """Probability with which attention weights are dropped in training."""
        return 0.0
