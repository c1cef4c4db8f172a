"""How an accelerated model behaves under everything users do with models."""

from __future__ import annotations

import threading

import pytest
import torch
from families import family

import turbo
from turbo.engine.install import find_acceleration, require_acceleration
from turbo.engine.trace import recording

CLASSIFIER = family("vit-classifier")


def pixels(batch: int = 2, seed: int = 1, size: int = 48) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def logits(model, images: torch.Tensor, **options) -> torch.Tensor:
    with torch.no_grad():
        return model(images, **options).logits


def gradients(model, images: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    output = model(images)
    getattr(output, "logits", output).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_twice_is_once_with_the_newer_settings():
    model, images = CLASSIFIER.model(), pixels()
    turbo.accelerate(model, drop=6)
    twice = logits(turbo.accelerate(model, "ward", drop=3), images)
    once = logits(turbo.accelerate(CLASSIFIER.model(), "ward", drop=3), images)
    assert torch.equal(twice, once)
    turbo.restore(model)
    assert find_acceleration(model) is None


def test_without_a_name_the_strategy_is_ward_with_its_floor():
    images = pixels()
    named = logits(turbo.accelerate(CLASSIFIER.model(), turbo.fusion.Ward(floor=0.3), drop=6), images)
    for given in ((), (None,), ("ward",)):
        model = turbo.accelerate(CLASSIFIER.model(), *given, drop=6)
        assert turbo.report(model).strategy == "ward"
        assert torch.equal(logits(model, images), named)
    with turbo.accelerated(CLASSIFIER.model(), drop=6) as model:
        assert turbo.report(model).strategy == "ward"
        assert torch.equal(logits(model, images), named)
    for other in (turbo.fusion.Ward(floor=0), "s1"):
        assert not torch.equal(logits(turbo.accelerate(CLASSIFIER.model(), other, drop=6), images), named)


def test_accelerated_puts_back_what_was_before():
    model, images = CLASSIFIER.model(), pixels()
    untouched = logits(model, images)
    with turbo.accelerated(model, "tome", drop=3) as same:
        assert same is model
        outer = logits(model, images)
        with turbo.accelerated(model, drop=7):
            assert not torch.equal(logits(model, images), outer)
        assert torch.equal(logits(model, images), outer)
    assert torch.equal(logits(model, images), untouched)


def test_accelerated_restores_after_an_exception():
    model = CLASSIFIER.model()
    with pytest.raises(ZeroDivisionError), turbo.accelerated(model, drop=3):
        raise ZeroDivisionError
    assert find_acceleration(model) is None


def test_restore_without_acceleration_warns():
    with pytest.warns(turbo.TurboWarning, match="nothing to restore"):
        turbo.restore(CLASSIFIER.model())


def test_keyword_calls_are_positional_calls():
    model, images = turbo.accelerate(CLASSIFIER.model(), drop=4), pixels()
    assert torch.equal(logits(model, images), model(pixel_values=images).logits)
    block = require_acceleration(model).blocks[0].module
    x = torch.randn(2, 37, 48)
    with torch.no_grad():
        assert torch.equal(block(x), block(hidden_states=x))


def test_other_input_sizes_need_no_new_call():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    logits(model, pixels())
    assert turbo.report(model).n == 37
    logits(model, pixels(size=64), interpolate_pos_encoding=True)
    assert turbo.report(model).n == 65
    assert turbo.report(model).blocks[-1].tokens_out == 65 - 4 * 4


def test_hidden_states_shrink_block_by_block():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    states = model(pixels(), output_hidden_states=True).hidden_states
    assert [state.shape[1] for state in states] == [37, 33, 29, 25, 21]


def test_attention_maps_are_refused():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    with pytest.raises(turbo.TurboError, match="output_attentions = True.*restore"):
        model(pixels(), output_attentions=True)
    turbo.restore(model)
    model.set_attn_implementation("eager")
    assert len(model(pixels(), output_attentions=True).attentions) == 4


def test_masks_are_refused():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    mask = torch.ones(2, 37, dtype=torch.long)
    mask[:, -5:] = 0
    with pytest.raises(turbo.TurboError, match="masks and attention maps refer to single patches"):
        model(pixels(), attention_mask=mask)


def test_an_exception_mid_forward_poisons_nothing():
    model, images = turbo.accelerate(CLASSIFIER.model(), drop=4), pixels()
    wanted = logits(model, images)
    last = model.vit.layers[2].mlp
    last.forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        logits(model, images)
    del last.forward
    assert torch.equal(logits(model, images), wanted)


def test_a_block_by_itself_is_an_error():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    logits(model, pixels())
    with pytest.raises(turbo.TurboError, match="block 2 of ViTModel ran without the blocks before it"):
        model.vit.layers[2](torch.randn(1, 37, 48))


def test_threads_share_a_model():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    batches = [pixels(batch=1 + i % 3, seed=i) for i in range(8)]
    wanted = [logits(model, images) for images in batches]
    wrong: set[int] = set()
    start = threading.Barrier(4)

    def work(offset: int) -> None:
        start.wait()
        for _ in range(5):
            mine = range(offset, len(batches), 4)
            wrong.update(i for i in mine if not torch.equal(logits(model, batches[i]), wanted[i]))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("reentrant", [False, True])
def test_transformers_checkpointing_gives_the_same_gradients(reentrant: bool):
    model, images = turbo.accelerate(CLASSIFIER.model(), drop=4).train(), pixels()
    wanted = gradients(model, images)
    calls = []
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.vit.layers[1].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    found = gradients(model, images)
    assert len(calls) == 2  # once forward, once again in the backward pass
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)


