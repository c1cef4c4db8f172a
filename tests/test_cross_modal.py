"""Text models that attend to an image's tokens: these count as the patches they stand for, and may merge there too."""

from __future__ import annotations

import copy
import gc
import math
import threading
import warnings

import pytest
import torch
from families import family

import turbo
from turbo.engine.install import find_acceleration
from turbo.fusion import S1

GENERATE = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def _model(name, **options):
    model = family(name).model()
    return turbo.accelerate(model, drop=5, **options) if options.pop("accelerated", True) else model


def _images(batch=2):
    return family("blip-vqa").inputs(batch)


def _spread(model, states):
    """What the tower would have handed over with each token as often as it counts, and the same for all rows."""
    size = find_acceleration(model).readings.size_of(states).long()
    return torch.stack([row.repeat_interleave(often, dim=0) for row, often in zip(states, size, strict=True)])


@torch.no_grad()
def test_a_decoder_reads_merged_tokens_as_their_patches():
    """The reference is the untouched decoder on every token as often as it counts."""
    model, inputs = _model("blip-captioner"), _images()
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    merged = model.text_decoder(inputs["input_ids"], encoder_hidden_states=states).logits
    spread = _spread(model, states)
    assert spread.shape[1] == 37 > states.shape[1]
    turbo.restore(model)
    torch.testing.assert_close(merged, model.text_decoder(inputs["input_ids"], encoder_hidden_states=spread).logits)
    plain = model.text_decoder(inputs["input_ids"], encoder_hidden_states=states).logits
    assert (plain - merged).abs().max() > 0.01


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize("use_cache", [True, False])
@torch.no_grad()
def test_generation_with_cache_and_beams(options, use_cache):
    model, inputs = _model("blip-captioner"), _images(3)
    options = GENERATE | options | {"use_cache": use_cache, "output_scores": True, "return_dict_in_generate": True}
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    ids = inputs["input_ids"][:, :1]

    def scores(states):
        found = model.text_decoder.generate(input_ids=ids, encoder_hidden_states=states, **options)
        return found.sequences, torch.stack(found.scores)

    fast, spread = scores(states), _spread(model, states)
    turbo.restore(model)
    reference, plain = scores(spread), scores(states)
    assert torch.equal(fast[0], reference[0])
    torch.testing.assert_close(fast[1], reference[1])
    assert not torch.allclose(plain[1][0], fast[1][0], atol=0.01)


@torch.no_grad()
def test_whole_generate_is_the_sum_of_its_parts():
    model, inputs = _model("blip-captioner"), _images()
    with warnings.catch_warnings():
        warnings.simplefilter("error", turbo.TurboWarning)
        found = model.generate(inputs["pixel_values"], num_beams=2, **GENERATE)
    assert found.shape[0] == 2


@torch.no_grad()
def test_drop_0_generates_as_the_untouched_model():
    model, inputs = family("blip-captioner").model(), _images()
    untouched = model.generate(inputs["pixel_values"], num_beams=2, **GENERATE)
    turbo.accelerate(model, drop=0)
    assert torch.equal(model.generate(inputs["pixel_values"], num_beams=2, **GENERATE), untouched)


