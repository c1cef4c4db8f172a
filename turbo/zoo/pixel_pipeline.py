"""Text-to-image and image-to-image diffusion on pixels, with the parts of Stable Diffusion and no autoencoder.

Importing this module imports diffusers and transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from turbo.errors import TurboError


class PixelDiffusionPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Draws images from captions with a UNet that works on pixels.

    Args:
        unet: a `UNet2DConditionModel` with 3 channels in and out.
        text_encoder: a `CLIPTextModel`.
        tokenizer: a tokenizer of whole words; words it does not know are refused.
        scheduler: any diffusers scheduler with `step` and `add_noise`.
    """

    model_cpu_offload_seq = "text_encoder->unet"

    def __init__(self, unet: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)
        self.image_processor = VaeImageProcessor(vae_scale_factor=2 ** (len(unet.config.block_out_channels) - 1))

    def encode(self, prompts: list[str]) -> Tensor:
        """Turns captions (`b`) into text states (`b n c`).

        Raises:
            TurboError: if a caption has an unknown word or is too long.
        """
        known, limit = self.tokenizer.get_vocab(), self.tokenizer.model_max_length
        for prompt in prompts:
            words = prompt.split()
            if strange := next((word for word in words if word not in known), None):
                plain = " ".join(sorted(word for word in known if word not in self.tokenizer.all_special_tokens))
                raise TurboError(f"unknown word {strange!r} in the prompt {prompt!r}: the model knows {plain}")
            if len(words) + 2 > limit:
                raise TurboError(f"the prompt {prompt!r} has {len(words)} words: shorten it to {limit - 2}")
        ids = self.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
        return self.text_encoder(ids.to(self.text_encoder.device))[0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        *,
        negative_prompt: str | list[str] = "",
        image: Any = None,
        strength: float = 0.6,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 12,
        guidance_scale: float = 4.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> Any:
        """Draws one image for each prompt.

        Args:
            prompt: a caption or a list of `b` of them.
            negative_prompt: what guidance leads away from: one caption, or one for each prompt.
            image: where to start from (image to image), one image or `b`: PIL, numpy or a tensor
                (`b 3 h w`), as diffusers' `VaeImageProcessor` takes them (values 0 to 1); None
                starts from noise.
            strength: share of the steps that change `image`, above 0 and up to 1.
            height: pixels; the UNet's sample size by default. `image` has its own.
            width: pixels; likewise.
            num_inference_steps: scheduler steps (image to image runs `strength` of them).
            guidance_scale: weight of the prompt against the negative prompt; up to 1 turns guidance off.
            generator: source of the noise, one or a list of `b`.
            latents: noise to use instead of fresh noise, `b 3 h w`.
            output_type: "pil", "np" (`b h w 3`, 0 to 1) or "pt" (`b 3 h w`, 0 to 1).
            return_dict: False returns a tuple.
            callback_on_step_end: called as `f(pipeline, step, t, {"latents": ...})` after each
                step; a "latents" in the dictionary it returns replaces the image under way.

        Returns:
            An `ImagePipelineOutput` with `images`, or a tuple of them.

        Raises:
            TurboError: if a prompt has an unknown word, or the arguments do not fit together.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negative = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
        if len(negative) != len(prompts):
            raise TurboError(f"{len(prompts)} prompts have {len(negative)} negative prompts: give one, or one for each")
        if output_type not in ("pil", "np", "pt"):
            raise TurboError(f"unknown output_type {output_type!r}: choose pil, np or pt")
        guided = guidance_scale > 1
        # One tensor for all steps: what attends to the text may keep what it computes from it.
        embeds = self.encode(negative + prompts if guided else prompts)
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        timesteps = self.scheduler.timesteps
        side = self.unet.config.sample_size
        if image is not None:
            if not 0 < strength <= 1:
                raise TurboError(f"strength is {strength}: choose a share of the steps above 0 and up to 1")
            start = self.image_processor.preprocess(image).to(embeds)
            if len(start) not in (1, len(prompts)):
                raise TurboError(f"{len(prompts)} prompts have {len(start)} images: give one, or one for each")
            first = num_inference_steps - max(1, min(num_inference_steps, int(num_inference_steps * strength)))
            timesteps = timesteps[first * self.scheduler.order :]
            self.scheduler.set_begin_index(first * self.scheduler.order)
            height, width = start.shape[2:]
        shape = (len(prompts), self.unet.config.in_channels, height or side, width or side)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=embeds.dtype)
        elif latents.shape != shape:
            raise TurboError(f"latents have the shape {tuple(latents.shape)}: the prompts and sizes ask for {shape}")
        if image is not None:
            latents = self.scheduler.add_noise(start.expand(shape), latents, timesteps[:1].repeat(len(prompts)))
        else:
            latents = latents * self.scheduler.init_noise_sigma
        takes = inspect.signature(self.scheduler.step).parameters
        extra = {"generator": generator} if "generator" in takes else {}
        with self.progress_bar(total=len(timesteps)) as bar:
            for step, t in enumerate(timesteps):
                sample = torch.cat([latents] * 2) if guided else latents
                sample = self.scheduler.scale_model_input(sample, t)
                found = self.unet(sample, t, encoder_hidden_states=embeds, return_dict=False)[0]
                if guided:
                    away, toward = found.chunk(2)
                    found = away + guidance_scale * (toward - away)
                latents = self.scheduler.step(found, t, latents, **extra, return_dict=False)[0]
                if callback_on_step_end is not None:
                    latents = callback_on_step_end(self, step, t, {"latents": latents}).get("latents", latents)
                bar.update()
        images = self.image_processor.postprocess(latents, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)
