"""Texts that match scenes, and those that do not."""

from __future__ import annotations

import numpy as np

from turbo import zoo
from turbo.zoo.pairs import MATCHED, MISMATCHES, matching_pairs
from turbo.zoo.train_blip_itm_scenes import wrong_words


def test_one_text_of_each_pair_matches_and_the_other_differs_as_it_says():
    scenes = zoo.draw_scenes("test", 300, seed=25)
    pairs, captions = matching_pairs(scenes, seed=1), scenes.captions()
    assert pairs == matching_pairs(scenes, seed=1) != matching_pairs(scenes, seed=2)
    assert [pair.row for pair in pairs] == np.repeat(np.arange(300), 2).tolist()
    assert [pair.matches for pair in pairs] == [True, False] * 300
    assert all((pair.text == captions[pair.row]) == pair.matches == (pair.kind == MATCHED) for pair in pairs)
    assert {pair.kind for pair in pairs[1::2]} == set(MISMATCHES)
    for pair in pairs[1::2]:
        own, other = captions[pair.row].split(), pair.text.split()
        if pair.kind in ("size", "colour", "object"):
            assert sum(a != b for a, b in zip(own, other, strict=True)) == 1
        elif pair.kind == "relation":
            before, after = ("left of", "above") if "left" in own else ("above", "left of")
            assert pair.text == captions[pair.row].replace(before, after)
        elif pair.kind == "order":
            assert sorted(own) == sorted(other)
        else:
            assert pair.text in captions


def test_texts_that_do_not_match_are_of_different_kinds():
    scenes = zoo.draw_scenes("test", 40, seed=26)
    pairs = matching_pairs(scenes, seed=0, mismatches=9)
    for row in range(40):
        kinds = [pair.kind for pair in pairs if pair.row == row]
        assert len(set(kinds)) == len(kinds)
        assert set(kinds) >= {MATCHED, "size", "colour", "object"}
        assert ("relation" in kinds) == (scenes.count(row) > 1)
    alone = matching_pairs(scenes[:1], seed=0, mismatches=9)
    assert "scene" not in {pair.kind for pair in alone}  # there is no other
    assert [pair.kind for pair in matching_pairs(scenes[:1], seed=0, mismatches=0)] == [MATCHED]


def test_words_are_wrong_one_by_one():
    """What training labels words by: a relation of another length moves words and makes none of them wrong."""
    caption = "a big blue ring left of a small red two"
    assert wrong_words(caption, caption) == [0] * 10
    assert wrong_words("a big red ring left of a small red two", caption) == [0, 0, 1] + [0] * 7
    assert wrong_words("a big blue ring above a small red two", caption) == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert wrong_words("a small red two left of a big blue ring", caption) == [0, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert wrong_words("a big blue ring above a small red two", "a big blue ring") == [0, 0, 0, 0, 1, 1, 1, 1, 1]
