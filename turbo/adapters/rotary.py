"""What an adapter says about a block that turns its queries and keys by where the patches are: rotary positions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from turbo.adapters.base import ResidualBlock
from turbo.errors import TurboError


class RotaryBlock(ResidualBlock):
    """A residual block that is told the place of every patch by an argument, as a cosine and a sine for each channel.

    A merged token is where its patches are on average: it gets the mean of their cosines and the mean of their sines.
    Rotating is linear in both, and a score is linear in each of its two tokens. So the score of two merged tokens is
    the mean, over the patches of one and those of the other, of the scores that the same query and key have in these
    places. For the same reason means are not brought back to length 1.

    R compares keys as attention does, turned: patches that look alike in distant places are not redundant to it, as
    they are not where positions are added to the tokens.

    Attributes:
        argument: name of the block's argument that brings the places of the patches.
    """

    argument: str

    @abstractmethod
    def turns(self, given: Any) -> tuple[Tensor, Tensor]:
        """That argument -> cosines and sines of the p patches, which are the last tokens: ``p e`` or ``b p e``."""

    @abstractmethod
    def given(self, cos: Tensor, sin: Tensor) -> Any:
        """The inverse of `turns`: cosines and sines, each ``p e`` -> the argument."""

    @abstractmethod
    def rotate(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, each ``b h n e``, turned by the block's own function; `cos` and `sin` are ``b 1 n e``."""

    def places(self, given: Any, n: int) -> Tensor:
        """That argument -> the places of all n tokens, ``b n 2e``, b may be 1; class and register tokens turn not.

        A cosine of 1 and a sine of 0 turn nothing.

        Raises:
            TurboError: there are more patches than tokens.
        """
        cos, sin = (part.flatten(0, -3) if part.ndim > 2 else part[None] for part in self.turns(given))
        if cos.shape[1] > n:
            raise TurboError(f"{type(self.module).__name__} got {n} tokens and the places of {cos.shape[1]} patches")
        still = cos.new_ones(cos.shape[0], n - cos.shape[1], cos.shape[2])
        return torch.cat([torch.cat([still, cos], dim=1), torch.cat([still * 0, sin], dim=1)], dim=-1)

    def turn(self, q: Tensor, k: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, each ``b h n e``, at the `places` of their tokens, ``b n 2e``."""
        cos, sin = places[:, None].chunk(2, dim=-1)
        return self.rotate(q, k, cos, sin)
