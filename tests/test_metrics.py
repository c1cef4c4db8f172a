"""The metrics against figures computed by hand, by brute force and by the field's own code."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from turbo import TurboError
from turbo.evaluation.metrics.attributes import ATTRIBUTES, SceneAttributes, parse_caption
from turbo.evaluation.metrics.intervals import bootstrap, mean_interval, paired_interval
from turbo.evaluation.metrics.retrieval import recall_at, top_1
from turbo.evaluation.metrics.text_metrics import bleu, bleu_on, cider
from turbo.evaluation.metrics.vqa_accuracy import normalise, vqa_accuracy
from turbo.evaluation.metrics.words import split_words
from turbo.zoo.scenes import draw_scenes
from turbo.zoo.words import COLOURS, DIGITS, KINDS, SIZES

CANDIDATES = ["A man riding a wave on top of a surfboard.", "a cat, a dog", "two people", ""]
REFERENCES = [
    ["A man rides a wave on a surfboard.", "A surfer on top of a wave"],
    ["A cat and a dog sit together.", "A dog and a cat", "Pets!"],
    ["Two people are standing in a field."],
    ["An empty street"],
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A black-and-white T-shirt.", "a black-and-white t-shirt"),
        ("It's 10:30, isn't it?", "it 's 10:30 is n't it"),
        ("the dog’s “bone” — and the dogs' bones...", "the dog 's bone and the dogs bones"),
        ("You cannot go; I'm done!", "you can not go i 'm done"),
        ("1,000 cars & 2.5% (left)", "1,000 cars & 2.5 % ( left )"),
        ("Mr. Smith in the U.S. at 5 o'clock.", "mr. smith in the u.s. at 5 o'clock"),
        ("- . !", ""),
        ("café\nau lait", "café au lait"),
    ],
)
def test_captions_are_cut_as_in_the_penn_treebank(text, words):
    assert split_words(text) == words.split()


def test_bleu_by_hand():
    """Runs of 1 to 4 words: 5/6, 3/5, 2/4 and 1/3 are right; "the" counts once."""
    assert bleu(["the cat sat on the mat"], [["The cat sat on a mat."]]) == pytest.approx((1 / 12) ** 0.25)
    assert bleu(["the cat"], [["the cat sat down"]], n=1) == pytest.approx(math.exp(-1))
    # Of two references the one nearest in length counts: no penalty here.
    assert bleu(["the cat"], [["the cat sat down", "a cat"]], n=1) == pytest.approx(1)
    assert bleu(["nothing right"], [["the cat sat down"]]) < 1e-6


def _cut(texts):
    return [" ".join(split_words(text)) for text in texts]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_bleu_is_that_of_pycocoevalcap(n, capsys):
    from pycocoevalcap.bleu.bleu import Bleu

    def published(rows):
        right = {place: _cut(REFERENCES[row]) for place, row in enumerate(rows)}
        given = {place: _cut([CANDIDATES[row]]) for place, row in enumerate(rows)}
        return Bleu(n).compute_score(right, given, verbose=0)[0][n - 1]

    assert bleu(CANDIDATES, REFERENCES, n) == pytest.approx(published(range(4)), rel=1e-9)
    score = bleu_on(CANDIDATES, REFERENCES, n)
    for rows in ([0], [3], [0, 0, 1], [2, 1, 0]):
        assert score(np.array(rows)) == pytest.approx(published(rows), rel=1e-9)
    assert not capsys.readouterr().out


def test_cider_by_hand():
    """With two references "ring" is in both, so it weighs nothing; all else weighs log 2."""
    mean, each = cider(["red ring", "red ring"], [["red ring"], ["blue ring"]])
    assert each.tolist() == pytest.approx([10 * (1 + 1 + 0 + 0) / 4, 0])
    assert mean == pytest.approx(2.5)
    # Clipped counts and the penalty on one word more: what CIDEr-D has and CIDEr has not.
    _, each = cider(["red ring red", "blue ring"], [["red ring"], ["blue ring"]])
    assert each[0] == pytest.approx(10 * (1 / 2 + 1 / math.sqrt(2)) / 4 * math.exp(-1 / (2 * 6**2)))


def test_cider_is_that_of_pycocoevalcap():
    from pycocoevalcap.cider.cider import Cider

    right = {place: _cut(texts) for place, texts in enumerate(REFERENCES)}
    given = {place: _cut([text]) for place, text in enumerate(CANDIDATES)}
    mean, each = Cider().compute_score(right, given)
    found, by_image = cider(CANDIDATES, REFERENCES)
    assert found == pytest.approx(mean)
    assert by_image.tolist() == pytest.approx(each.tolist())
    assert by_image[0] > by_image[3] == 0


@pytest.mark.parametrize("metric", [bleu, cider])
@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 captions, and references of 2"),
        ([], [], "no captions"),
        (["a", "b"], [["a"], []], "image 1 has no reference"),
        (["a", "b"], ["a", "b"], "are one text"),
    ],
)
def test_captions_and_references_must_fit(metric, candidates, references, message):
    with pytest.raises(TurboError, match=message):
        metric(candidates, references)


def test_what_the_text_metrics_refuse():
    with pytest.raises(TurboError, match="CIDEr of one image"):
        cider(["a ring"], [["a ring"]])
    with pytest.raises(TurboError, match="n=0"):
        bleu(["a ring"], [["a ring"]], n=0)


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("dont", "don't"),
        ("Dont.", "don't"),
        ("100,978", "100978"),
        ("the girl's", "girl's"),
        ("2:50 PM", "2:50 pm"),
        ("2.5", "2.5"),
        ("p.m.", "pm"),
        ("None", "0"),
        ("TEN", "10"),
        ("eleven", "eleven"),
        ("A cat, the dog and an owl", "cat dog and owl"),
        ("red/white", "red white"),
        ("t - shirt", "t shirt"),
        ("(yes!)", "yes"),
        ("50%", "50%"),
        ("couldnt've", "couldn't've"),
        ("y'alld've", "y'all'd've"),
        ("twas\n", "'twas"),
        ("well", "well"),
        ("its", "its"),
        ("a", ""),
    ],
)
def test_answers_are_normalised_as_published(answer, normal):
    assert normalise(answer) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_of_ten_people(matches, accuracy):
    assert vqa_accuracy("yes", ["yes"] * matches + ["no"] * (10 - matches)) == pytest.approx(accuracy)


def test_vqa_accuracy_is_the_mean_over_all_sets_that_leave_one_out():
    rng = np.random.default_rng(0)
    for _ in range(50):
        people = int(rng.integers(2, 13))
        humans = [["2", "three"][answer] for answer in rng.integers(2, size=people)]
        sets = list(combinations(humans, people - 1))
        full = min(3, people - 1)
        expected = sum(min(left.count("2") / full, 1) for left in sets) / len(sets)
        assert vqa_accuracy("Two.", humans) == pytest.approx(expected)


def test_vqa_accuracy_of_a_single_answer_is_a_match():
    assert vqa_accuracy("the Ring.", ["ring"]) == 1
    assert vqa_accuracy("ring", ["rings"]) == 0
    with pytest.raises(TurboError, match="without an answer"):
        vqa_accuracy("ring", [])
    with pytest.raises(TurboError, match="are one text"):
        vqa_accuracy("ring", "ring")


def test_recall_by_hand():
    """Two images with two texts each."""
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.7], [0.6, 0.2, 0.3, 0.5]])
    found = recall_at(scores, [0, 0, 1, 1], k=(1, 2, 4))
    assert found.image_to_text[1].tolist() == [1, 0]  # the second image's best text is one of the first's
    assert found.image_to_text[2].tolist() == [1, 1]
    assert found.text_to_image[1].tolist() == [1, 0, 0, 0]
    assert found.text_to_image[2].tolist() == [1, 1, 1, 1]
    assert list(found.text_to_image) == [1, 2, 4]


def test_recall_is_that_of_sorting():
    generator = torch.Generator().manual_seed(0)
    image_of = [*range(12), *range(12), 3, 5]
    scores = torch.randn(12, len(image_of), generator=generator)
    found = recall_at(scores, image_of)
    for k in (1, 5, 10):
        texts = scores.argsort(1, descending=True)[:, :k].tolist()
        assert found.image_to_text[k].tolist() == [any(image_of[t] == i for t in row) for i, row in enumerate(texts)]
        images = scores.argsort(0, descending=True)[:k].T.tolist()
        assert found.text_to_image[k].tolist() == [image_of[t] in row for t, row in enumerate(images)]
    assert 0 < found.image_to_text[5].mean() < 1


def test_the_same_text_is_right_for_both_its_images():
    """Images 0 and 1 have the same caption; each model's choice between them is a toss."""
    scores = torch.tensor([[0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.2, 0.2, 0.1]])
    strict = recall_at(scores, [0, 1, 2], k=(1,))
    assert strict.image_to_text[1].tolist() == [0, 0, 0]
    assert strict.text_to_image[1].tolist() == [0, 0, 1]
    fair = recall_at(scores, [0, 1, 2], k=(1,), texts=["a ring", "a ring", "a cross"])
    assert fair.image_to_text[1].tolist() == [1, 1, 0]
    assert fair.text_to_image[1].tolist() == [1, 1, 1]


