"""Stable Diffusion and CLIP in small with random weights: the real classes, in a folder as a user has them."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

WIDTH = 16


def letters() -> CLIPTokenizer:
    """CLIP's tokenizer of single letters: it reads any prompt."""
    known = string.ascii_lowercase + string.digits + "',.-"
    words = [*known, *(letter + "</w>" for letter in known), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, pad_token="<|endoftext|>")


def stable_diffusion() -> StableDiffusionPipeline:
    """Latents of 16 x 16 for images of 32 x 32, attention on 256 tokens."""
    torch.manual_seed(0)
    words = letters()
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=32,
    )
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    pipe = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=words,
        unet=unet.eval(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def saved_stable_diffusion(folder: Path) -> Path:
    stable_diffusion().save_pretrained(folder)
    return folder


def saved_clip(folder: Path) -> Path:
    """A CLIP model of 32 px with its processor."""
    torch.manual_seed(0)
    words = letters()
    layers = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {name: getattr(words, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model = CLIPModel(
        CLIPConfig(
            text_config=layers | ids | {"vocab_size": len(words)},
            vision_config=layers | {"image_size": 32, "patch_size": 8},
            projection_dim=8,
        )
    )
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for part in (model, CLIPProcessor(images, words)):
        part.save_pretrained(folder)
    return folder
