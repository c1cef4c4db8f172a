"""What the support matrix is made of: columns, which are checks of the conformance kit, and rows, which are cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MERGING, RUNNING = "merging", "running"


@dataclass(frozen=True)
class Capability:
    """A column: its title, what it asks, the table that it is in, and the checks that answer."""

    title: str
    asks: str
    part: str
    checks: tuple[str, ...]


CAPABILITIES = (
    Capability(
        "all tokens back",
        "what reads every patch gets the full sequence, each token in its place",
        MERGING,
        ("check_restored_outputs_have_every_token", "check_outputs_are_restored_in_place"),
    ),
    Capability(
        "text reads sizes",
        "text layers that attend to the image count a merged token as its patches",
        MERGING,
        ("check_readers_are_the_layers", "check_sizes_are_handed_over"),
    ),
    Capability(
        "cross-modal",
        "image tokens merge between text layers as well, on request (`cross_modal=`)",
        MERGING,
        ("check_merged_image_tokens_change_nothing",),
    ),
    Capability(
        "any latents",
        "odd and non-square latents run after one call of `accelerate`",
        MERGING,
        ("check_other_latent_sizes",),
    ),
    Capability(
        "steps, guidance",
        "the ratio may follow the timestep, a seed gives the same image, both halves of a guided batch merge alike",
        MERGING,
        (
            "check_ratio_may_follow_the_timestep",
            "check_same_seed_gives_the_same",
            "check_halves_of_a_guided_batch_merge_alike",
            "check_kept_matchings_are_renewed",
        ),
    ),
    Capability(
        "described",
        "`accelerate(model)` finds the tower by itself, and the adapter computes what the library's blocks compute",
        MERGING,
        (
            "check_description_is_usable",
            "check_supports_is_specific",
            "check_is_found_by_itself",
            "check_import_is_light",
            "check_shape_is_what_arrives",
            "check_maps_are_the_block",
            "check_every_block_is_listed",
            "check_blocks_follow_each_other",
            "check_merged_places_are_means",
            "check_denoiser_surrounds_the_blocks",
            "check_parts_are_called_by_the_block",
            "check_downsample_is_the_grids",
            "check_attention_is_as_described",
        ),
    ),
    Capability(
        "exact at 0",
        "the output is the untouched one where nothing merges; with `drop=0` or `ratio=0` bit for bit",
        MERGING,
        ("check_noop_is_exact", "check_nothing_to_merge_is_exact"),
    ),
    Capability(
        "as planned",
        "as many tokens merge as asked for and reported; class, register and distillation tokens never do",
        MERGING,
        (
            "check_token_counts_follow_schedule",
            "check_prefix_tokens_are_protected",
            "check_protected_tokens_survive",
            "check_sizes_are_conserved",
            "check_parts_run_on_fewer_tokens",
            "check_ratio_bounds",
        ),
    ),
    Capability(
        "sizes count",
        "a merged token is attended to as its patches are: merging exact copies changes nothing",
        MERGING,
        ("check_merged_duplicates_change_nothing", "check_sizes_weigh_in_self_attention"),
    ),
    Capability(
        "any strategy",
        "every registered strategy runs",
        MERGING,
        ("check_every_strategy_runs",),
    ),
    Capability(
        "half precision",
        "float16 and bfloat16 keep their type; `.to(device)` works",
        RUNNING,
        ("check_half_precision_keeps_its_type", "check_device_is_kept"),
    ),
    Capability("compile", "`torch.compile(fullgraph=True)` makes one graph of it", RUNNING, ("check_compiles",)),
    Capability(
        "gradients", "every parameter that has a gradient untouched has one", RUNNING, ("check_gradients_flow",)
    ),
    Capability(
        "checkpointing",
        "gradient checkpointing, the library's own or from outside, gives the same gradients",
        RUNNING,
        ("check_checkpointed_blocks_give_the_same_gradients", "check_own_checkpointing_gives_the_same_gradients"),
    ),
    Capability(
        "copy, pickle", "a copy is accelerated, too, and shares nothing", RUNNING, ("check_deepcopy_and_pickle",)
    ),
    Capability("threads", "several threads share one model", RUNNING, ("check_threads_share_a_model",)),
    Capability(
        "any batch",
        "images give in a batch what they give alone, in batches of any size, by position and by keyword",
        RUNNING,
        ("check_batch_independence", "check_other_batch_sizes_need_no_new_call", "check_keyword_calls"),
    ),
    Capability(
        "restored",
        "`restore` leaves no trace, bit for bit; weights are never touched",
        RUNNING,
        ("check_restore_leaves_no_trace", "check_state_dict_is_untouched", "check_accelerate_is_idempotent"),
    ),
    Capability(
        "no side effects",
        "other models and later calls notice nothing, after an exception too; what cannot work is refused",
        RUNNING,
        (
            "check_two_models_do_not_interfere",
            "check_exception_poisons_nothing",
            "check_refused_methods_refuse",
            "check_blocks_outside_the_denoiser_are_refused",
        ),
    ),
)

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "CLIP": ("clip-vision", "clip", "clip-vision-projection", "clip-classifier"),
    "SigLIP": ("siglip-vision", "siglip-without-head", "siglip", "siglip-classifier"),
    "SigLIP 2": ("siglip-2-vision", "siglip-2-classifier"),
    "BLIP": (
        "blip-vision",
        "blip",
        "blip-captioner",
        "blip-vqa",
        "blip-vqa-cross-modal",
        "blip-retrieval",
        "blip-retrieval-cross-modal",
    ),
    "BLIP-2": ("blip-2-vision", "blip-2-retrieval", "blip-2", "blip-2-cross-modal"),
    "InstructBLIP": ("instructblip-vision", "instructblip", "instructblipvideo-vision"),
    "LLaVA, VipLLaVA": ("llava", "llava-last-layer", "llava-several-layers", "llava-siglip", "vip-llava"),
    "LLaVA-NeXT, OneVision": ("llava-next", "llava-onevision"),
    "OWL-ViT, OWLv2": ("owlvit", "owlvit-vision", "owlv2"),
    "CLIPSeg": ("clipseg-vision", "clipseg", "clipseg-inner-layers"),
    "ViT": ("vit", "vit-classifier", "vit-masked-image"),
    "DeiT": ("deit", "deit-teacher", "deit-masked-image"),
    "DINOv2": ("dinov2", "dinov2-swiglu-classifier", "dinov2-registers", "dinov2-registers-classifier"),
    "DINOv3": ("dinov3", "dinov3-gated"),
    "CLIP of open_clip": (
        "open-clip",
        "open-clip-tower",
        "open-clip-avg",
        "open-clip-attention-pool",
        "open-clip-custom",
    ),
    "CoCa of open_clip": ("open-clip-coca",),
    "ViT, DeiT of timm": (
        "timm",
        "timm-layer-scale",
        "timm-qk-norm",
        "timm-registers",
        "timm-no-class-avg",
        "timm-no-class-avgmax",
        "timm-attention-pool",
        "timm-class-avg",
        "timm-distilled",
    ),
    "EVA, EVA02 of timm": (
        "timm-eva",
        "timm-eva-separate",
        "timm-eva-no-class",
        "timm-eva-attention-pool",
        "timm-eva-rotary",
        "timm-eva02",
        "timm-eva-multimodal-positions",
    ),
    "DINOv3 of timm": ("timm-dinov3",),
    "Perception Encoder of timm": ("timm-perception-encoder",),
    "Stable Diffusion 1, 2": ("sd1", "sd2", "sd-inpaint"),
    "Stable Diffusion XL": ("sdxl", "sdxl-refiner"),
    "ControlNet": ("controlnet",),
}
"""Families as their users call them -> the tests' cases."""


def outcomes(row: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Check -> outcome and detail, of a row of the record."""
    found = dict.fromkeys(row["passed"], ("passed", ""))
    for outcome in ("failed", "expected failure", "unexpected pass", "not applicable", "not run"):
        found |= {check: (outcome, detail) for check, detail in row.get(outcome, {}).items()}
    return found
