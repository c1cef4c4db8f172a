"""The scenes of the zoo's vision-language models, and the questions about them."""

from __future__ import annotations

import numpy as np
import pytest

import turbo
from turbo.zoo import draw_scenes
from turbo.zoo.glyphs import strokes
from turbo.zoo.paint import GROUNDS
from turbo.zoo.questions import KINDS_OF_QUESTION, ask
from turbo.zoo.scenes import CELLS, GRID, OBJECTS, PATCH, RELATIONS
from turbo.zoo.words import COLOURS, DIGITS, KINDS, NONE, SHAPES, SIZES, WORDS, bert_tokenizer, clip_tokenizer


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes("test", 300, seed=11)


def test_the_same_arguments_give_the_same_scenes():
    first, again, other = (draw_scenes("test", 5, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert first.captions() == again.captions()
    assert not np.array_equal(first.images, other.images)
    assert first.images.shape == (5, 112, 112, 3)
    assert first.images.dtype == np.uint8


def test_both_grounds_hold_the_same_objects_and_only_one_is_bright():
    plain, distractors = (draw_scenes("test", 40, seed=4, ground=ground) for ground in GROUNDS)
    assert plain.captions() == distractors.captions()
    assert np.array_equal(plain.cell, distractors.cell)

    def bright(scenes) -> float:
        """Share of the ground's pixels that are saturated."""
        ground = np.kron(scenes.patches() == NONE, np.ones((PATCH, PATCH), dtype=bool))
        # The patch around an object may hold its edge.
        spread = scenes.images.max(3).astype(int) - scenes.images.min(3)
        return float((spread[ground] > 150).mean())

    assert bright(distractors) > 0.05 > 10 * bright(plain)


def test_no_part_of_a_split_is_in_another():
    parts = {split: {stroke.tobytes() for stroke in strokes(split)} for split in ("train", "validation", "test")}
    assert all(len(part) > 1000 for part in parts.values())
    assert not set.intersection(*parts.values())
    assert not np.array_equal(draw_scenes("train", 3, seed=1).images, draw_scenes("test", 3, seed=1).images)


def test_objects_cover_a_minority_of_the_patches_and_never_overlap(scenes):
    patches = scenes.patches()
    share = (patches != NONE).mean()
    assert 0.05 < share < 0.09
    for row in range(len(scenes)):
        for slot in range(OBJECTS):
            side = CELLS[scenes.size[row, slot]] if slot < scenes.count(row) else 0
            assert (patches[row] == slot).sum() == side**2
            assert side == 0 or (scenes.cell[row, slot] + side <= GRID).all()


def test_objects_are_where_the_labels_say(scenes):
    """An object's own colour dominates the middle of its box."""
    middle = (PATCH * (scenes.cell[:, 0] + CELLS[scenes.size[:, 0]][:, None] / 2)).astype(int)
    levels = scenes.images[np.arange(len(scenes)), middle[:, 0], middle[:, 1]]
    for colour, channels in (("red", (255, 45, 45)), ("blue", (60, 105, 255)), ("white", (240, 240, 240))):
        square = (scenes.colour[:, 0] == COLOURS.index(colour)) & (scenes.kind[:, 0] == KINDS.index("square"))
        assert square.any()
        assert np.abs(levels[square].astype(int) - channels).max() < 45


def test_one_relation_alone_fits(scenes):
    """Along the relation's axis neighbours are apart, and further than across it."""
    middle = 2 * scenes.cell + CELLS[scenes.size][..., None]
    for slot in range(1, OBJECTS):
        rows = scenes.kind[:, slot] != NONE
        axis = np.where(scenes.relation[rows] == RELATIONS.index("left of"), 1, 0)
        step = middle[rows, slot] - middle[rows, slot - 1]
        along, across = (np.take_along_axis(step, column[:, None], 1)[:, 0] for column in (axis, 1 - axis))
        assert (along > np.abs(across)).all()
        edge = scenes.cell[rows, slot - 1] + CELLS[scenes.size[rows, slot - 1]][:, None]
        first = np.take_along_axis(scenes.cell[rows, slot], axis[:, None], 1)
        assert (first >= np.take_along_axis(edge, axis[:, None], 1)).all()


def test_captions_say_everything_in_known_words(scenes):
    captions = scenes.captions()
    assert {word for caption in captions for word in caption.split()} <= set(WORDS)
    joint = {0: " left of ", 1: " above "}
    for row, caption in enumerate(captions):
        parts = caption.split(joint[scenes.relation[row]]) if scenes.count(row) > 1 else [caption]
        assert parts == [
            f"a {SIZES[scenes.size[row, i]]} {COLOURS[scenes.colour[row, i]]} {KINDS[scenes.kind[row, i]]}"
            for i in range(scenes.count(row))
        ]


def test_shares_of_scenes_with_one_two_and_three_objects():
    many = draw_scenes("train", 600, seed=0, ground="plain")
    counts = np.bincount([many.count(row) for row in range(len(many))], minlength=4)[1:] / len(many)
    assert np.abs(counts - (0.3, 0.4, 0.3)).max() < 0.08
    single = draw_scenes("train", 20, seed=0, shares=(1.0, 0.0, 0.0))
    assert all(single.count(row) == 1 for row in range(20))
    assert (single.relation == NONE).all()


def test_questions_are_answered_by_the_scene(scenes):
    """Each answer again, from the caption's words and by another route."""
    questions, captions = ask(scenes, seed=3, per_scene=len(KINDS_OF_QUESTION)), scenes.captions()
    assert {question.kind for question in questions} == set(KINDS_OF_QUESTION)
    for question in questions:
        caption = captions[question.row]
        words = caption.replace(" left of ", "|").replace(" above ", "|").split("|")
        things = [tuple(part.split()[1:]) for part in words]
        asked = question.text.split()
        if question.kind == "colour":
            assert [c for _, c, k in things if k == asked[-1]] == [question.answer]
        elif question.kind == "size":
            assert [s for s, c, k in things if [c, k] == asked[-2:]] == [question.answer]
        elif question.kind in ("digit", "shape"):
            names = DIGITS if question.kind == "digit" else SHAPES
            assert [k for _, c, k in things if c == asked[-1] and k in names] == [question.answer]
        elif question.kind == "presence":
            assert question.answer == ("yes" if any([c, k] == asked[-2:] for _, c, k in things) else "no")
        elif question.kind == "count":
            noun = asked[2:-2]
            fits = {"things": lambda c, k: True, "digits": lambda c, k: k in DIGITS, "shapes": lambda c, k: k in SHAPES}
            test = fits[noun[0]] if len(noun) == 1 else (lambda c, k, colour=noun[0]: c == colour)
            assert question.answer == ["none", "one", "two", "three"][sum(test(c, k) for _, c, k in things)]
        else:
            place = [(c, k) for _, c, k in things].index(tuple(asked[-2:]))
            other = place - 1 if asked[2] in ("left", "above") else place + 1
            assert things[other][2] == question.answer
            assert (" above " in caption) == (asked[2] in ("above", "below"))


def test_questions_are_reproducible_and_balanced(scenes):
    assert ask(scenes, seed=1) == ask(scenes, seed=1) != ask(scenes, seed=2)
    assert len(ask(scenes, seed=1, per_scene=2)) == 2 * len(scenes)
    presence = [q.answer for q in ask(scenes, seed=1, per_scene=7) if q.kind == "presence"]
    assert 0.35 < presence.count("yes") / len(presence) < 0.65


def test_tokenizers_know_every_word():
    for tokenizer in (bert_tokenizer(), clip_tokenizer()):
        ids = tokenizer(" ".join(WORDS[:20])).input_ids
        assert len(ids) == 22
        assert tokenizer.decode(ids, skip_special_tokens=True).split() == list(WORDS[:20])


def test_unknown_names_are_refused():
    with pytest.raises(turbo.TurboError, match="choose one of plain, distractors"):
        draw_scenes("test", 1, seed=0, ground="grass")  # type: ignore[arg-type]
    with pytest.raises(turbo.TurboError, match="unknown split 'nope'"):
        draw_scenes("nope", 1, seed=0)  # type: ignore[arg-type]
    with pytest.raises(turbo.TurboError, match="choose one of plain, distractors"):
        turbo.zoo.digit_scenes("test", 1, seed=0, ground="grass")  # type: ignore[arg-type]
