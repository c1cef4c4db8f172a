"""Which share of its tokens each part merges: what users may ask for, and what they are told."""

from __future__ import annotations

import math

import pytest

import turbo
from turbo.ratios import Ratios

PARTS = ("self_attention", "cross_attention", "feed_forward")


def parse(ratio, most=0.75, default=("self_attention",)):
    return Ratios.parse(ratio, PARTS, default, most)


@pytest.mark.parametrize("ratio", [0, 0.0, 0.3, 0.75, 1e-9])
def test_one_ratio_is_for_the_default_parts(ratio):
    assert parse(ratio).at(None) == {"self_attention": ratio}
    both = parse(ratio, default=PARTS[:2])
    assert both.at(7.0) == {"self_attention": ratio, "cross_attention": ratio}


def test_ratios_by_part_are_for_those_alone():
    ratios = parse({"feed_forward": 0.5, "cross_attention": 0})
    assert ratios.at(None) == {"feed_forward": 0.5, "cross_attention": 0.0}
    assert not ratios.varies


def test_functions_are_called_with_the_timestep():
    asked = []

    def half_early(timestep):
        asked.append(timestep)
        return 0.5 if timestep > 500 else 0

    ratios = parse({"self_attention": half_early, "feed_forward": 0.25})
    assert ratios.varies
    assert asked == []
    assert ratios.at(800.0) == {"self_attention": 0.5, "feed_forward": 0.25}
    assert ratios.at(200.0) == {"self_attention": 0.0, "feed_forward": 0.25}
    assert asked == [800.0, 200.0]
    assert parse(half_early).at(501.0) == {"self_attention": 0.5}


@pytest.mark.parametrize(
    ("ratio", "off"),
    [(0, True), (0.0, True), ({"self_attention": 0, "feed_forward": 0.0}, True), (0.1, False), (lambda t: 0, False)],
)
def test_off(ratio, off):
    assert parse(ratio).is_off() is off


@pytest.mark.parametrize("bad", [-0.1, 0.76, 1, math.nan, math.inf, -math.inf, "0.5", True, False, None, [0.5], 0.5j])
def test_what_is_no_fraction_is_refused(bad):
    with pytest.raises(turbo.TurboError, match=r"ratio is .*: must be a fraction from 0 to 0.75 of the tokens"):
        parse(bad)
    with pytest.raises(turbo.TurboError, match=r"ratio of feed_forward is .*: must be a fraction from 0 to 0.75"):
        parse({"self_attention": 0.5, "feed_forward": bad})
    with pytest.raises(turbo.TurboError, match=r"ratio of self_attention at timestep 3 is .*: must be a fraction"):
        parse(lambda timestep: bad).at(3.0)


def test_the_bound_is_that_of_the_destinations():
    assert parse(0.5, most=0.5).at(None) == {"self_attention": 0.5}
    with pytest.raises(turbo.TurboError, match=r"from 0 to 0.5 of the tokens"):
        parse(0.51, most=0.5)


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        ({}, r"ratio=\{\}: name a part that is to merge, some of self_attention, cross_attention, feed_forward"),
        ({"attn": 0.5}, "part 'attn': this model's blocks have self_attention, cross_attention, feed_forward"),
    ],
)
def test_parts_are_known(ratio, message):
    with pytest.raises(turbo.TurboError, match=message):
        parse(ratio)


def test_the_whole_message_of_a_ratio_out_of_range():
    with pytest.raises(turbo.TurboError) as caught:
        Ratios({"self_attention": 0.9})
    assert str(caught.value) == (
        "ratio is 0.9: must be a fraction from 0 to 0.75 of the tokens (the others are the destinations), or a "
        "function of the timestep that returns one"
    )