def test_ties_find_nothing():
    found = recall_at(torch.zeros(3, 3), [0, 1, 2], k=(1, 2, 3))
    assert [found.image_to_text[k].mean() for k in (1, 2, 3)] == [0, 0, 1]
    assert top_1(torch.zeros(2, 3), [0, 2]).tolist() == [0, 0]


def test_top_1():
    scores = torch.tensor([[0.2, 0.7, 0.1], [0.4, 0.3, 0.3], [0.0, -1.0, -2.0]])
    assert top_1(scores, [1, 2, 0]).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3), [0, 1]), "for 2 texts"),
        ((torch.zeros(2, 2), [0, 0]), r"\[1\] are on one side"),
        ((torch.zeros(2, 3), [0, 1, 2]), r"\[2\] are on one side"),
        ((torch.tensor([[math.nan]]), [0]), "NaN"),
        ((torch.zeros(1, 1), [0], (0,)), "ranks of 1 or more"),
        ((torch.zeros(1, 1), [0], ()), "ranks of 1 or more"),
        ((torch.zeros(0, 0), []), "for 0 texts"),
    ],
)
def test_what_recall_refuses(arguments, message):
    with pytest.raises(TurboError, match=message):
        recall_at(*arguments)


def test_what_the_other_hits_refuse():
    with pytest.raises(TurboError, match="1 texts, but"):
        recall_at(torch.eye(2), [0, 1], texts=["a"])
    with pytest.raises(TurboError, match="for 3 labels"):
        top_1(torch.eye(2), [0, 1, 1])
    with pytest.raises(TurboError, match="labels 0 to 2"):
        top_1(torch.eye(2), [0, 2])
    with pytest.raises(TurboError, match="NaN"):
        top_1(torch.full((1, 2), math.nan), [0])


