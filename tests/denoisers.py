"""Every supported UNet as a small model with random weights and its inputs: cases for the conformance kit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from turbo.testing import AdapterCase

SIZE, TEXT, WORDS = 12, 16, 7

PLAIN = {
    "sample_size": SIZE,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": TEXT,
}
FINEST = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
"""Attention at full resolution, and in the middle, as in Stable Diffusion 1 and 2."""
COARSE = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
"""No attention at full resolution, as in Stable Diffusion XL."""
POOLED, TIMES = 10, 8


def unet(**options: Any) -> Any:
    """A small UNet; the attention heads of Stable Diffusion 1 unless options say otherwise."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**(PLAIN | FINEST | {"attention_head_dim": 2} | options))


def sd1() -> nn.Module:
    return unet()


def sd2() -> nn.Module:
    return unet(attention_head_dim=(2, 4), use_linear_projection=True, upcast_attention=True)


def inpaint() -> nn.Module:
    return unet(in_channels=9)


def sdxl_unet(times: int = 6, **options: Any) -> Any:
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIMES,
        "projection_class_embeddings_input_dim": POOLED + times * TIMES,
    }
    depths = {"transformer_layers_per_block": (1, 2), "attention_head_dim": (2, 4), "use_linear_projection": True}
    return unet(**(COARSE | depths | added | options))


class WithAddedConditions(nn.Module):
    """A UNet of the XL kind, with its added conditions as arguments of their own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.unet = inner

    def forward(self, sample, timestep, encoder_hidden_states, text_embeds, time_ids):
        added = {"text_embeds": text_embeds, "time_ids": time_ids}
        return self.unet(sample, timestep, encoder_hidden_states, added_cond_kwargs=added).sample


def sdxl() -> nn.Module:
    return WithAddedConditions(sdxl_unet())


def refiner() -> nn.Module:
    """Attention at the middle resolution of three, and in the middle block; five time ids."""
    return WithAddedConditions(
        sdxl_unet(
            times=5,
            sample_size=16,
            block_out_channels=(16, 16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=2,
            attention_head_dim=(2, 2, 4),
        )
    )


def controlnet(embedding: tuple[int, ...] = (4, 8)) -> Any:
    from diffusers import ControlNetModel

    known = {key: value for key, value in (PLAIN | FINEST).items() if key not in ("sample_size", "up_block_types")}
    model = ControlNetModel(**known, attention_head_dim=2, conditioning_embedding_out_channels=embedding)
    model.register_to_config(sample_size=SIZE)  # its own configuration has none, and 64 is taken
    return model


def residuals(output: Any) -> torch.Tensor:
    """All that a ControlNet adds to its UNet, in one tensor."""
    found = (*output.down_block_res_samples, output.mid_block_res_sample)
    return torch.cat([each.flatten(1) for each in found], dim=1)


def inputs(batch: int, channels: int = 4, size: int = SIZE) -> dict[str, torch.Tensor]:
    return {
        "sample": torch.randn(batch, channels, size, size),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(batch, WORDS, TEXT),
    }


def inputs_xl(batch: int, times: int = 6, size: int = SIZE) -> dict[str, torch.Tensor]:
    return inputs(batch, size=size) | {
        "text_embeds": torch.randn(batch, POOLED),
        "time_ids": torch.randint(0, 12, (batch, times)).float(),
    }


def inputs_refiner(batch: int) -> dict[str, torch.Tensor]:
    return inputs_xl(batch, times=5, size=16)


def inputs_inpaint(batch: int) -> dict[str, torch.Tensor]:
    return inputs(batch, channels=9)


def inputs_controlnet(batch: int) -> dict[str, torch.Tensor]:
    return inputs(batch) | {"controlnet_cond": torch.randn(batch, 3, 2 * SIZE, 2 * SIZE)}


INNER = {
    "check_compiles": "a module around the UNet, as here, leaves its hooks out of the graph: compile the UNet itself"
}

DENOISERS = [
    AdapterCase("unet", sd1, inputs, name="sd1", restores=True),
    AdapterCase("unet", sd2, inputs, name="sd2", restores=True),
    AdapterCase("unet", inpaint, inputs_inpaint, name="sd-inpaint", restores=True),
    AdapterCase("unet", sdxl, inputs_xl, name="sdxl", restores=True, expected_failures=INNER),
    AdapterCase("unet", refiner, inputs_refiner, name="sdxl-refiner", restores=True, expected_failures=INNER),
    AdapterCase("unet", controlnet, inputs_controlnet, residuals, name="controlnet", restores=True),
]