def test_timm_checkpointing_gives_the_same_gradients():
    family_ = family("timm-no-class-avg")
    model, images = turbo.accelerate(family_.model(), drop=4).train(), pixels()
    wanted = gradients(model, images)
    model.set_grad_checkpointing(True)
    # Two forward passes before either backward pass: each must find its own sizes again.
    model.zero_grad()
    first, second = model(images).square().sum(), model(pixels(seed=9)).square().sum()
    second.backward()
    model.zero_grad()
    first.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-5, rtol=1e-4)


def test_reentrant_checkpointing_from_outside_is_refused():
    model = turbo.accelerate(family("timm").model(), drop=4).train()
    blocks = model.blocks
    x = torch.randn(2, 37, 48, requires_grad=True)
    for block in blocks:
        x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=True)
    with pytest.raises(turbo.TurboError, match="use_reentrant=False"):
        x.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_sizes_and_choices(dtype: torch.dtype):
    model, images = turbo.accelerate(CLASSIFIER.model(), drop=4), pixels()
    wanted = logits(model, images)
    with torch.autocast("cpu", dtype=dtype), recording(model) as trace:
        found = logits(model, images)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, atol=0.1, rtol=0.1)
    for block in trace.blocks:
        assert block.size.dtype == block.priority.dtype == torch.float32


def test_queries_are_another_metric():
    model, images = CLASSIFIER.model(), pixels()
    keys = logits(turbo.accelerate(model, drop=6), images)
    assert not torch.equal(logits(turbo.accelerate(model, drop=6, metric="queries"), images), keys)


def test_units_of_semantic_value():
    """Relative values are probabilities times n; S1 with alpha·n in probability units is S1 with alpha."""
    model, images = CLASSIFIER.model(), pixels()
    with recording(turbo.accelerate(model, "s1", drop=6)) as relative:
        logits(model, images)
    with recording(turbo.accelerate(model, "s1", drop=6, semantic_units="probability")) as probability:
        logits(model, images)
    first = relative.blocks[0].candidates.value, probability.blocks[0].candidates.value
    torch.testing.assert_close(first[0], first[1] * 37)


