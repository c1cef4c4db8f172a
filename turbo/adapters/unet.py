"""diffusers' UNet2DConditionModel: Stable Diffusion 1, 2, XL and its refiner; and the ControlNets beside them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from turbo.adapters.base import Adapter, Example, Site, Unsupported, split_heads
from turbo.adapters.round_trip import Denoiser, RoundTrip


class UNetBlock(RoundTrip):
    """One BasicTransformerBlock with self-attention, cross-attention and feed-forward."""

    def __init__(self, block: Any, downsample: int, text_token: int | None) -> None:
        _require_plain(block)
        parts = {"self_attention": block.attn1, "cross_attention": block.attn2, "feed_forward": block.ff}
        super().__init__(
            block,
            parts={name: part for name, part in parts.items() if part is not None},  # type: ignore[misc]
            downsample=downsample,
            heads=block.attn1.heads,
            scale=block.attn1.scale,
        )
        self.by_text = text_token is not None
        self.text_token = -1 if text_token is None else text_token

    def keys(self) -> nn.Module:
        layer: nn.Module = self.module.attn1.to_k
        return layer

    def queries(self) -> nn.Module:
        layer: nn.Module = self.module.attn2.to_q
        return layer

    def text_query(
        self, encoder_hidden_states: Any = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        if encoder_hidden_states is None:
            raise Unsupported("cross-attention ran without text: call the UNet with encoder_hidden_states")
        if isinstance(encoder_hidden_states, tuple):  # beside an IP-Adapter: the text, and images
            encoder_hidden_states = encoder_hidden_states[0]
        if attention_mask is None:
            token = encoder_hidden_states[:, self.text_token, None]
        else:  # b 1 n: 0 where a token counts, very negative where it is padding
            counts = (attention_mask.flatten(1) > -1).long()
            last = (counts * torch.arange(counts.shape[1], device=counts.device)).argmax(dim=1)
            token = encoder_hidden_states[torch.arange(len(last), device=last.device), last][:, None]
        return split_heads(self.module.attn2.to_k(token), self.heads)

    def self_attention_bias(self, bias: Tensor) -> dict[str, Any]:
        attention = self.module.attn1
        # Processors that make the map themselves add the bias to upcast scores; torch's fused kernels never upcast.
        upcast = attention.upcast_attention and "2_0" not in type(attention.processor).__name__
        return {"attention_mask": (bias.float() if upcast else bias)[:, None]}

    def check_call(self, part: str, *args: Any, **kwargs: Any) -> None:
        if "PAG" in type(self.module.attn1.processor).__name__:
            raise Unsupported("perturbed-attention guidance in a block that merges: choose other pag_applied_layers")
        mask = kwargs.get("attention_mask")
        if part == "self_attention" and mask is not None:
            raise Unsupported("a UNet called with attention_mask: it names single tokens, which merge here")
        if mask is not None and mask.ndim == 3 and mask.shape[1] != 1:
            raise Unsupported("an encoder_attention_mask of its own for each image token: image tokens merge here")
        if part == "cross_attention" and kwargs.get("ip_adapter_masks") is not None:
            raise Unsupported("ip_adapter_masks: they name single image tokens, which merge here")


class UNet(Adapter):
    """Blocks are found at every resolution, in the order in which they run.

    Attributes:
        text_token: which text token's attention to the image is the semantic value of cross-attention; a mask of
            padding tokens goes before it and names the last one that counts. -1 is the supplement's end-of-sequence
            token: text encoders are causal, so the last token has read the whole prompt, and Stable Diffusion 1 pads
            with that very token. None takes the value of the other parts, which measured better.
    """

    target = (
        "diffusers.models.unets.unet_2d_condition:UNet2DConditionModel",
        "diffusers.models.controlnets.controlnet:ControlNetModel",
    )

    def __init__(self, text_token: int | None = None) -> None:
        self.text_token = text_token

    def sites(self, model: Any) -> Sequence[Site]:
        sites: list[Site] = [Denoiser(model, _size(model), partial(_inputs, model))]
        downsample = 1
        for stage in model.down_blocks:
            sites += self._blocks(stage, downsample)
            downsample *= 2 if getattr(stage, "downsamplers", None) else 1
        if model.mid_block is not None:
            sites += self._blocks(model.mid_block, downsample)
        for stage in getattr(model, "up_blocks", ()):
            sites += self._blocks(stage, downsample)
            downsample //= 2 if getattr(stage, "upsamplers", None) else 1
        return sites

    def _blocks(self, stage: nn.Module, downsample: int) -> list[Site]:
        found = [m for m in stage.modules() if any(c.__name__ == "BasicTransformerBlock" for c in type(m).__mro__)]
        return [UNetBlock(block, downsample, self.text_token) for block in found]

    def shape(self, model: Any) -> tuple[int, int]:
        blocks = [site for site in self.sites(model) if isinstance(site, RoundTrip)]
        finest = min(blocks, key=lambda block: block.downsample)
        height, width = (-(-side // finest.downsample) for side in _size(model))
        return height * width, finest.module.attn1.to_q.in_features

    def example(self) -> Example:
        from diffusers import UNet2DConditionModel

        def model() -> nn.Module:
            unet: nn.Module = UNet2DConditionModel(
                sample_size=12,
                block_out_channels=(16, 32),
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                layers_per_block=1,
                norm_num_groups=4,
                cross_attention_dim=16,
                attention_head_dim=2,
            )
            return unet

        def inputs(batch: int) -> dict[str, Tensor]:
            return {
                "sample": torch.randn(batch, 4, 12, 12),
                "timestep": torch.tensor(500),
                "encoder_hidden_states": torch.randn(batch, 7, 16),
            }

        return Example(model, inputs)


def _size(model: Any) -> tuple[int, int]:
    size = model.config.get("sample_size") or 64  # a ControlNet's configuration has none
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _inputs(model: Any, height: int, width: int) -> dict[str, Any]:
    """Zeros for one image: latents, timestep, text, and what SDXL, class-conditioned models and ControlNets add."""
    config = model.config
    parameter = next(model.parameters())
    zeros = partial(torch.zeros, device=parameter.device, dtype=parameter.dtype)
    text = config.encoder_hid_dim or config.cross_attention_dim
    inputs: dict[str, Any] = {
        "sample": zeros(1, config.in_channels, height, width),
        "timestep": 0,
        "encoder_hidden_states": zeros(1, 77, text if isinstance(text, int) else text[0]),
    }
    if config.class_embed_type is not None or getattr(model, "class_embedding", None) is not None:
        wide = config.class_embed_type in ("projection", "simple_projection")
        inputs["class_labels"] = zeros(1, config.projection_class_embeddings_input_dim) if wide else zeros(1).long()
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        inputs["added_cond_kwargs"] = {"text_embeds": zeros(1, pooled), "time_ids": zeros(1, 6)}
    if config.get("conditioning_embedding_out_channels") is not None:
        channels = config.conditioning_channels
        factor = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
        inputs["controlnet_cond"] = zeros(1, channels, height * factor, width * factor)
    return inputs


def _require_plain(block: Any) -> None:
    """Refuse what the round trip has not been shown to be right for."""
    attention = block.attn1
    found = None
    if type(block).__name__ != "BasicTransformerBlock":
        found = f"a class of its own, {type(block).__name__} (another library's patch? undo that first)"
    elif block.norm_type != "layer_norm":
        found = f"norm_type={block.norm_type!r}"
    elif hasattr(block, "fuser"):
        found = "GLIGEN's gated attention (attention_type='gated')"
    elif block.only_cross_attention:
        found = "only_cross_attention=True"
    elif block.double_self_attention:
        found = "double_self_attention=True"
    elif block.pos_embed is not None:
        found = "positional embeddings inside the block"
    elif block._chunk_size is not None:
        found = "chunked feed-forward (set_chunk_feed_forward(None) on the block first)"
    elif attention.norm_q is not None or attention.group_norm is not None:
        found = "normed queries and keys"
    if found:
        raise Unsupported(f"a transformer block with {found}: turbo knows the plain block of Stable Diffusion 1, 2, XL")
