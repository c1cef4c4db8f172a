"""The zoo's scenes as data, and published data sets in tiny folders of their layouts."""

from __future__ import annotations

import json
import pickle
import shutil

import dataset_folders as folders
import numpy as np
import pytest
from PIL import Image

from turbo import TurboError
from turbo.evaluation import Captions, Labelled, Questions, load_data
from turbo.evaluation.data import sources
from turbo.evaluation.data.images import images_of_arrays, images_of_files, read_image
from turbo.evaluation.metrics.vqa_accuracy import vqa_accuracy
from turbo.zoo.captioned import KINDS
from turbo.zoo.pairs import MATCHED, MISMATCHES
from turbo.zoo.questions import KINDS_OF_QUESTION
from turbo.zoo.scenes import draw_scenes


def levels(images) -> list[int]:
    """The grey of each image, to the nearest of those that the folders are written with."""
    found = []
    for image in images:
        assert (image.mode, image.size) == ("RGB", (8, 8))
        found.append(round(np.asarray(image).mean() / 40) * 40)
    return found


def test_scenes_come_on_both_grounds_or_one():
    plain, busy = load_data("scenes", "captioning", limit=5, seed=3)
    assert isinstance(plain, Captions)
    assert (plain.name, busy.name) == ("scenes:plain test seed 3", "scenes:distractors test seed 3")
    assert plain.references == busy.references
    scenes = draw_scenes("test", 5, 3, "plain")
    assert plain.references == tuple((caption,) for caption in scenes.captions())
    assert np.array_equal(np.asarray(plain.images[4]), scenes.images[4])
    assert not np.array_equal(np.asarray(plain.images[4]), np.asarray(busy.images[4]))
    assert plain.attributes(2, plain.references[2][0])["exact"] == 1
    (alone,) = load_data("scenes:distractors", "captioning", limit=5, seed=3)
    assert np.array_equal(np.asarray(alone.images[0]), np.asarray(busy.images[0]))


def test_a_thousand_scenes_unless_a_limit_says_otherwise(monkeypatch):
    assert sources.SCENES == 1000
    monkeypatch.setattr(sources, "SCENES", 7)
    for task in sources.TASKS:
        for part in load_data("scenes", task):
            assert len(part.images) == 7


def test_scenes_of_other_splits_and_seeds_are_others():
    def captions(**options):
        return load_data("scenes:plain", "captioning", limit=20, **options)[0].references

    assert captions(split="val") == captions(split="validation") != captions()
    assert captions(seed=1) != captions() == captions(seed=0)


def test_questions_about_scenes():
    for part in load_data("scenes", "vqa", limit=30, seed=2):
        assert isinstance(part, Questions)
        assert len(part.image_of) == len(part.questions) == len(part.answers) == len(part.kinds)
        assert set(part.image_of) == set(range(30)) == set(range(len(part.images)))
        assert 30 < len(part.questions) <= 60
        assert set(part.kinds) <= set(KINDS_OF_QUESTION)
        for answers in part.answers:
            assert vqa_accuracy(answers[0], answers) == 1
    (again,) = load_data("scenes:distractors", "vqa", limit=30, seed=2)
    assert again.questions == part.questions


def test_a_question_is_about_its_scene():
    (part,) = load_data("scenes:plain", "vqa", limit=60, seed=1)
    captions = draw_scenes("test", 60, 1, "plain").captions()
    asked = [
        (captions[row], question, answer)
        for row, question, (answer,), kind in zip(part.image_of, part.questions, part.answers, part.kinds, strict=True)
        if kind == "colour"
    ]
    assert len(asked) > 5
    for caption, question, colour in asked:
        assert f"{colour} {question.split()[-1]}" in caption


def test_pairs_of_scenes_and_texts():
    plain, busy = load_data("scenes", "matching", limit=30, seed=2)
    assert isinstance(plain, Questions)
    captions = draw_scenes("test", 30, 2, "plain").captions()
    answers = [
        ("yes" if text == captions[row] else "no",) for row, text in zip(plain.image_of, plain.questions, strict=True)
    ]
    assert plain.answers == tuple(answers)
    assert answers.count(("yes",)) == answers.count(("no",)) == 30
    assert set(plain.kinds) <= {MATCHED, *MISMATCHES}
    assert busy.questions == plain.questions
    assert load_data("scenes:plain", "matching", limit=30, seed=3)[0].questions != plain.questions


