"""Denoisers by name, for the command line and the benchmarks: pipelines, and official UNets with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from turbo.errors import TurboError

_SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
_SD21 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
_XL = {
    "sample_size": 128,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}
_XL_BASE = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "projection_class_embeddings_input_dim": 2816,
}
_XL_REFINER = {
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 4,
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}

OFFICIAL_UNETS: dict[str, dict[str, Any]] = {
    "sd15-unet": {"sample_size": 64} | _SD15,
    "sd21-unet": {"sample_size": 96} | _SD21,
    "sdxl-unet": _XL | _XL_BASE,
    "sdxl-refiner-unet": _XL | _XL_REFINER,
}
"""Name -> what differs from the defaults of diffusers' UNet2DConditionModel."""


def build_unet(name: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """An official UNet with random weights, made where it will run; on "meta" it has none and takes no memory."""
    from diffusers import UNet2DConditionModel

    if name not in OFFICIAL_UNETS:
        raise TurboError(f"no official UNet is called {name!r}; there are: {', '.join(OFFICIAL_UNETS)}")
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return UNet2DConditionModel(**OFFICIAL_UNETS[name]).eval()
    finally:
        torch.set_default_dtype(before)


def is_denoiser(name: str) -> bool:
    """Whether a model's name is that of a denoiser or a pipeline: nothing is loaded."""
    return (
        name.removeprefix("random:") in OFFICIAL_UNETS
        or name == "zoo:t2i-scenes"
        or (Path(name) / "model_index.json").exists()
    )


def load_pipeline(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A text-to-image pipeline.

    Args:
        name: "zoo:t2i-scenes", or a folder or hub id for `DiffusionPipeline.from_pretrained`.
        dtype: of its weights.

    Returns:
        The pipeline, silent. A safety checker is left out: an image that it blackens is not the model's.

    Raises:
        TurboError: it cannot be loaded, or has no UNet.
    """
    if name.startswith("zoo:"):
        from turbo import zoo

        pipe: Any = zoo.load(name.removeprefix("zoo:"))
    else:
        try:
            from diffusers import DiffusionPipeline
        except ImportError as error:
            raise TurboError('pipelines come with diffusers: pip install "turbo-vlm[eval]"') from error
        try:
            pipe = DiffusionPipeline.from_pretrained(name, dtype=dtype)
        except (OSError, ValueError, AttributeError) as error:
            raise TurboError(f"{name!r} cannot be loaded as a diffusers pipeline: {error}") from error
    if not hasattr(pipe, "unet"):
        raise TurboError(f"{name} is a {type(pipe).__name__}, which has no unet: take a text-to-image pipeline of one")
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.safety_checker = None
    pipe.set_progress_bar_config(disable=True)
    return pipe if pipe.unet.dtype == dtype else pipe.to(dtype)