ROWS = {
    "some rows": lambda states: states[[1, 0, 1]],
    "repeated": lambda states: states.repeat_interleave(2, dim=0),
    "expanded": lambda states: states[:1].expand(3, -1, -1),
    "cloned": lambda states: states.clone(),
    "cast": lambda states: states.double(),
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
@torch.no_grad()
def test_rows_of_the_towers_output_are_known_wherever_they_went(change):
    model = _model("blip-vqa")
    states = model.vision_model(_images()["pixel_values"]).last_hidden_state
    readings = find_acceleration(model).readings
    size = readings.size_of(states)
    index = torch.arange(2.0)[:, None, None].expand_as(states)
    wanted = size[change(index)[:, 0, 0].long()]
    assert not torch.equal(size[0], size[1])
    assert torch.equal(readings.size_of(change(states)), wanted)


@torch.no_grad()
def test_rows_of_several_outputs_are_known_together():
    model = _model("blip-vqa")
    first, second = (model.vision_model(_images()["pixel_values"] + shift).last_hidden_state for shift in (0, 1))
    readings = find_acceleration(model).readings
    both = readings.size_of(torch.cat([first, second]))
    assert torch.equal(both, torch.cat([readings.size_of(first), readings.size_of(second)]))


@torch.no_grad()
def test_image_tokens_from_elsewhere_are_warned_about_and_count_once():
    model, inputs = _model("blip-retrieval"), _images()
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    strange = torch.cat([states[:1], states[1:] + 1])
    with pytest.warns(turbo.TurboWarning, match="1 of 2 rows of image tokens"):
        size = find_acceleration(model).readings.size_of(strange)
    assert size[0].sum() == 37
    assert torch.equal(size[1], torch.ones(states.shape[1]))
    with warnings.catch_warnings():  # asked about once, and not where the tower merges nothing
        warnings.simplefilter("error", turbo.TurboWarning)
        assert find_acceleration(model).readings.size_of(strange) is size
        turbo.accelerate(model, drop=0)
        assert find_acceleration(model).readings.size_of(states + 1) is None


@torch.no_grad()
def test_sizes_are_forgotten_with_the_tokens():
    model = _model("blip-vqa")
    states = model.vision_model(_images()["pixel_values"]).last_hidden_state
    readings = find_acceleration(model).readings
    assert len(readings.outputs.all()) == 1
    del states
    gc.collect()
    assert readings.outputs.all() == []


@torch.no_grad()
def test_rows_of_the_last_output_are_known_when_it_is_gone():
    model, inputs = _model("blip-vqa"), _images()
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    readings = find_acceleration(model).readings
    wanted = readings.size_of(states).repeat_interleave(2, dim=0)
    states = states.repeat_interleave(2, dim=0)
    assert torch.equal(readings.size_of(states), wanted)
    model.vision_model(inputs["pixel_values"] + 1)  # and rows of these, while they are there
    assert torch.equal(readings.size_of(states[1:3]), wanted[1:3])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_changes_in_place_are_seen(context):
    model = _model("blip-vqa")
    readings = find_acceleration(model).readings
    with context():
        outputs, sizes = [], []
        buffer = None
        for shift in (0, 1):
            outputs.append(model.vision_model(_images()["pixel_values"] + shift).last_hidden_state)
            sizes.append(readings.size_of(outputs[-1]).clone())
            buffer = torch.empty_like(outputs[-1]) if buffer is None else buffer
            buffer.copy_(outputs[-1])
            assert torch.equal(readings.size_of(buffer), sizes[-1])
        assert not torch.equal(*sizes)


@torch.no_grad()
def test_no_warning_where_nothing_has_merged():
    model, inputs = family("blip-captioner").model(), _images()
    with pytest.warns(turbo.TurboWarning, match="threshold"):
        turbo.accelerate(model, drop=5, threshold=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", turbo.TurboWarning)
        model.generate(inputs["pixel_values"], num_beams=2, **GENERATE)


@pytest.mark.parametrize("images", [1, 4])
@torch.no_grad()
def test_several_texts_for_one_image_and_several_images_for_one_text(images):
    """Each as if it came alone."""
    model, inputs = family("blip-retrieval").model(), _images(4)
    turbo.accelerate(model, drop=5, cross_modal=0.25)
    states = model.vision_model(inputs["pixel_values"][:images]).last_hidden_state
    texts = inputs["input_ids"][: 5 - images]
    found = model.text_encoder(texts, encoder_hidden_states=states).last_hidden_state
    for row in range(4):
        one = model.text_encoder(texts[row % len(texts)][None], encoder_hidden_states=states[row % images][None])
        torch.testing.assert_close(found[row : row + 1], one.last_hidden_state)


@torch.no_grad()
def test_a_compiled_text_model_knows_rows_of_the_last_output():
    model, inputs = _model("blip-retrieval"), _images()
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state.repeat_interleave(2, dim=0)
    texts = inputs["input_ids"].repeat_interleave(2, dim=0)
    wanted = model.text_encoder(texts, encoder_hidden_states=states).last_hidden_state
    torch._dynamo.reset()
    text = torch.compile(model.text_encoder, backend="eager")
    torch.testing.assert_close(text(texts, encoder_hidden_states=states).last_hidden_state, wanted)
    tower = torch.compile(model.vision_model, backend="eager")
    states = tower(inputs["pixel_values"]).last_hidden_state.repeat_interleave(2, dim=0)
    torch.testing.assert_close(text(texts, encoder_hidden_states=states).last_hidden_state, wanted)


def test_reentrant_checkpointing_of_the_tower():
    model, inputs = family("blip-captioner").model().train(), _images()
    turbo.accelerate(model, drop=5)
    labels = {"input_ids": inputs["input_ids"], "labels": inputs["input_ids"]}

    def gradients():
        model.zero_grad()
        model(pixel_values=inputs["pixel_values"].requires_grad_(), **labels).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    model.activation_checkpointing_enable({"use_reentrant": True})
    torch.testing.assert_close(gradients(), plain)


@torch.no_grad()
def test_only_the_vision_tower():
    """Accelerated alone, it leaves the text model as it is: each image token counts once."""
    model, inputs = family("blip-captioner").model(), _images()
    turbo.accelerate(model.vision_model, drop=5)
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    found = model.text_decoder(inputs["input_ids"], encoder_hidden_states=states).logits
    turbo.restore(model)
    assert torch.equal(found, model.text_decoder(inputs["input_ids"], encoder_hidden_states=states).logits)


def _key_lengths(model):
    lengths = []
    for layer in model.text_encoder.encoder.layer:
        layer.crossattention.self.key.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    return lengths


@torch.no_grad()
def test_image_tokens_merge_between_text_layers():
    model, inputs = family("blip-vqa").model(), _images()
    turbo.accelerate(model, drop=5, cross_modal=0.25)
    lengths = _key_lengths(model)
    model.generate(**{name: inputs[name] for name in ("pixel_values", "input_ids")}, **GENERATE)
    assert lengths == [17, 13]
    assert turbo.report(model).read == (17, 13)
    assert "text layers attend to 17, 13 image tokens" in str(turbo.report(model))


@torch.no_grad()
def test_a_is_the_attention_of_the_texts_class_token():
    """Computed here from the weights, of the layer after which tokens merge; sizes count."""
    seen = []

    def spy(candidates):
        seen.append(candidates)
        return S1()(candidates)

    model, inputs = family("blip-retrieval").model(), _images()
    turbo.accelerate(model, spy, drop=[9, 0, 0, 0], cross_modal=0.25)
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    size = find_acceleration(model).readings.size_of(states)
    seen.clear()
    layer = model.text_encoder.encoder.layer[0].crossattention.self
    texts = []
    layer.register_forward_pre_hook(lambda _, args, kwargs: texts.append(args[0]), with_kwargs=True)
    model.text_encoder(inputs["input_ids"], encoder_hidden_states=states)
    [candidates] = seen
    q, k = (linear(x).unflatten(-1, (3, 16)) for linear, x in ((layer.query, texts[0][:, 0]), (layer.key, states)))
    score = torch.einsum("bhe,bnhe->bhn", q, k) / 4 + size.log()[:, None]
    value = score.softmax(-1).mean(1) * states.shape[1]
    torch.testing.assert_close(candidates.value, value[:, 2::2])  # parity: every other one is a source
    assert torch.equal(candidates.size, size[:, 2::2])


@torch.no_grad()
def test_both_sides_together_are_one_after_the_other():
    """Sizes that the tower made go on growing: in the last layer they still add up to all patches."""
    model, inputs = family("blip-vqa").model(), _images()
    turbo.accelerate(model, drop=5, cross_modal=0.25)
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    readings, sizes = find_acceleration(model).readings, []
    leave = readings.leave
    readings.leave = lambda reading: (sizes.append(reading.size), leave(reading))
    model.text_encoder(inputs["input_ids"], encoder_hidden_states=states)
    assert [size.shape[1] for size in sizes] == [13, 13]
    assert all(torch.equal(size.sum(1), torch.full((2,), 37.0)) for size in sizes)
    assert readings.state.reading is None


@torch.no_grad()
def test_threads_and_copies_do_not_mix():
    model, inputs = family("blip-vqa").model(), _images()
    turbo.accelerate(model, drop=5, cross_modal=0.25)
    arguments = {name: inputs[name] for name in ("pixel_values", "input_ids")}
    wanted = model.generate(**arguments, **GENERATE)
    found = {}
    twin = copy.deepcopy(model)

    def work(name, which):
        with torch.no_grad():
            found[name] = [which.generate(**arguments, **GENERATE) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(i, which)) for i, which in enumerate((model, model, twin))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, wanted) for many in found.values() for one in many)


