"""Which task a model and data make, and each task against the model's own methods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_jobs import digits, inputs, job, model, outcome, scenes
from PIL import Image
from torch.nn import functional

import turbo
from turbo import zoo
from turbo.errors import TurboError
from turbo.evaluation import Captions, Labelled, load_data
from turbo.evaluation.run import evaluate
from turbo.evaluation.settings import UNTOUCHED
from turbo.evaluation.tasks.choice import find_task, make_job, tasks_of
from turbo.evaluation.tasks.embeddings import embed_images, embed_texts
from turbo.evaluation.tasks.inputs import Inputs, load_inputs
from turbo.evaluation.tasks.pixels import Pixels
from turbo.models import LoadedModel, load_model

# Which task


@pytest.mark.parametrize(
    ("name", "data", "asked", "task"),
    [
        ("blip-scenes", "scenes", None, "captioning"),
        ("blip-scenes", "coco:x", None, "captioning"),
        ("blip-vqa-scenes", "scenes:plain", None, "vqa"),
        ("blip-vqa-scenes", "vqav2:x", None, "vqa"),
        ("blip-itm-scenes", "scenes", None, "matching"),
        ("blip-itm-scenes", "coco:x", None, "retrieval"),
        ("clip-scenes", "scenes", None, "retrieval"),
        ("clip-scenes", "scenes", "classification", "classification"),
        ("clip-scenes", "flickr30k:x", None, "retrieval"),
        ("clip-scenes", "imagenet:x", None, "classification"),
        ("vit-digits", "digits", "classification", "classification"),
    ],
)
def test_the_model_and_the_data_make_the_task(name: str, data: str, asked: str | None, task: str):
    assert find_task(model(name), data, asked) == task


@pytest.mark.parametrize(
    ("name", "data", "asked", "message"),
    [
        (
            "vit-digits",
            "vqav2:x",
            None,
            "is for classification, and vqav2 for vqa: data for it: scenes, digits, imagen",
        ),
        (
            "blip-scenes",
            "scenes",
            "vqa",
            "vqa was asked for; zoo:blip-scenes .* for captioning.*choose --task captioni",
        ),
        ("clip-scenes", "nothing", None, "unknown data 'nothing': choose one of scenes, digits, coco"),
        ("clip-scenes", "scenes", "segmentation", "unknown task 'segmentation'"),
    ],
)
def test_a_pair_that_does_not_fit(name: str, data: str, asked: str | None, message: str):
    with pytest.raises(TurboError, match=message):
        find_task(model(name), data, asked)


def test_models_of_other_libraries():
    import timm
    from transformers import Dinov2Config, Dinov2Model

    assert tasks_of(timm.create_model("vit_tiny_patch16_224", num_classes=5)) == ("classification",)
    assert tasks_of(timm.create_model("vit_tiny_patch16_224", num_classes=0)) == ()
    bare = Dinov2Model(Dinov2Config(hidden_size=48, num_hidden_layers=1, num_attention_heads=3))
    with pytest.raises(TurboError, match="mine is a Dinov2Model, and there is no task for it; there is for: BlipFor"):
        find_task(LoadedModel("mine", bare, (8, 8), bare), "scenes")


# Inputs


@pytest.mark.parametrize("name", ["blip-scenes", "clip-scenes", "vit-digits"])
def test_pixels_are_the_zoos(name: str):
    arrays = (
        zoo.draw_scenes("test", 3, seed=4).images if name != "vit-digits" else zoo.digit_scenes("test", 3, seed=4)[0]
    )
    found = inputs(name).images([Image.fromarray(array) for array in arrays])
    assert torch.allclose(found, zoo.preprocess(arrays), atol=1e-5)


def test_texts_come_back():
    both = inputs("blip-scenes")
    made = both.texts(["a small red circle", "a big three"])
    assert made["attention_mask"].sum(1).tolist() == [6, 5]
    assert both.decode(made["input_ids"]) == ["a small red circle", "a big three"]


def test_a_long_text_is_cut_only_on_request():
    made = inputs("clip-scenes").texts(["a " * 40], cut=True)
    assert made["input_ids"].shape == (1, 32)
    assert inputs("clip-scenes").texts(["a " * 40])["input_ids"].shape == (1, 42)


def test_random_weights_get_made_up_inputs():
    from transformers import BlipConfig, BlipForConditionalGeneration, CLIPConfig, CLIPModel

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    blip = BlipForConditionalGeneration(
        BlipConfig(text_config=small, vision_config={**small, "image_size": 32, "patch_size": 16})
    )
    found = load_inputs(LoadedModel("random:blip-base-384", blip, (32, 32), blip.vision_model))
    assert found.images([Image.new("RGB", (7, 9), (255, 0, 0))])[0, :, 0, 0].tolist() == [1, -1, -1]
    made = found.texts(["A red cat", "a cat"])
    assert made["input_ids"][:, 0].tolist() == [30522, 30522]
    assert made["input_ids"][0, 4] == made["input_ids"][1, 3] == 102
    assert made["input_ids"][0, 1] == made["input_ids"][1, 1]
    assert made["attention_mask"].sum(1).tolist() == [5, 4]
    assert len(found.decode(made["input_ids"])[0].split()) == 3
    clip = CLIPModel(CLIPConfig(text_config=small, vision_config={**small, "image_size": 32, "patch_size": 16}))
    words = load_inputs(LoadedModel("random:clip-b32-224", clip, (32, 32), clip)).texts(["a " * 99], cut=True)
    assert words["input_ids"].shape == (1, 77)
    assert clip.get_text_features(**words).pooler_output.isfinite().all()


def test_timm_and_open_clip_have_their_own():
    timm_inputs = load_inputs(load_model("random:timm/vit_tiny_patch16_224"))
    assert timm_inputs.images([Image.new("RGB", (40, 30))] * 2).shape == (2, 3, 224, 224)
    assert timm_inputs.texts is None
    import open_clip

    visual = SimpleNamespace(preprocess_cfg=open_clip.transform.PreprocessCfg(size=32).__dict__)
    found = load_inputs(LoadedModel("random:open_clip/ViT-B-32", SimpleNamespace(visual=visual), (32, 32), print))
    assert found.images([Image.new("RGB", (40, 30))]).shape == (1, 3, 32, 32)
    assert found.texts(["a cat"], cut=False)["input_ids"].shape == (1, 77)


def test_a_model_without_a_processor(tmp_path: Path):
    zoo.load("vit-digits").save_pretrained(tmp_path / "mine")
    with pytest.raises(TurboError, match=r"has no processor that can be loaded here .*processor\.save_pretrained"):
        load_inputs(load_model(str(tmp_path / "mine")))


def test_pixels_are_made_once_where_they_fit(monkeypatch: pytest.MonkeyPatch):
    made = []

    def images(pictures):
        made.append(len(pictures))
        return torch.stack([torch.full((3, 2, 2), picture.width / 10) for picture in pictures])

    pictures = [Image.new("RGB", (width, 1)) for width in (10, 20, 30)]
    for kept, calls in ((1 << 30, [2, 1]), (0, [2, 3])):
        monkeypatch.setattr("turbo.evaluation.tasks.pixels.KEPT", kept)
        pixels = Pixels(pictures, Inputs(images), torch.nn.Linear(1, 1).bfloat16())
        made.clear()
        assert pixels.take([2, 0])[:, 0, 0, 0].tolist() == [3, 1]
        found = pixels.take([0, 1, 2])
        assert found[:, 0, 0, 0].tolist() == [1, 2, 3]
        assert found.dtype == torch.bfloat16
        assert made == calls


# Captioning


@pytest.mark.parametrize("accelerated", [False, True])
def test_captions_are_those_of_generate(accelerated: bool):
    blip, data = model("blip-scenes").model, scenes("captioning")
    if accelerated:
        with turbo.accelerated(blip, drop=20):
            found, own = outcome("captioning", batch=3), _own_captions(data)
    else:
        found, own = outcome("captioning", batch=3), _own_captions(data)
    assert found.predictions == own
    scores = [data.attributes(row, caption)["exact"] for row, caption in enumerate(own)]
    assert found.per_example["exact"] == scores
    assert found.metrics["exact"] == np.mean(scores)


def _own_captions(data: Captions) -> list[str]:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(zoo.folder("blip-scenes"))
    pixels = processor.image_processor(list(data.images), return_tensors="pt")["pixel_values"]
    ids = model("blip-scenes").model.generate(pixels, num_beams=3, max_length=32)
    return processor.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_the_likelihood_is_the_models_own_loss(monkeypatch):
    blip, data, both = model("blip-scenes").model, scenes("captioning"), inputs("blip-scenes")
    monkeypatch.setattr(blip.text_decoder, "label_smoothing", 0.0)  # which is for training
    found = outcome("captioning", batch=5, generate=False)
    assert found.predictions is None
    assert list(found.metrics) == ["nll"]
    for row in (0, 5):
        ids = both.texts([data.references[row][0]])["input_ids"]
        ids[:, 0] = blip.config.text_config.bos_token_id
        with torch.inference_mode():
            loss = blip(pixel_values=both.images([data.images[row]]), input_ids=ids, labels=ids).loss
        assert found.per_example["nll"][row] == pytest.approx(loss.item() * (ids.shape[1] - 1), rel=1e-3)


def test_a_prompt_is_given_and_not_judged():
    captioning = job("captioning", limit=2, prompt="a big", max_length=12, min_length=0)
    assert captioning.prompt.tolist()[0] == model("blip-scenes").model.config.text_config.bos_token_id
    with torch.inference_mode():
        found = captioning.outcome()
        bare = job("captioning", limit=2, max_length=12, min_length=0).outcome()
        call = captioning.call(2)()
    assert not any(text.startswith("a big") for text in found.predictions)
    written = inputs("blip-scenes").decode(call)
    assert written == [f"a big {text}".strip() for text in found.predictions]
    assert found.per_example["nll"] != bare.per_example["nll"]
    # Of "a big" + caption the caption alone is judged: as many labels as it has words, and the end.
    states = model("blip-scenes").model.vision_model(captioning.pixels.take([0])).last_hidden_state
    ids = inputs("blip-scenes").texts([f"a big {scenes('captioning', 2).references[0][0]}"])["input_ids"]
    ids[:, 0] = captioning.prompt[0]
    logits = model("blip-scenes").model.text_decoder(input_ids=ids, encoder_hidden_states=states).logits
    each = functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")
    assert found.per_example["nll"][0] == pytest.approx(each[2:].sum().item(), rel=1e-3)


def test_the_batch_changes_nothing():
    for task in ("captioning", "vqa", "matching", "retrieval"):
        one, other = outcome(task, batch=3), outcome(task, batch=8)
        assert one.predictions == other.predictions
        for metric, values in one.per_example.items():
            assert np.allclose(values, other.per_example[metric], atol=2e-3, equal_nan=True), (task, metric)


def test_a_text_that_is_too_long_for_the_model():
    data = Captions("long", scenes("captioning").images, (("a " * 40,),) * 8)
    with pytest.raises(
        TurboError, match="a text has 42 tokens, and this BlipForConditionalGeneration reads 32 at most"
    ):
        evaluate(model("blip-scenes"), [data], {"s1": {"drop": 10}}, task="captioning")


# Answers


def test_answers_are_those_of_generate_one_at_a_time():
    vqa, data, both = model("blip-vqa-scenes").model, scenes("vqa"), inputs("blip-vqa-scenes")
    lengths = {len(question.split()) for question in data.questions}
    assert len(lengths) > 1  # so that there is padding
    found = outcome("vqa", batch=8)
    for row, question in enumerate(data.questions):
        pixels = both.images([data.images[data.image_of[row]]])
        ids = vqa.generate(pixel_values=pixels, **both.texts([question]), num_beams=3, max_length=10, min_length=1)
        assert found.predictions[row] == both.decode(ids)[0], question


def test_answers_are_scored_overall_and_by_kind():
    data, found = scenes("vqa"), outcome("vqa")
    right = [float(given == people[0]) for given, people in zip(found.predictions, data.answers, strict=True)]
    assert found.per_example["accuracy"] == right
    for kind in set(data.kinds):
        mine = [each for each, its in zip(right, data.kinds, strict=True) if its == kind]
        assert found.metrics[f"accuracy_{kind}"] == pytest.approx(np.mean(mine))


def test_the_likelihood_of_an_answer_is_the_models_own_loss(monkeypatch):
    vqa, data, both = model("blip-vqa-scenes").model, scenes("vqa"), inputs("blip-vqa-scenes")
    monkeypatch.setattr(vqa.text_decoder, "label_smoothing", 0.0)  # which is for training
    found = outcome("vqa", generate=False)
    assert list(found.metrics) == ["nll"]
    for row in (0, 3):
        labels = both.texts(list(data.answers[row]))["input_ids"]
        labels[:, 0] = vqa.config.text_config.bos_token_id
        pixels = both.images([data.images[data.image_of[row]]])
        with torch.inference_mode():
            loss = vqa(pixel_values=pixels, **both.texts([data.questions[row]]), labels=labels).loss
        assert found.per_example["nll"][row] == pytest.approx(loss.item() * (labels.shape[1] - 1), rel=1e-3)


def test_the_likelihood_is_of_the_answer_that_most_people_gave():
    data = replace(scenes("vqa"), answers=(("red", "blue", "blue"), *scenes("vqa").answers[1:]))
    asked = make_job("vqa", model("blip-vqa-scenes"), inputs("blip-vqa-scenes"), data)
    assert asked.rights[0] == "blue"


# Matching


@pytest.mark.parametrize("accelerated", [False, True])
def test_matching_is_the_models_own_score_of_one_pair_at_a_time(accelerated: bool):
    itm, data, both = model("blip-itm-scenes").model, scenes("matching"), inputs("blip-itm-scenes")
    assert len({len(text.split()) for text in data.questions}) > 1  # so that there is padding
    with turbo.accelerated(itm, drop=20 if accelerated else 0), torch.inference_mode():
        found = outcome("matching", batch=5)
        own = [
            itm(pixel_values=both.images([data.images[row]]), **both.texts([text])).itm_score[0]
            for row, text in zip(data.image_of, data.questions, strict=True)
        ]
        together = job("matching").call(16)().itm_score
    assert torch.allclose(together, torch.stack(own), atol=1e-3)
    rights = torch.tensor([answers == ("yes",) for answers in data.answers]).long()
    assert rights.sum() == 8
    nll = functional.cross_entropy(torch.stack(own), rights, reduction="none")
    assert np.allclose(found.per_example["nll"], nll, atol=1e-3)
    assert found.predictions == [("no", "yes")[int(score.argmax())] for score in own]
    right = [float(given == people[0]) for given, people in zip(found.predictions, data.answers, strict=True)]
    assert found.per_example["accuracy"] == right
    for kind in set(data.kinds):
        mine = [each for each, its in zip(right, data.kinds, strict=True) if its == kind]
        assert found.metrics[f"accuracy_{kind}"] == pytest.approx(np.mean(mine))


def test_answers_that_are_neither_yes_nor_no():
    data = replace(scenes("matching"), answers=(("maybe",), *scenes("matching").answers[1:]))
    with pytest.raises(TurboError, match=r"has the answers \('maybe',\): for matching there is one, yes or no"):
        make_job("matching", model("blip-itm-scenes"), inputs("blip-itm-scenes"), data)


# Retrieval and classification


def test_retrieval_is_by_the_models_own_scores():
    clip, data, both = model("clip-scenes").model, scenes("retrieval", 40), inputs("clip-scenes")
    texts = [caption for (caption,) in data.references]
    with torch.inference_mode():
        own = clip(pixel_values=both.images(list(data.images)), **both.texts(texts), return_loss=True)
    found = outcome("retrieval", batch=17, limit=40)
    hits = (own.logits_per_image.argmax(1) == torch.arange(40)).float()
    back = (own.logits_per_text.argmax(1) == torch.arange(40)).float()
    assert found.per_example["image_to_text_r1"] == hits.tolist()
    assert found.per_example["text_to_image_r1"] == back.tolist()
    assert found.per_example["mean_r1"] == ((hits + back) / 2).tolist()
    assert found.metrics["nll"] == pytest.approx(own.loss.item(), rel=1e-2)


def test_several_captions_of_an_image():
    data = scenes("retrieval")
    several = Captions("two", data.images, tuple((text, f"{text} {text}") for (text,) in data.references))
    finding = make_job("retrieval", model("clip-scenes"), inputs("clip-scenes"), several, 4)
    with torch.inference_mode():
        found = finding.outcome()
        image = embed_images(model("clip-scenes").model, finding.pixels.take(range(8)))
        text = embed_texts(model("clip-scenes").model, inputs("clip-scenes").texts(finding.lines, cut=True))
    logits = model("clip-scenes").model.logit_scale.exp().detach() * image @ text.T
    assert len(found.per_example["text_to_image_r1"]) == 16
    assert len(found.per_example["nll"]) == 8
    by_image = -logits.softmax(1).view(8, 8, 2).sum(2).diagonal().log()
    by_text = -logits.log_softmax(0).view(8, 8, 2).diagonal().mean(0)
    assert torch.allclose(torch.tensor(found.per_example["nll"]), (by_image + by_text) / 2, atol=1e-3)


def test_texts_are_encoded_once():
    calls = []
    clip = model("clip-scenes")
    hook = clip.model.text_model.register_forward_hook(lambda *_: calls.append(1))
    try:
        evaluate(clip, [scenes("retrieval")], {"a": {"drop": 10}, "b": {"drop": 20}}, task="retrieval")
        assert len(calls) == 1
        (data,) = load_data("scenes:plain", "classification", limit=4)
        evaluate(clip, [data], {"a": {"drop": 10}}, task="classification")
        assert len(calls) == 1 + len(data.classes)
    finally:
        hook.remove()


def test_blips_retrieval_head():
    from transformers import BlipConfig, BlipForImageTextRetrieval

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**small, "vocab_size": 50, "encoder_hidden_size": 32}
    config = BlipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8})
    blip = BlipForImageTextRetrieval(config).eval()
    assert tasks_of(blip) == ("matching", "retrieval", "classification")
    pixels, made = torch.randn(3, 3, 32, 32), {"input_ids": torch.tensor([[1, 2, 3], [3, 2, 1]])}
    with torch.inference_mode():
        own = blip(pixel_values=pixels, **made, use_itm_head=False).itm_score
        assert torch.allclose(embed_images(blip, pixels) @ embed_texts(blip, made).T, own, atol=1e-5)


def test_zero_shot_classes_are_means_over_templates():
    (data,) = load_data("scenes:plain", "classification", limit=6)
    clip, both = model("clip-scenes").model, inputs("clip-scenes")
    with torch.inference_mode():
        found = make_job("classification", model("clip-scenes"), both, data, 4).outcome()
        classes = torch.stack(
            [
                sum(embed_texts(clip, both.texts([template.format(name)]))[0] for template in data.templates)
                for name in data.classes
            ]
        )
        image = embed_images(clip, both.images(list(data.images)))
    logits = clip.logit_scale.exp().detach() * image @ functional.normalize(classes, dim=1).T
    assert found.predictions == logits.argmax(1).tolist()
    nll = functional.cross_entropy(logits, torch.tensor(data.labels), reduction="none")
    assert np.allclose(found.per_example["nll"], nll, atol=2e-3)


def test_a_classifier_is_measured_by_its_logits():
    data, vit = digits(), model("vit-digits").model
    found = evaluate(model("vit-digits"), [data], {"half": {"speedup": 2.0}}, task="classification", batch=5)
    with torch.inference_mode():
        logits = vit(inputs("vit-digits").images(list(data.images))).logits
        with turbo.accelerated(vit, speedup=2.0):
            merged = vit(inputs("vit-digits").images(list(data.images))).logits
    for name, own in ((UNTOUCHED, logits), ("half", merged)):
        mine = found[data.name][name]
        assert mine.predictions == own.argmax(1).tolist()
        assert mine.metrics["top1"] == np.mean([a == b for a, b in zip(mine.predictions, data.labels, strict=True)])
        nll = functional.cross_entropy(own, torch.tensor(data.labels), reduction="none")
        assert np.allclose(mine.per_example["nll"], nll, atol=1e-3)
    assert found[data.name][UNTOUCHED].metrics["top1"] > 0.8
    assert not torch.equal(logits, merged)


def test_classes_that_a_classifier_does_not_have():
    data = Labelled("mine", digits().images, digits().labels, ("cat", "dog"))
    with pytest.raises(TurboError, match="zoo:vit-digits tells 10 classes apart, and mine has 2"):
        evaluate(model("vit-digits"), [data], {"s1": {"drop": 10}}, task="classification")
