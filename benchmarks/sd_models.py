"""Full-size UNets of Stable Diffusion with random weights, and what a pipeline calls them with."""

from __future__ import annotations

from typing import Any

import torch

from turbo.cli.progress import progress
from turbo.denoisers import OFFICIAL_UNETS, build_unet

TOKENS = 77
CONFIGS = (*OFFICIAL_UNETS, "tiny")
TINY = {"cross_attention_dim": 32, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1}


def build(config: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The UNet, made where it will run; "tiny" is a layout like that of Stable Diffusion 1, to try the script."""
    from diffusers import UNet2DConditionModel

    with progress(f"building {config}"):
        if config == "tiny":
            return UNet2DConditionModel(sample_size=64, attention_head_dim=8, **TINY).eval().to(device, dtype)
        return build_unet(config, device, dtype)


def inputs(unet: Any, latents: int, batch: int, *, guidance: bool) -> dict[str, Any]:
    """What a pipeline calls the UNet with; the halves of guidance have the same latents."""
    torch.manual_seed(1)
    rows = batch * (2 if guidance else 1)
    new = {"device": unet.device, "dtype": unet.dtype}
    sample = torch.randn(batch, unet.config.in_channels, latents, latents, **new)
    found: dict[str, Any] = {
        "sample": torch.cat([sample] * 2) if guidance else sample,
        "encoder_hidden_states": torch.randn(rows, TOKENS, unet.config.cross_attention_dim, **new),
    }
    if unet.config.addition_embed_type == "text_time":
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        found["added_cond_kwargs"] = {
            "text_embeds": torch.randn(rows, width, **new),
            "time_ids": torch.tensor([[8 * latents, 8 * latents, 0, 0, 8 * latents, 8 * latents]] * rows, **new),
        }
    return found