@pytest.mark.parametrize("wrong", [-0.1, 0.6, math.nan, "half", True, None])
def test_shares_that_make_no_sense(wrong):
    with pytest.raises(turbo.TurboError, match="cross_modal="):
        turbo.accelerate(family("blip-vqa").model(), cross_modal=wrong)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip", "no text layers in CLIPVisionModel that attend"),
        ("blip-vision", "no text layers in BlipVisionModel"),
        ("blip-captioner", "writes token after token"),
    ],
)
def test_models_in_which_image_tokens_cannot_merge(name, message):
    model = family(name).model()
    with pytest.raises(turbo.TurboError, match=message):
        turbo.accelerate(model, cross_modal=0.2)
    assert find_acceleration(model) is None


def test_too_few_tokens_to_merge_are_warned_about():
    with pytest.warns(turbo.TurboWarning, match="cross_modal=0.01 merges no image token"):
        turbo.accelerate(family("blip-vqa").model(), drop=5, cross_modal=0.01)


@torch.no_grad()
def test_text_layers_by_themselves_are_refused():
    model, inputs = family("blip-vqa").model(), _images()
    turbo.accelerate(model, drop=5, cross_modal=0.25)
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    text = torch.randn(2, 7, 48)
    with pytest.raises(turbo.TurboError, match="cross-attention layer 1 ran without the layers before it"):
        model.text_encoder.encoder.layer[1](text, states)


