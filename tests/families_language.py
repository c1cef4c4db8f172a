"""Models of transformers that read images and text, and their vision towers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from family import BOTH, IMAGE, IMAGE_TOKEN, Family, N
from transformers_models import BLIP_TEXT, LLAMA, OPT, Q_FORMER, VISION, composite, hf

PATCHES_ONLY = {"n": N - 1, "protected": 0}
CROPPED = {"input_ids": "long_prompt", "pixel_values": "crops", "image_sizes": "image_sizes"}
SEVERAL_CROPS = {"compiles": False, "independent_batch": False}
"""They look at sizes image by image, by numbers, and their tower sees every crop as an image."""
PROMPT = {"input_ids": "prompt", "pixel_values": "pixel_values"}
DENSE = {"projection_dim": 48, "reduce_dim": 16, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}


def _clip(name: str) -> Callable[[], torch.nn.Module]:
    return composite(name, "CLIPConfig", projection_dim=32, num_labels=5)


def _blip(name: str) -> Callable[[], torch.nn.Module]:
    return composite(name, "BlipConfig", text_config=BLIP_TEXT, projection_dim=32, image_text_hidden_size=32)


def _llava(layer: int | list[int], kin: str = "Llava", **vision: Any) -> Callable[[], torch.nn.Module]:
    config = {"vision_config": {"model_type": "clip_vision_model"} | VISION | vision, "text_config": LLAMA}
    place = {"image_token_index": IMAGE_TOKEN, "image_seq_length": N - 1, "vision_feature_layer": layer}
    if vision:
        place["vision_feature_select_strategy"] = "full"
    if kin in ("LlavaNext", "LlavaOnevision"):
        place["image_grid_pinpoints"] = [[IMAGE, IMAGE]]
    return composite(f"{kin}ForConditionalGeneration", f"{kin}Config", **config, **place)


READS = {"text_config": OPT, "num_query_tokens": N - 1, "image_token_index": IMAGE_TOKEN}


def _blip_2(name: str) -> Callable[[], torch.nn.Module]:
    return composite(name, "Blip2Config", qformer_config=Q_FORMER, **READS)


def _detections(out: Any) -> torch.Tensor:
    return torch.cat([out.logits.flatten(1), out.pred_boxes.flatten(1)], dim=1)


def _answer(out: Any) -> torch.Tensor:
    """The image side, which reads the tower, and the decoder's loss, which reads all."""
    return torch.cat([out.image_embeds[:, 0].flatten(), out.loss[None]])


CROSS_MODAL = {"options": {"cross_modal": 0.3}}
BLIP_VQA = Family(
    "blip-vqa",
    "blip",
    _blip("BlipForQuestionAnswering"),
    _answer,
    BOTH | {"labels": "input_ids"},
    # labels come after three other arguments; the loss is a mean over the batch.
    flags={"positional": False, "independent_batch": False},
)
BLIP_RETRIEVAL = Family("blip-retrieval", "blip", _blip("BlipForImageTextRetrieval"), lambda out: out.itm_score, BOTH)
BLIP_2 = Family(
    "blip-2",
    "blip_2",
    _blip_2("Blip2ForConditionalGeneration"),
    arguments={"pixel_values": "pixel_values", "input_ids": "prompt"},
)
INSTRUCTBLIP = Family(
    "instructblip",
    "blip_2",
    composite("InstructBlipForConditionalGeneration", "InstructBlipConfig", qformer_config=Q_FORMER, **READS),
    arguments={"pixel_values": "pixel_values", "qformer_input_ids": "input_ids", "input_ids": "prompt"},
    flags={"positional": False},  # a mask comes between the two texts
)

LANGUAGE = [
    Family("clip-vision", "clip", hf("CLIPVisionModel", "CLIPVisionConfig")),
    Family("clip", "clip", _clip("CLIPModel"), lambda out: out.image_embeds, BOTH),
    Family(
        "clip-vision-projection", "clip", hf("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=32)
    ),
    Family("clip-classifier", "clip", _clip("CLIPForImageClassification")),
    Family("blip-vision", "blip", hf("BlipVisionModel", "BlipVisionConfig")),
    Family("blip", "blip", _blip("BlipModel"), lambda out: out.image_embeds, BOTH),
    Family(
        "blip-captioner",
        "blip",
        _blip("BlipForConditionalGeneration"),
        arguments={"pixel_values": "pixel_values", "input_ids": "input_ids"},
    ),
    BLIP_VQA,
    replace(BLIP_VQA, name="blip-vqa-cross-modal", flags=BLIP_VQA.flags | CROSS_MODAL),
    BLIP_RETRIEVAL,
    replace(BLIP_RETRIEVAL, name="blip-retrieval-cross-modal", flags=CROSS_MODAL),
    Family("blip-2-vision", "blip_2", hf("Blip2VisionModel", "Blip2VisionConfig")),
    Family("blip-2-retrieval", "blip_2", _blip_2("Blip2VisionModelWithProjection")),
    BLIP_2,
    replace(BLIP_2, name="blip-2-cross-modal", flags=CROSS_MODAL),
    Family("instructblip-vision", "blip_2", hf("InstructBlipVisionModel", "InstructBlipVisionConfig")),
    INSTRUCTBLIP,
    Family("instructblipvideo-vision", "blip_2", hf("InstructBlipVideoVisionModel", "InstructBlipVideoVisionConfig")),
    Family(
        "owlvit",
        "owlvit",
        composite("OwlViTForObjectDetection", "OwlViTConfig", projection_dim=48),
        _detections,
        BOTH,
    ),
    Family("owlvit-vision", "owlvit", hf("OwlViTVisionModel", "OwlViTVisionConfig")),
    Family(
        "owlv2",
        "owlvit",
        composite("Owlv2ForObjectDetection", "Owlv2Config", projection_dim=48),
        _detections,
        BOTH,
    ),
    Family("clipseg-vision", "clipseg", hf("CLIPSegVisionModel", "CLIPSegVisionConfig")),
    Family(
        "clipseg",
        "clipseg",
        composite("CLIPSegForImageSegmentation", "CLIPSegConfig", extract_layers=[3], **DENSE),
        arguments=BOTH,
    ),
    Family(
        "clipseg-inner-layers",
        "clipseg",
        composite("CLIPSegForImageSegmentation", "CLIPSegConfig", extract_layers=[1, 2, 3], **DENSE),
        arguments=BOTH,
    ),
    Family("llava", "llava", _llava(-2), arguments=PROMPT),
    Family("llava-last-layer", "llava", _llava(-1), arguments=PROMPT),
    Family("llava-several-layers", "llava", _llava([-1, 2]), arguments=PROMPT),
    Family(
        "llava-siglip",
        "llava",
        _llava(-2, model_type="siglip_vision_model"),
        arguments=PROMPT,
        **PATCHES_ONLY,
    ),
    Family("vip-llava", "llava", _llava([-2, -3], "VipLlava"), arguments=PROMPT),
    Family("llava-next", "llava", _llava(-2, "LlavaNext"), arguments=CROPPED, flags=SEVERAL_CROPS),
    Family(
        "llava-onevision",
        "llava",
        _llava(-1, "LlavaOnevision", model_type="siglip_vision_model"),
        arguments=CROPPED,
        flags=SEVERAL_CROPS,
        **PATCHES_ONLY,
    ),
]