def test_captions_for_retrieval_all_differ():
    plain, busy = load_data("scenes", "retrieval", limit=400, seed=5)
    assert len(set(plain.references)) == len(plain.references) == len(plain.images) == 400
    assert plain.references == busy.references
    # Without that, they do not.
    assert len(set(load_data("scenes:plain", "captioning", limit=400, seed=5)[0].references)) < 400


def test_a_caption_for_retrieval_is_that_of_its_image():
    (part,) = load_data("scenes:plain", "retrieval", limit=40, seed=5)
    drawn = draw_scenes("test", 62, 5, "plain")
    captions = drawn.captions()
    for place, (caption,) in enumerate(part.references):
        assert np.array_equal(np.asarray(part.images[place]), drawn.images[captions.index(caption)])


def test_classes_of_scenes():
    plain, busy = load_data("scenes", "classification", limit=12)
    assert isinstance(plain, Labelled)
    assert plain.classes == KINDS
    assert plain.labels == busy.labels
    scenes = draw_scenes("test", 12, 0, "plain", (1, 0, 0))
    texts = {template.format(plain.classes[label]) for label in plain.labels for template in plain.templates}
    assert set(scenes.captions()) <= texts
    assert [KINDS[label] in caption for label, caption in zip(plain.labels, scenes.captions(), strict=True)] == [
        True
    ] * 12
    assert len(plain.templates) == 12


def test_digits():
    from turbo.zoo import digit_scenes

    parts = load_data("digits", "classification", limit=9, seed=4)
    for part, ground in zip(parts, ("plain", "distractors"), strict=True):
        images, labels = digit_scenes("test", 9, 4, ground=ground)
        assert part.name == f"digits:{ground} test seed 4"
        assert part.labels == tuple(labels)
        assert all(np.array_equal(np.asarray(image), pixels) for image, pixels in zip(part.images, images, strict=True))
        assert len(part.classes) == 10
        assert part.classes[3] == "three"


def test_coco_in_karpathys_split(tmp_path):
    (part,) = load_data(f"coco:{folders.write_coco(tmp_path)}", "captioning")
    assert isinstance(part, Captions)
    assert part.name == "coco test"
    assert part.references[0] == ("A man with a red helmet.", "A man rides a bike.")
    assert [len(captions) for captions in part.references] == [2, 3, 1]
    assert levels(part.images) == [0, 80, 200]
    (few,) = load_data(f"coco:{tmp_path}", "retrieval", limit=2)
    assert few.references == part.references[:2]
    assert levels(few.images) == [0, 80]
    for split, level in {"val": 40, "validation": 40, "restval": 120, "train": 160}.items():
        (other,) = load_data(f"coco:{tmp_path}", "captioning", split=split)
        assert levels(other.images) == [level]


def test_coco_in_the_files_of_blip(tmp_path):
    folders.write_coco_of_blip(tmp_path / "blip")
    (part,) = load_data(f"coco:{tmp_path / 'blip'}", "captioning")
    (same,) = load_data(f"coco:{folders.write_coco(tmp_path / 'karpathy')}", "captioning")
    assert part.references == same.references
    assert levels(part.images) == levels(same.images)
    assert levels(load_data(f"coco:{tmp_path / 'blip'}", "captioning", split="val")[0].images) == [40]
    with pytest.raises(TurboError, match="no dataset_coco.json in"):
        load_data(f"coco:{tmp_path / 'blip'}", "captioning", split="train")


@pytest.mark.parametrize("home", ["flickr30k-images", "images"])
def test_flickr30k(tmp_path, home):
    (part,) = load_data(f"flickr30k:{folders.write_flickr30k(tmp_path, home)}", "retrieval")
    assert part.name == "flickr30k test"
    assert levels(part.images) == [40, 120]
    assert part.references[1][4] == "Caption 4 of 102617084.jpg."
    assert levels(load_data(f"flickr30k:{tmp_path}", "captioning", split="val")[0].images) == [80]


def test_flickr30k_in_the_files_of_blip(tmp_path):
    folders.write_flickr30k(tmp_path)
    (tmp_path / "dataset_flickr30k.json").unlink()
    rows = [{"image": "flickr30k-images/1007320043.jpg", "caption": ["One.", "Two."]}]
    folders.write_json(tmp_path / "flickr30k_test.json", rows)
    (part,) = load_data(f"flickr30k:{tmp_path}", "retrieval")
    assert (levels(part.images), part.references) == ([80], (("One.", "Two."),))


