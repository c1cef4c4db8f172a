"""diffusers' UNets and pipelines, accelerated: they draw, what users set on them is honoured, the rest is refused."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
import torch
from denoisers import inputs, unet
from tiny_pipelines import OTHER, PROMPT, draw, picture, pipeline

import turbo
from turbo.adapters.unet import UNet
from turbo.testing import AdapterCase
from turbo.testing.parts import watch_parts, watching_parts

CASE = AdapterCase("unet", unet, inputs, name="unet", restores=True)
ALL_PARTS = {"self_attention": 0.5, "cross_attention": 0.3, "feed_forward": 0.5}
EVERYWHERE: dict[str, Any] = {"ratio": ALL_PARTS, "max_downsample": 2}
TEXT_TO_IMAGE = "StableDiffusionPipeline"


def half() -> torch.Tensor:
    """A mask of the upper half."""
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., :24, :] = 1
    return mask


def nine_channels() -> Any:
    return unet(in_channels=9)


PIPELINES = [
    (TEXT_TO_IMAGE, None, {}),
    ("StableDiffusionImg2ImgPipeline", None, {"image": picture(), "strength": 0.7}),
    ("StableDiffusionInpaintPipeline", nine_channels, {"image": picture(), "mask_image": half()}),
    ("StableDiffusionXLPipeline", None, {}),
    ("StableDiffusionXLImg2ImgPipeline", None, {"image": picture(), "strength": 0.7}),
    ("StableDiffusionControlNetPipeline", None, {"image": picture()}),
]


@pytest.mark.parametrize(("name", "model", "given"), PIPELINES, ids=[name for name, *_ in PIPELINES])
def test_pipelines_draw(name, model, given):
    pipe = pipeline(name, model)
    untouched = draw(pipe, **given)
    assert turbo.accelerate(pipe) is pipe
    fast = draw(pipe, **given)
    assert fast.shape == untouched.shape
    assert fast.isfinite().all()
    assert not torch.equal(fast, untouched)
    assert torch.equal(draw(pipe, **given), fast)
    other = draw(turbo.accelerate(pipe, **EVERYWHERE), **given)
    assert not torch.equal(other, fast)
    assert torch.equal(draw(turbo.accelerate(pipe, ratio=0), **given), untouched)
    turbo.restore(pipe)
    assert torch.equal(draw(pipe, **given), untouched)


def test_a_controlnet_is_accelerated_by_itself():
    pipe = pipeline("StableDiffusionControlNetPipeline")
    untouched = draw(pipe, image=picture())
    turbo.accelerate(pipe.controlnet)
    one = draw(pipe, image=picture())
    turbo.accelerate(pipe)  # the UNet beside it
    both = draw(pipe, image=picture())
    assert not torch.equal(one, untouched)
    assert not torch.equal(both, one)
    turbo.restore(pipe.controlnet)
    turbo.restore(pipe)
    assert torch.equal(draw(pipe, image=picture()), untouched)


# What users set on a UNet


def lora(model: Any) -> None:
    """A LoRA on every projection of attention, far from its usual start at zero."""
    from peft import LoraConfig

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model.add_adapter(config)


@pytest.mark.parametrize("order", ["before", "after"])
def test_lora_is_honoured_by_parts_and_by_scores(order):
    plain = CASE.run(turbo.accelerate(CASE.make_model(), "tome", **EVERYWHERE))
    model = CASE.make_model()
    if order == "before":
        lora(model)
    turbo.accelerate(model, "tome", **EVERYWHERE)
    if order == "after":
        lora(model)
    beside = CASE.run(model)
    assert not torch.allclose(beside, plain, atol=1e-2)
    model.fuse_lora()
    torch.testing.assert_close(CASE.run(model), beside, atol=1e-4, rtol=1e-4)
    model.unfuse_lora()
    model.disable_lora()
    torch.testing.assert_close(CASE.run(model), plain, atol=1e-4, rtol=1e-4)


def slicing(model: Any) -> None:
    model.set_attention_slice("max")


def eager_processor(model: Any) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    model.set_attn_processor(AttnProcessor())


def fused_projections(model: Any) -> None:
    model.fuse_qkv_projections()


def channels_last(model: Any) -> None:
    model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("change", [slicing, eager_processor, fused_projections, channels_last])
@pytest.mark.parametrize("order", ["before", "after"])
def test_what_computes_the_same_gives_the_same(change, order):
    wanted = CASE.run(turbo.accelerate(CASE.make_model(), **EVERYWHERE))
    model = CASE.make_model()
    if order == "before":
        change(model)
    turbo.accelerate(model, **EVERYWHERE)
    if order == "after":
        change(model)
    torch.testing.assert_close(CASE.run(model), wanted, atol=1e-4, rtol=1e-4)
    turbo.restore(model)
    torch.testing.assert_close(CASE.run(model), CASE.run(CASE.make_model()), atol=1e-4, rtol=1e-4)


def test_freeu_works_beside_it():
    pipe = pipeline(TEXT_TO_IMAGE)
    turbo.accelerate(pipe)
    fast = draw(pipe)
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    both = draw(pipe)
    assert both.isfinite().all()
    pipe.disable_freeu()
    assert torch.equal(draw(pipe), fast)
    del both


def by_module(model: Any) -> None:
    """As enable_sequential_cpu_offload does, with the CPU for a device."""
    from accelerate import cpu_offload

    cpu_offload(model, torch.device("cpu"))


def as_a_whole(model: Any) -> None:
    """As enable_model_cpu_offload does."""
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(model, torch.device("cpu"))


@pytest.mark.parametrize("offload", [by_module, as_a_whole])
@pytest.mark.parametrize("order", ["before", "after"])
def test_offloaded_models(offload, order):
    wanted = CASE.run(turbo.accelerate(CASE.make_model(), **EVERYWHERE))
    model = CASE.make_model()
    if order == "before":
        offload(model)
    turbo.accelerate(model, **EVERYWHERE)
    if order == "after":
        offload(model)
    torch.testing.assert_close(CASE.run(model), wanted, atol=1e-5, rtol=1e-5)
    turbo.restore(model)
    assert torch.equal(CASE.run(model), CASE.run(CASE.make_model()))


def test_a_part_with_a_forward_of_another_library_is_refused_by_name():
    from accelerate.hooks import ModelHook, add_hook_to_module

    model = CASE.make_model()
    part = model.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    add_hook_to_module(part, ModelHook())
    with pytest.raises(turbo.TurboError, match=r"a Attention of this model has a forward of its own"):
        turbo.accelerate(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pipelines_in_half_precision(dtype):
    pipe = pipeline(TEXT_TO_IMAGE).to(dtype)
    untouched = draw(pipe)
    fast = draw(turbo.accelerate(pipe, **EVERYWHERE))
    assert fast.dtype == untouched.dtype == dtype
    assert fast.isfinite().all()
    assert not torch.equal(fast, untouched)


def test_autocast():
    model = CASE.make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        untouched = CASE.run(model)
        fast = CASE.run(turbo.accelerate(model, **EVERYWHERE))
        assert fast.dtype == untouched.dtype
        assert fast.isfinite().all()
        assert not torch.equal(fast, untouched)
        assert torch.equal(CASE.run(turbo.restore(model)), untouched)


# Many images


def test_images_of_a_batch_are_drawn_as_alone():
    pipe = turbo.accelerate(pipeline(TEXT_TO_IMAGE), **EVERYWHERE)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    both = pipe([PROMPT, OTHER], generator=seeds, num_inference_steps=3, height=48, width=48, output_type="pt").images
    alone = [draw(pipe, prompt, seed, guidance_scale=7.5) for prompt, seed in ((PROMPT, 0), (OTHER, 1))]
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (48, 24), (24, 64)])
def test_pipelines_draw_other_sizes(height, width):
    pipe = pipeline(TEXT_TO_IMAGE)
    size = {"height": height, "width": width}
    untouched, fast = draw(pipe, **size), draw(turbo.accelerate(pipe, **EVERYWHERE), **size)
    assert fast.shape == untouched.shape == (1, 3, height, width)
    assert not torch.equal(fast, untouched)


@pytest.mark.parametrize("second", [PROMPT, OTHER])
@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_an_image_does_not_depend_on_the_one_before(second, guidance):
    """Matchings are kept for three steps; the first image ends one step after they were made."""
    options = {"guidance_scale": guidance, "num_inference_steps": 4}
    pipe = turbo.accelerate(pipeline(TEXT_TO_IMAGE), **EVERYWHERE, refresh_every=3)
    draw(pipe, **options)
    found = draw(pipe, second, seed=1, **options)
    fresh = turbo.accelerate(pipeline(TEXT_TO_IMAGE), **EVERYWHERE, refresh_every=3)
    assert torch.equal(found, draw(fresh, second, seed=1, **options))
    every_step = turbo.accelerate(pipeline(TEXT_TO_IMAGE), **EVERYWHERE)
    assert not torch.equal(found, draw(every_step, second, seed=1, **options))


def test_a_ratio_is_asked_at_each_step_of_the_sampler():
    pipe, asked = pipeline(TEXT_TO_IMAGE), []

    def ratio(timestep: float) -> float:
        asked.append(timestep)
        return 0.5 if timestep > 400 else 0.0

    turbo.accelerate(pipe, ratio=ratio)
    draw(pipe)
    assert asked == [float(step) for step in pipe.scheduler.timesteps]


def test_threads_draw_in_different_sizes():
    model = turbo.accelerate(CASE.make_model(), **EVERYWHERE)
    given = [inputs(1, size=size) for size in (8, 12, 10)]
    wanted = [CASE.run(model, each) for each in given]
    found: list[Any] = [None] * 3
    start = threading.Barrier(3)

    def work(place: int) -> None:
        start.wait()
        for _ in range(3):
            found[place] = CASE.run(model, given[place])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


# What the text says


def assignments(**options: Any) -> list[tuple[str, torch.Tensor]]:
    model = turbo.accelerate(unet(), ratio=dict.fromkeys(ALL_PARTS, 0.5), **options)
    with turbo.recording(model) as trace:
        CASE.run(model, inputs(2))
    return [(part.part, part.assignment) for part in trace.parts[:3]]


def test_all_parts_share_one_matching_unless_the_text_asks():
    (_, own), (_, cross), (_, forward) = assignments()
    assert torch.equal(own, cross)
    assert torch.equal(own, forward)
    (_, own), (name, cross), (_, forward) = assignments(adapter=UNet(text_token=-1))
    assert torch.equal(own, forward)
    assert name == "cross_attention"
    assert not torch.equal(own, cross)
    assert not torch.equal(cross, assignments(adapter=UNet(text_token=2))[1][1])


def test_the_last_text_token_that_counts_asks():
    model = CASE.make_model()
    blocks = list(CASE.instance.sites(model))[1:]
    given = inputs(2)
    calls = watch_parts(CASE, model, given)
    text = next(call for call in calls if call.part == "cross_attention")
    hidden = text.named["encoder_hidden_states"]
    keys = blocks[0].module.attn2.to_k(hidden).unflatten(2, (blocks[0].heads, -1)).transpose(1, 2)
    torch.testing.assert_close(blocks[0].text_query(*text.rest, **text.named), keys[:, :, -1:])
    mask = torch.ones(2, 7)
    mask[0, 5:], mask[1, 3:] = 0, 0
    with watching_parts(blocks) as calls:
        CASE.run(model, given | {"encoder_attention_mask": mask})
    text = next(call for call in calls if call.part == "cross_attention")
    wanted = torch.stack([keys[0, :, 4:5], keys[1, :, 2:3]])
    torch.testing.assert_close(blocks[0].text_query(*text.rest, **text.named), wanted)


def test_texts_beside_an_ip_adapter():
    block = list(CASE.instance.sites(CASE.make_model()))[1]
    text, image = torch.randn(2, 7, 16), torch.randn(2, 4, 16)
    assert torch.equal(block.text_query((text, [image])), block.text_query(text))


def test_masked_texts_run():
    model = turbo.accelerate(CASE.make_model(), **EVERYWHERE)
    mask = torch.ones(2, 7)
    mask[:, 5:] = 0
    assert CASE.run(model, inputs(2) | {"encoder_attention_mask": mask}).isfinite().all()


# Refusals


def chunked() -> Any:
    model = unet()
    model.down_blocks[0].attentions[0].transformer_blocks[0].set_chunk_feed_forward(2, dim=1)
    return model


REFUSED = [
    (lambda: unet(attention_type="gated"), "GLIGEN"),
    (lambda: unet(only_cross_attention=True), "only_cross_attention=True"),
    (chunked, "chunked feed-forward"),
    (
        lambda: unet(
            down_block_types=("DownBlock2D", "DownBlock2D"),
            mid_block_type="UNetMidBlock2D",
            up_block_types=("UpBlock2D", "UpBlock2D"),
        ),
        "nothing would merge|no RoundTrip",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=["gated", "only-cross", "chunked", "no-attention"])
def test_variants_are_refused_by_name(make, message):
    model = make()
    before = set(vars(model))
    with pytest.raises(turbo.TurboError, match=message):
        turbo.accelerate(model)
    assert set(vars(model)) == before
    with pytest.warns(turbo.TurboWarning, match="not accelerated"):
        turbo.restore(model)


BLOCKS = [
    ({"norm_type": "ada_norm", "num_embeds_ada_norm": 10}, "norm_type='ada_norm'"),
    ({"norm_type": "ada_norm_zero", "num_embeds_ada_norm": 10}, "norm_type='ada_norm_zero'"),
    ({"norm_type": "ada_norm_single"}, "norm_type='ada_norm_single'"),
    ({"double_self_attention": True}, "double_self_attention=True"),
    ({"positional_embeddings": "sinusoidal", "num_positional_embeddings": 16}, "positional embeddings"),
]


@pytest.mark.parametrize(("options", "message"), BLOCKS, ids=[message for _, message in BLOCKS])
def test_blocks_of_other_models_are_refused_by_name(options, message):
    from diffusers.models.attention import BasicTransformerBlock

    from turbo.adapters.unet import UNetBlock

    block = BasicTransformerBlock(16, 2, 8, cross_attention_dim=16, **options)
    with pytest.raises(turbo.TurboError, match=message):
        UNetBlock(block, 1, -1)


CALLS = [
    ({"attention_mask": torch.ones(2, 144)}, "called with attention_mask"),
    ({"cross_attention_kwargs": {"ip_adapter_masks": [torch.ones(1, 1, 12, 12)]}}, "ip_adapter_masks"),
]


@pytest.mark.parametrize(("given", "message"), CALLS, ids=[next(iter(given)) for given, _ in CALLS])
def test_calls_that_name_single_tokens_are_refused(given, message):
    model = turbo.accelerate(CASE.make_model(), ratio=ALL_PARTS)
    with pytest.raises(turbo.TurboError, match=message):
        CASE.run(model, inputs(2) | given)


def test_a_text_mask_for_each_image_token_is_refused():
    """As a UNet of one resolution could be called with."""
    block = list(CASE.instance.sites(CASE.make_model()))[1]
    block.check_call("cross_attention", torch.zeros(2, 7, 16), attention_mask=torch.zeros(2, 1, 7))
    with pytest.raises(turbo.TurboError, match="of its own for each image token"):
        block.check_call("cross_attention", torch.zeros(2, 7, 16), attention_mask=torch.zeros(2, 144, 7))


def test_gradient_checkpointing_is_refused_by_name():
    model = CASE.make_model()
    model.enable_gradient_checkpointing()
    model.train()
    turbo.accelerate(model)
    with pytest.raises(turbo.TurboError, match="disable_gradient_checkpointing"):
        CASE.run(model, inputs(1), gradients=True).sum().backward()


def test_a_pipeline_without_a_unet_is_refused():
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    size = {"num_attention_heads": 2, "attention_head_dim": 4, "in_channels": 4, "num_layers": 1, "sample_size": 8}
    transformer = DiTTransformer2DModel(**size, norm_num_groups=2, num_embeds_ada_norm=10)
    pipe = DiTPipeline(transformer, None, DDIMScheduler())
    with pytest.raises(turbo.TurboError, match=r"a DiTPipeline has no unet; .*transformer \(DiTTransformer2DModel\)"):
        turbo.accelerate(pipe)


@pytest.mark.parametrize("option", [{"drop": 4}, {"speedup": 1.5}, {"threshold": 9}, {"min_tokens": 3}])
def test_options_of_towers_are_refused(option):
    [name] = option
    with pytest.raises(turbo.TurboError, match=f"{name}=.* cannot apply to a UNet2DConditionModel"):
        turbo.accelerate(CASE.make_model(), **option)


def test_tokens_are_compared_by_keys_or_by_themselves():
    from families import family

    keys = CASE.run(turbo.accelerate(CASE.make_model(), "tome", metric="keys"))
    assert not torch.equal(CASE.run(turbo.accelerate(CASE.make_model(), "tome", metric="hidden")), keys)
    with pytest.raises(turbo.TurboError, match="metric='queries': must be 'keys' or 'hidden'"):
        turbo.accelerate(CASE.make_model(), metric="queries")
    with pytest.raises(turbo.TurboError, match="metric='hidden': must be 'keys' or 'queries'"):
        turbo.accelerate(family("vit").model(), metric="hidden")


@pytest.mark.parametrize("option", [{"max_downsample": 1}, {"refresh_every": 2}, {"destinations": "grid"}, {"seed": 1}])
def test_options_of_denoisers_are_refused_for_towers(option):
    from families import family

    [name] = option
    with pytest.raises(turbo.TurboError, match=f"{name}=.* cannot apply to a ViTModel"):
        turbo.accelerate(family("vit").model(), **option)


def test_no_warning_in_normal_use():
    model = CASE.make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", turbo.TurboWarning)
        CASE.run(turbo.accelerate(model))
