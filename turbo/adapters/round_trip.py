"""What an adapter says about blocks whose every token is needed afterwards, as in a diffusion model's UNet.

Concrete adapters import this module and `turbo.adapters.base`, and nothing else of turbo.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

PartName = Literal["self_attention", "cross_attention", "feed_forward"]
PART_NAMES: tuple[PartName, ...] = get_args(PartName)
"""The parts of a block that can run on merged tokens, in the order in which they run."""


@dataclass(frozen=True, eq=False)
class Denoiser:
    """The module whose call is one denoising step; it surrounds all `RoundTrip` blocks of a model.

    Attributes:
        module: called with the latents, ``b c h w``, and the timestep.
        size: height and width of the latents at the model's own resolution.
        inputs: height and width of latents -> inputs for one image by keyword, of zeros: what `turbo.report` counts
            FLOPs with. It is kept with the model: a function that pickles, not one made inside another.
        latents: name of the argument that is the latents.
        timestep: name of the argument that is the timestep: a number, or a tensor of one, or of one per sample.
        text: name of the argument that conditions the step; a caller that passes another object starts another
            image.
    """

    module: nn.Module
    size: tuple[int, int]
    inputs: Callable[[int, int], dict[str, Any]]
    latents: str = "sample"
    timestep: str = "timestep"
    text: str = "encoder_hidden_states"


class RoundTrip(ABC):
    """A transformer block on the h·w positions of a grid, row by row: its parts run on merged tokens.

    Tokens merge before each part, and each receives its token's output after it (supplement, section 1.2). Norms and
    residuals stay the block's own, on all tokens. Every part is *called*, with the processors, adapters and hooks
    that the user set on it.

    Attributes:
        module: the block.
        parts: the submodules that can run on merged tokens, by name (see `PART_NAMES`); each takes ``b n d`` as its
            first argument and returns ``b n d``. "self_attention" must be among them: its keys are what tokens are
            compared by.
        downsample: how many latent pixels one token spans along each axis: 1 at full resolution.
        heads: of the attention layers.
        scale: what attention scores are multiplied by; None means 1/√e.
        by_text: whether cross-attention's semantic value is the text's attention (see `text_query`); else it is that
            of the other parts.
    """

    by_text = False

    def __init__(
        self,
        module: nn.Module,
        *,
        parts: Mapping[PartName, nn.Module],
        downsample: int,
        heads: int,
        scale: float | None = None,
    ) -> None:
        self.module: Any = module
        self.parts = dict(parts)
        self.downsample = downsample
        self.heads = heads
        self.scale = scale

    @abstractmethod
    def keys(self) -> nn.Module:
        """The layer that makes self-attention's keys: ``b n d``, as it enters self-attention, -> ``b n (h e)``."""

    def visual_value(self, x: Tensor) -> Tensor:
        """The semantic value of tokens as they enter self-attention: ``b n d`` -> ``b n``, not negative, in any unit.

        Without a class token: how far a token is from the mean of all. (The mean query's attention is not it: see
        "Stable Diffusion" in the documentation for what was measured.)
        """
        distance: Tensor = (x - x.mean(dim=1, keepdim=True)).norm(dim=-1)
        return distance

    def guided_value(self, without: Tensor, with_text: Tensor) -> Tensor:
        """The same under guidance, from the same tokens without and with text, both ``b n d``: what the text changed.

        Where it is all but zero, before the text has reached the tokens, `visual_value` takes its place.
        """
        change: Tensor = (with_text - without).norm(dim=-1)
        return change

    @abstractmethod
    def queries(self) -> nn.Module:
        """The layer that makes cross-attention's queries: ``b n d``, as it enters cross-attention, -> ``b n (h e)``."""

    @abstractmethod
    def text_query(self, *args: Any, **kwargs: Any) -> Tensor:
        """The key of the text's end-of-sequence token, ``b h 1 e``: it asks the image tokens, where `by_text` is set.

        Called with what cross-attention is called with, beside the tokens.
        """

    @abstractmethod
    def self_attention_bias(self, bias: Tensor) -> dict[str, Any]:
        """The keywords with which self-attention adds a bias, ``b n``, to the scores of its keys.

        It carries log s, so that a merged token is attended to as the tokens that it stands for.
        """

    def check_call(self, part: PartName, *args: Any, **kwargs: Any) -> None:
        """Raise `Unsupported` where a part was called with something that merged tokens cannot honour.

        Called with what the part is called with, beside the tokens.
        """
        del part, args, kwargs  # by default a part takes anything