def test_interval_of_a_mean_by_hand():
    found = mean_interval([0.0, 1.0, math.nan, 1.0, 0.0])
    assert (found.value, found.count) == (0.5, 4)
    assert found.half_width == pytest.approx(1.96 * math.sqrt(1 / 3) / 2, rel=1e-4)
    assert found.excludes(1.1)
    assert not found.excludes(1.0)


def test_an_interval_covers_the_truth_19_times_in_20():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(2000, 100))
    covered = sum(not mean_interval(row).excludes(1.0) for row in values)
    assert 0.92 < covered / 2000 < 0.96


def test_values_of_one_group_are_not_independent():
    values = np.random.default_rng(0).normal(size=40)
    single = mean_interval(values)
    doubled = mean_interval(np.repeat(values, 2), groups=np.repeat(np.arange(40), 2).tolist())
    assert doubled.half_width == pytest.approx(single.half_width)
    assert mean_interval(np.repeat(values, 2)).half_width < 0.75 * single.half_width
    # Without anything shared, groups make little difference; they may have any names.
    apart = mean_interval(values, groups=(np.arange(40) // 2 + 7).tolist())
    assert apart.half_width == pytest.approx(single.half_width, rel=0.3)


def test_intervals_of_too_little():
    assert math.isnan(mean_interval([]).value)
    assert mean_interval([math.nan]).count == 0
    one = mean_interval([2.0])
    assert one.value == 2
    assert math.isnan(one.half_width)
    assert not one.excludes(0)
    assert math.isnan(mean_interval([1.0, 2.0], groups=[5, 5]).half_width)


def test_paired_differences():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    first, second = hard + 0.1 + 0.05 * rng.normal(size=200), hard + 0.05 * rng.normal(size=200)
    paired = paired_interval(first, second)
    assert paired.excludes(0)
    assert 0.08 < paired.value < 0.12
    assert mean_interval(first).half_width > 10 * paired.half_width
    first[3] = math.nan
    assert paired_interval(first, second).count == 199
    assert paired_interval(second, first).value < 0


def test_what_intervals_refuse():
    with pytest.raises(TurboError, match="infinite"):
        mean_interval([math.inf, 1.0])
    with pytest.raises(TurboError, match="infinite"):
        paired_interval([math.inf], [math.inf])
    with pytest.raises(TurboError, match="1 groups for 2"):
        mean_interval([0.0, 1.0], groups=[0])
    with pytest.raises(TurboError, match="one for each example"):
        mean_interval(np.zeros((2, 2)))
    with pytest.raises(TurboError, match="2 values against 1"):
        paired_interval([0.0, 1.0], [0.0])
    with pytest.raises(TurboError, match="1 examples"):
        bootstrap(lambda rows: 0.0, 1)
    with pytest.raises(TurboError, match="10 resamples"):
        bootstrap(lambda rows: 0.0, 5, resamples=10)
    with pytest.raises(TurboError, match="not finite"):
        bootstrap(lambda rows: math.nan, 5)


def test_bootstrap_of_a_mean_is_its_interval():
    values = np.random.default_rng(1).normal(size=300)
    found = bootstrap(lambda rows: float(values[rows].mean()), 300, seed=2)
    closed = mean_interval(values)
    assert found.value == pytest.approx(closed.value)
    assert found.half_width == pytest.approx(closed.half_width, rel=0.1)
    assert found == bootstrap(lambda rows: float(values[rows].mean()), 300, seed=2)
    assert found != bootstrap(lambda rows: float(values[rows].mean()), 300, seed=3)


def test_bootstrap_of_bleu_keeps_sides_paired():
    rights = [[f"a {size} {colour} {kind}"] for size in SIZES for colour in COLOURS for kind in KINDS[:4]]
    good = [right[0] for right in rights]
    worse = ["a small red ring" if place % 4 == 0 else text for place, text in enumerate(good)]
    first, second = bleu_on(good, rights), bleu_on(worse, rights)
    assert not bootstrap(lambda rows: first(rows) - first(rows), len(rights), resamples=100).excludes(0)
    found = bootstrap(lambda rows: first(rows) - second(rows), len(rights), resamples=200)
    assert found.low > 0
    assert found.value == pytest.approx(first(np.arange(len(rights))) - bleu(worse, rights))


def test_captions_are_read_as_they_were_written():
    scenes = draw_scenes("test", 60, seed=3)
    for row, caption in enumerate(scenes.captions()):
        said = parse_caption(caption)
        many = scenes.count(row)
        assert said.things == tuple(
            (SIZES[scenes.size[row, i]], COLOURS[scenes.colour[row, i]], KINDS[scenes.kind[row, i]])
            for i in range(many)
        )
        assert len(said.relations) == many - 1


def test_broken_captions_are_read_as_far_as_they_go():
    assert parse_caption("") == parse_caption("of on left")
    assert parse_caption("").things == ()
    assert parse_caption("SMALL red").things == (("small", "red", None),)
    # "a" is missing, then a relation, then nothing follows.
    said = parse_caption("a big one a small red circle blue two left of")
    assert said.things == (("big", None, "one"), ("small", "red", "circle"), (None, "blue", "two"))
    assert said.relations == ("left of",)


def _scene(many: int):
    """A held-out scene of some objects of which one is a small digit and, if more, one is a big shape."""
    scenes = draw_scenes("test", 400, seed=0)
    for row in range(len(scenes)):
        small_digit = (scenes.size[row] == 0) & (scenes.kind[row] >= KINDS.index(DIGITS[0]))
        big_shape = (scenes.size[row] == 1) & (scenes.kind[row] < KINDS.index(DIGITS[0]))
        small = (scenes.size[row] == 0).sum()
        if scenes.count(row) == many and small_digit.sum() == small == 1 and big_shape.sum() == many - 1:
            return scenes[[row]]
    raise AssertionError("no such scene")


def test_the_right_caption_is_right_in_everything():
    scenes = draw_scenes("test", 40, seed=4)
    judge = SceneAttributes(scenes)
    for row, caption in enumerate(scenes.captions()):
        scores = judge(row, caption)
        assert tuple(scores) == ATTRIBUTES
        assert {score for score in scores.values() if not math.isnan(score)} == {1.0}
        assert math.isnan(scores["relation"]) == (scenes.count(row) == 1)
        assert math.isnan(scores["small"]) == (not (scenes.size[row] == 0).any())
        digits = (scenes.kind[row] >= KINDS.index(DIGITS[0])).any()
        assert math.isnan(scores["digit"]) == (not digits)


def test_each_detail_is_judged_by_itself():
    scene = _scene(2)
    judge, caption = SceneAttributes(scene), scene.captions()[0]
    first, second = parse_caption(caption).things
    digit, shape = (first, second) if first[0] == "small" else (second, first)
    wrong = next(word for word in DIGITS if word != digit[2])
    scores = judge(0, caption.replace(digit[2], wrong))
    assert scores == dict(zip(ATTRIBUTES, [0, 1, 1, 0.5, 0, 0, 1, 1], strict=True))
    wrong = next(word for word in COLOURS if word not in (shape[1], digit[1]))
    scores = judge(0, caption.replace(f"{shape[1]} {shape[2]}", f"{wrong} {shape[2]}"))
    assert scores == dict(zip(ATTRIBUTES, [0, 1, 0.5, 1, 1, 1, 1, 1], strict=True))
    other = caption.replace("left of", "above") if "left of" in caption else caption.replace("above", "left of")
    assert judge(0, other) == dict(zip(ATTRIBUTES, [0, 1, 1, 1, 1, 1, 1, 0], strict=True))


def test_objects_are_compared_by_their_place():
    scene = _scene(2)
    judge, caption = SceneAttributes(scene), scene.captions()[0]
    relation = parse_caption(caption).relations[0]
    one, two = caption.split(f" {relation} ")
    swapped = judge(0, f"{two} {relation} {one}")
    assert swapped["size"] == swapped["kind"] == swapped["exact"] == 0
    assert swapped["count"] == swapped["relation"] == 1
    alone = judge(0, one)
    assert alone["size"] == alone["colour"] == alone["kind"] == 0.5
    assert alone["count"] == alone["relation"] == 0
    more = judge(0, f"{caption} {relation} a big red ring")
    assert more["size"] == more["colour"] == more["kind"] == 1
    assert more["count"] == more["exact"] == 0
    assert all(score == 0 for score in judge(0, "").values())