def test_only_the_given_block_counts_merge():
    model = turbo.accelerate(CLASSIFIER.model(), drop=[0, 5, 0, 2])
    with recording(model) as trace:
        logits(model, pixels())
    assert [(b.depth, b.size.shape[1]) for b in trace.blocks] == [(1, 32), (3, 30)]


def test_a_per_block_list_runs_upstream_until_the_first_merge():
    model, images = CLASSIFIER.model(), pixels()
    untouched = model(images, output_hidden_states=True).hidden_states
    turbo.accelerate(model, drop=[0, 0, 3, 0])
    states = model(images, output_hidden_states=True).hidden_states
    assert all(torch.equal(a, b) for a, b in zip(states[:3], untouched[:3], strict=True))


def test_recording_is_off_outside_its_block():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    with recording(model) as trace:
        logits(model, pixels())
    logits(model, pixels())
    assert len(trace.blocks) == 4
    groups = trace.groups()
    assert groups.shape == (2, 37)
    assert groups.max() == 37 - 16 - 1
    counted = torch.stack([row.bincount(minlength=21) for row in groups]).float()
    assert torch.equal(counted, trace.blocks[-1].size)
    assert torch.equal(trace.groups(upto=0), trace.blocks[0].assignment)


def test_recording_needs_an_accelerated_model():
    with pytest.raises(turbo.TurboError, match="not accelerated"), recording(CLASSIFIER.model()):
        pass


def test_average_pool_counts_every_patch_once():
    """A model that averages patches reads each merged token once per patch it stands for."""
    family_ = family("timm-no-class-avg")
    model = turbo.accelerate(family_.model(), drop=6)
    with torch.no_grad(), recording(model) as trace:
        features = model.forward_features(pixels())
    size = trace.blocks[-1].size
    assert features.shape == (2, 36, 48)
    merged = torch.zeros(2, size.shape[1], 48).scatter(1, trace.groups()[..., None].expand(-1, -1, 48), features)
    weighted = (merged * size[..., None]).sum(1) / size.sum(1, keepdim=True)
    torch.testing.assert_close(features.mean(1), weighted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["timm", "open-clip-tower"])
def test_grids_of_intermediate_tokens_are_refused(name: str):
    model, options = family(name).model(), {"intermediates_only": True}
    wanted = model.forward_intermediates(pixels(), **options)
    turbo.accelerate(model, drop=4)
    with pytest.raises(turbo.TurboError, match="forward_intermediates does not work on merged tokens"):
        model.forward_intermediates(pixels(), **options)
    turbo.accelerate(model, drop=0)
    off = model.forward_intermediates(pixels(), **options)
    turbo.restore(model)
    restored = model.forward_intermediates(pixels(), **options)
    for found in (off, restored):
        wanted_, found_ = (r["image_intermediates"] if isinstance(r, dict) else r for r in (wanted, found))
        assert all(torch.equal(a, b) for a, b in zip(wanted_, found_, strict=True))


def test_captions_are_generated_with_beams():
    captioner = family("blip-captioner")
    model, images = captioner.model(), pixels(batch=3)
    options = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False}
    untouched = model.generate(pixel_values=images, **options)
    turbo.accelerate(model, drop=6)
    fast = model.generate(pixel_values=images, **options)
    assert fast.shape[0] == 3
    assert require_acceleration(model).last_n == 37
    assert model.vision_model(images).last_hidden_state.shape[1] == 37 - 24
    turbo.accelerate(model, drop=0)
    assert torch.equal(model.generate(pixel_values=images, **options), untouched)