def test_vqav2(tmp_path):
    (part,) = load_data(f"vqav2:{folders.write_vqav2(tmp_path)}", "vqa", split="validation")
    assert isinstance(part, Questions)
    assert part.name == "vqav2 val"
    assert part.questions == ("Where is he looking?", "Is it red?", "How many people are there?")
    assert part.image_of == (0, 1, 0)
    assert levels(part.images) == [80, 160]
    assert part.kinds == ("other", "yes/no", "number")
    assert [len(answers) for answers in part.answers] == [10, 10, 10]
    assert vqa_accuracy("down", part.answers[0]) == 1
    assert vqa_accuracy("2", part.answers[2]) == 1
    (few,) = load_data(f"vqav2:{tmp_path}", "vqa", split="val", limit=1)
    assert (len(few.images), few.questions) == (1, part.questions[:1])
    folders.write_vqav2(tmp_path, "train2014")
    assert load_data(f"vqav2:{tmp_path}", "vqa", split="train")[0].name == "vqav2 train"


def _imagenet(folder, **options):
    (part,) = load_data(f"imagenet:{folder}", "classification", split="validation", **options)
    return part


@pytest.mark.parametrize(
    "write",
    [
        folders.write_imagenet_folders,
        folders.write_imagenet_of_kaggle,
        lambda root: folders.write_imagenet_of_kaggle(root, "val"),
        folders.write_imagenet_of_devkit,
        lambda root: folders.write_imagenet_of_devkit(root, "."),
    ],
)
def test_imagenet_is_the_same_in_all_its_layouts(tmp_path, write):
    part = _imagenet(write(tmp_path))
    assert isinstance(part, Labelled)
    assert part.name == "imagenet val"
    assert part.labels == tuple(folders.IMAGENET)
    assert levels(part.images) == [0, 40, 80, 120]
    assert len(part.classes) == 1000
    assert (part.classes[0], part.classes[-1]) == ("tench", "toilet paper")
    few = _imagenet(tmp_path, limit=2)
    assert few.labels == part.labels[:2]
    assert levels(few.images) == [0, 40]


def test_some_of_imagenets_folders_with_the_list_of_all(tmp_path):
    folders.write_imagenet_folders(tmp_path)
    for empty in (tmp_path / "val").iterdir():
        if not any(empty.iterdir()):
            empty.rmdir()
    with pytest.raises(TurboError, match="3 classes, and all 1000 are needed"):
        _imagenet(tmp_path)
    folders.write_mapping(tmp_path)
    assert _imagenet(tmp_path).labels == tuple(folders.IMAGENET)
    folders.write_image(tmp_path / "val" / "n99999999" / "a.JPEG", 0)
    with pytest.raises(TurboError, match="n99999999 is none of the 1000"):
        _imagenet(tmp_path)


def test_imagenets_own_numbers_need_its_own_list(tmp_path):
    """The devkit's numbers are in no order of names: Kaggle's list would give wrong classes."""
    folders.write_imagenet_of_devkit(tmp_path, ".")
    (tmp_path / "meta.mat").unlink()
    folders.write_mapping(tmp_path)
    with pytest.raises(TurboError, match=r"no meta.mat and no ILSVRC2012_devkit_t12/data/meta.mat"):
        _imagenet(tmp_path)


def test_what_damaged_lists_of_imagenet_say(tmp_path):
    folders.write_imagenet_of_kaggle(tmp_path)
    (tmp_path / "LOC_synset_mapping.txt").write_text("tench\n")
    with pytest.raises(TurboError, match=r"LOC_synset_mapping.txt is not .*'tench' is no WordNet number"):
        _imagenet(tmp_path)
    folders.write_mapping(tmp_path)
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId\nILSVRC2012_val_00000001\n")
    with pytest.raises(TurboError, match=r"LOC_val_solution.csv is not Kaggle's .*no 'PredictionString'"):
        _imagenet(tmp_path)
    other = folders.write_imagenet_of_devkit(tmp_path / "devkit", ".")
    (other / "ILSVRC2012_validation_ground_truth.txt").write_text("1001\n")
    with pytest.raises(TurboError, match=r"ground_truth.txt is not .*no 1001"):
        _imagenet(other)
    (other / "meta.mat").write_bytes(b"nothing of MATLAB's")
    with pytest.raises(TurboError, match=r"meta.mat is not the devkit's"):
        _imagenet(other)