def test_gradient_checkpointing_of_the_text_is_refused_where_tokens_merge():
    model, inputs = family("blip-vqa").model().train(), _images()
    turbo.accelerate(model, drop=5, cross_modal=0.25)
    model.activation_checkpointing_enable()
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state
    loss = model.text_encoder(inputs["input_ids"], encoder_hidden_states=states).last_hidden_state.sum()
    with pytest.raises(turbo.TurboError, match="gradient checkpointing"):
        loss.backward()


@torch.no_grad()
def test_a_mask_of_a_q_former_hides_tokens():
    """The reference is the untouched Q-Former on the tokens that are left, each as often as it counts."""
    model = family("blip-2-retrieval").model()
    turbo.accelerate(model, drop=5)
    states = model.vision_model(_images()["pixel_values"]).last_hidden_state
    mask = torch.ones(states.shape[:2], dtype=torch.long)
    mask[:, 9:] = 0
    query = model.query_tokens.expand(2, -1, -1)
    given = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
    found = model.qformer(query, **given).last_hidden_state
    size = find_acceleration(model).readings.size_of(states)[:, :9].long()
    turbo.restore(model)
    for row in range(2):
        left = states[row, :9].repeat_interleave(size[row], dim=0)[None]
        reference = model.qformer(query[:1], encoder_hidden_states=left).last_hidden_state
        torch.testing.assert_close(found[row : row + 1], reference)
    turbo.accelerate(model, drop=0, cross_modal=0.25)
    with pytest.raises(turbo.TurboError, match="encoder_attention_mask, which hides image tokens"):
        model.qformer(query, **given)