def test_question_answering_generates():
    family_ = family("blip-vqa")
    model, inputs = turbo.accelerate(family_.model(), drop=6), family_.inputs()
    answers = model.generate(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"], max_new_tokens=4)
    assert answers.shape[0] == 2


def test_text_towers_are_untouched():
    for name in ("clip", "open-clip", "blip"):  # but for BLIP's cross-attention, which reads merged tokens
        model = turbo.accelerate(family(name).model(), drop=4)
        touched = {path for path, module in model.named_modules() if "forward" in module.__dict__}
        assert touched
        assert all("vis" in path or path.endswith("crossattention.self") for path in touched)


def test_new_settings_recompile():
    family_ = family("vit")
    model, images = family_.model(), pixels()
    turbo.accelerate(model, drop=4)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images).pooler_output, model(images).pooler_output, atol=1e-4, rtol=1e-4)
        turbo.accelerate(model, drop=7)
        torch.testing.assert_close(compiled(images).pooler_output, model(images).pooler_output, atol=1e-4, rtol=1e-4)


def with_dropout(name: str):
    """A model with attention dropout 0.25, built as its library builds it."""
    from families_open_clip import open_clip_tower as _open_clip_tower
    from families_timm import timm as _timm
    from transformers_models import hf as _hf

    build = {
        "vit": _hf("ViTModel", "ViTConfig", attention_probs_dropout_prob=0.25),
        "dinov2": _hf("Dinov2Model", "Dinov2Config", attention_probs_dropout_prob=0.25),
        "clip": _hf("CLIPVisionModel", "CLIPVisionConfig", attention_dropout=0.25),
        "blip": _hf("BlipVisionModel", "BlipVisionConfig", attention_dropout=0.25, initializer_range=0.02),
        "timm": _timm(attn_drop_rate=0.25),
        "open_clip": _open_clip_tower(),
        "open_clip custom": _open_clip_tower(qk_norm=True),
    }[name]
    model = build()
    if name == "open_clip":
        for block in model.transformer.resblocks:
            block.attn.dropout = 0.25
    if name == "open_clip custom":
        for block in model.transformer.resblocks:
            block.attn.attn_drop.p = 0.25
    return model


@pytest.mark.parametrize("name", ["vit", "dinov2", "clip", "blip", "timm", "open_clip", "open_clip custom"])
def test_attention_dropout_acts_in_training_only(name: str):
    model, images = turbo.accelerate(with_dropout(name), drop=4), pixels()
    assert {block.dropout() for block in require_acceleration(model).blocks} == {0.25}

    def output() -> torch.Tensor:
        result = model(images)
        return getattr(result, "last_hidden_state", result)

    model.eval()
    assert torch.equal(output(), output())
    model.train()
    assert not torch.equal(output(), output())
    torch.manual_seed(3)
    first = output()
    torch.manual_seed(3)
    assert torch.equal(output(), first)


def test_a_restored_output_must_be_a_tensor():
    from turbo.adapters import Restore
    from turbo.adapters.clip import CLIP

    class Wrong(CLIP):
        def sites(self, model):
            return [*super().sites(model), Restore(model.encoder)]  # returns a BaseModelOutput

    model = turbo.accelerate(family("clip-vision").model(), drop=4, adapter=Wrong())
    with pytest.raises(turbo.TurboError, match="CLIPEncoder returned BaseModelOutput: the adapter Wrong asked for"):
        model(pixels())


def test_a_restored_output_must_be_tokens():
    from turbo.adapters import Restore
    from turbo.adapters.clip import CLIP

    class Wrong(CLIP):
        def sites(self, model):
            return [*super().sites(model), Restore(model.post_layernorm)]  # runs on the class token alone

    model = turbo.accelerate(family("clip-vision").model(), drop=4, adapter=Wrong())
    with pytest.raises(turbo.TurboError, match=r"LayerNorm returned shape \(\d, \d+\): .* Restore the last module"):
        model(pixels())


def test_shorter_passes_leave_the_next_one_alone():
    """An adapter's last blocks may not run (an early exit): the next pass starts afresh all the same."""
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    wanted = logits(model, pixels())
    x = torch.randn(2, 37, 48)
    for block in model.vit.layers[:2]:
        x = block(x)
    assert x.shape[1] == 37 - 8
    assert torch.equal(logits(model, pixels()), wanted)
