"""diffusers' own pipelines around small UNets, autoencoders and text encoders with random weights."""

from __future__ import annotations

from typing import Any

import torch
from denoisers import POOLED, TEXT, controlnet, sdxl_unet, unet

from turbo.testing.weights import make_loud, seeded

WORDS = ["<start>", "<end>", "a", "red", "blue", "circle", "square", "left", "of", "small", "big", "on", "ground"]
PROMPT, OTHER = "a red circle left of a blue square", "a big blue square on ground"
PIXELS = 48
STEPS = {"num_inference_steps": 3, "guidance_scale": 5.0, "output_type": "pt", "height": PIXELS, "width": PIXELS}


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    options = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<end>", "unk_token": "a"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=12, **options)


def text_encoder(width: int = TEXT, projection: int = 0) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    size = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": len(WORDS)}
    config = CLIPTextConfig(**size, **ids, max_position_embeddings=12, projection_dim=projection or width)
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def _second_encoder() -> Any:
    return text_encoder(TEXT // 2, POOLED)


def autoencoder() -> Any:
    from diffusers import AutoencoderKL

    down, up = ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3
    return AutoencoderKL(
        block_out_channels=(4, 4, 8),
        down_block_types=down,
        up_block_types=up,
        norm_num_groups=2,
        layers_per_block=1,
        latent_channels=4,
    )


def scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def pipeline(name: str, model: Any = None, **options: Any) -> Any:
    """A pipeline of diffusers by its class, with the parts that it takes; the same weights at every call."""
    import diffusers

    parts: dict[str, Any] = {"vae": autoencoder, "tokenizer": tokenizer, "scheduler": scheduler}
    if "XL" in name:
        parts |= {"text_encoder": lambda: text_encoder(TEXT // 2), "text_encoder_2": _second_encoder}
        parts |= {"tokenizer_2": tokenizer, "unet": sdxl_unet}
    else:
        parts |= {"text_encoder": text_encoder, "unet": unet}
    if "ControlNet" in name:
        parts["controlnet"] = lambda: controlnet(embedding=(4, 4, 8))
    with seeded(0):
        components = {key: make() for key, make in parts.items()}
        if model is not None:
            components["unet"] = model()
        for part in components.values():
            if isinstance(part, torch.nn.Module):
                make_loud(part.eval())
    if "XL" not in name:
        components |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    made = getattr(diffusers, name)(**components, **options)
    made.set_progress_bar_config(disable=True)
    return made


def picture(seed: int = 5, size: int = PIXELS) -> torch.Tensor:
    with seeded(seed):
        return torch.rand(1, 3, size, size)


def draw(pipe: Any, prompt: Any = PROMPT, seed: int = 0, **options: Any) -> torch.Tensor:
    """Images ``b 3 h w`` from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    return pipe(prompt, generator=generator, **(STEPS | options)).images