def test_images_are_read_when_they_are_asked_for(tmp_path):
    folders.write_coco(tmp_path)
    (part,) = load_data(f"coco:{tmp_path}", "captioning")
    broken = tmp_path / "val2014" / folders.coco_name("val2014", 60623)
    broken.write_bytes(broken.read_bytes()[:-200])
    levels(part.images[:1])
    with pytest.raises(TurboError, match=rf"the image .*{broken.name} cannot be read: .*(?i:truncated)"):
        part.images[1]
    broken.write_text("no image")
    with pytest.raises(TurboError, match=f"{broken.name} cannot be read: cannot identify"):
        part.images[1]
    broken.unlink()
    with pytest.raises(TurboError, match=f"there is no image .*{broken.name}"):
        part.images[1]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_images_are_rgb(tmp_path, mode):
    folders.write_image(tmp_path / "a.jpg", 120, mode)
    with Image.open(tmp_path / "a.jpg") as stored:
        assert stored.mode == mode
    assert levels([read_image(tmp_path / "a.jpg")]) == [120]


def test_lazy_images_are_sequences(tmp_path):
    paths = [tmp_path / f"{place}.jpg" for place in range(4)]
    for place, path in enumerate(paths):
        folders.write_image(path, 40 * place)
    images = images_of_files(paths)
    assert len(images) == 4
    assert levels(images) == [0, 40, 80, 120]
    assert levels(images[1::2]) == levels([images[1], images[-1]]) == [40, 120]
    assert levels(reversed(images)) == [120, 80, 40, 0]
    with pytest.raises(IndexError):
        images[4]
    assert levels(pickle.loads(pickle.dumps(images))[:2]) == [0, 40]  # as a worker of a data loader gets it
    pixels = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    drawn = pickle.loads(pickle.dumps(images_of_arrays(pixels)))
    assert np.array_equal(np.asarray(drawn[1]), pixels[1])
    assert drawn[0].mode == "RGB"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("cocoa:x", "captioning"), {}, r"unknown data 'cocoa:x'.*scenes\[:plain\|distractors\].*coco:FOLDER"),
        (("scenes", "captions"), {}, "unknown task 'captions'.*vqa"),
        (("digits", "vqa"), {}, "digits is for classification, not for vqa; for that there are scenes, vqav2"),
        (("vqav2:x", "captioning"), {}, "vqav2 is for vqa, not"),
        (("scenes:bright", "vqa"), {}, "unknown ground in 'scenes:bright'.*scenes:plain or scenes:distractors"),
        (("scenes:", "vqa"), {}, "unknown ground in 'scenes:'"),
        (("scenes", "vqa"), {"split": "dev"}, "unknown split 'dev'"),
        (("digits", "classification"), {"split": "dev"}, "unknown split 'dev'"),
        (("scenes", "vqa"), {"limit": 0}, "limit=0"),
        (("scenes", "vqa"), {"limit": True}, "limit=True"),
        (("scenes", "vqa"), {"limit": 1.5}, "limit=1.5"),
        (("scenes", "vqa"), {"seed": -1}, "seed=-1"),
        (("coco", "captioning"), {}, "coco needs its folder: coco:FOLDER, which has dataset_coco.json"),
        (("coco:", "captioning"), {}, "coco needs its folder"),
        (("coco:nowhere", "captioning"), {}, "no folder nowhere; expected one with dataset_coco.json"),
        (("coco:nowhere", "captioning"), {"seed": 1}, "seed=1: coco is published data"),
    ],
)
def test_what_load_data_refuses(arguments, options, message):
    with pytest.raises(TurboError, match=message):
        load_data(*arguments, **options)


def test_a_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folders.write_coco(tmp_path / "data")
    assert len(load_data("coco:~/data", "captioning")[0].images) == 3


SETS = {
    "coco": ("captioning", "test", folders.write_coco),
    "flickr30k": ("retrieval", "test", folders.write_flickr30k),
    "vqav2": ("vqa", "val", folders.write_vqav2),
    "imagenet": ("classification", "val", folders.write_imagenet_of_kaggle),
}


@pytest.mark.parametrize("name", SETS)
def test_a_limit_beyond_the_data_says_how_many_there_are(tmp_path, name):
    task, split, write = SETS[name]
    write(tmp_path)
    with pytest.raises(TurboError, match=rf"{name}: limit=9, but there are [234] "):
        load_data(f"{name}:{tmp_path}", task, split=split, limit=9)


@pytest.mark.parametrize("name", SETS)
def test_an_empty_folder_is_told_what_it_should_have(tmp_path, name):
    task, split, _ = SETS[name]
    with pytest.raises(TurboError, match=rf"{name}: no .* is empty\. Expected in .*(json|JPEG)"):
        load_data(f"{name}:{tmp_path}", task, split=split)


@pytest.mark.parametrize("name", SETS)
def test_a_missing_image_is_named_before_the_first_is_read(tmp_path, name):
    task, split, write = SETS[name]
    write(tmp_path)
    images = [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".JPEG")]
    for path in images:
        path.unlink()
    with pytest.raises(TurboError, match=rf"{name}: (\d) of \1 images are missing, first .*(jpg|JPEG)"):
        load_data(f"{name}:{tmp_path}", task, split=split)
    for home in {path.parent for path in images}:
        shutil.rmtree(home)
    with pytest.raises(
        TurboError, match=f"{name}: (. of . images are missing.*; there is no folder|no .*(images|val))"
    ):
        load_data(f"{name}:{tmp_path}", task, split=split)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("coco", "minival", "has no part 'minival': choose one of restval, test, train, val"),
        ("flickr30k", "restval", "has no part 'restval': choose one of test, train, val"),
        ("vqav2", "test", "answers are published of 'val' and 'train' only, not of 'test'"),
        ("imagenet", "test", "only the validation part .* not 'test'"),
        ("imagenet", "train", "only the validation part .* not 'train'"),
    ],
)
def test_unknown_splits_of_folders(tmp_path, name, split, message):
    task, _, write = SETS[name]
    write(tmp_path)
    with pytest.raises(TurboError, match=message):
        load_data(f"{name}:{tmp_path}", task, split=split)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "dataset_coco.json is not a split of captions: Expecting"),
        ("{}", "dataset_coco.json is not a split of captions: no 'images'"),
        ('{"images": [{"split": "test", "filename": "a.jpg"}]}', "no 'sentences'"),
        ('{"images": [{"split": "test", "filename": "a.jpg", "sentences": []}]}', "not a list of one or more texts"),
        ('[{"image": "a.jpg", "caption": "one text"}]', "'one text', not a list"),
        ("[]", "no images of the part 'test'"),
        ("3", "is not a split of captions"),
    ],
)
def test_damaged_splits_of_captions(tmp_path, content, message):
    folders.write_coco(tmp_path)
    (tmp_path / "dataset_coco.json").write_text(content)
    with pytest.raises(TurboError, match=message):
        load_data(f"coco:{tmp_path}", "captioning")


def test_damaged_files_of_vqav2(tmp_path):
    folders.write_vqav2(tmp_path)
    annotations = tmp_path / "v2_mscoco_val2014_annotations.json"
    content = json.loads(annotations.read_text())
    folders.write_json(annotations, {"annotations": content["annotations"][:2]})
    with pytest.raises(TurboError, match="has no answers to 1 of 3 questions .*first 262148000"):
        load_data(f"vqav2:{tmp_path}", "vqa", split="val")
    folders.write_json(annotations, {"annotations": [{"question_id": 1}]})
    with pytest.raises(TurboError, match=r"annotations.json is not .*no 'answers'"):
        load_data(f"vqav2:{tmp_path}", "vqa", split="val")
    annotations.unlink()
    with pytest.raises(TurboError, match=r"no v2_mscoco_val2014_annotations.json in .* has v2_OpenEnded_.*val2014/"):
        load_data(f"vqav2:{tmp_path}", "vqa", split="val")
    (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").write_text("[]")
    folders.write_json(annotations, content)
    with pytest.raises(TurboError, match=r"questions.json is not a file of VQA v2's questions"):
        load_data(f"vqav2:{tmp_path}", "vqa", split="val")


def test_a_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "dataset_coco.json").mkdir()
    with pytest.raises(TurboError, match=r"dataset_coco.json cannot be read"):
        load_data(f"coco:{tmp_path}", "captioning")
