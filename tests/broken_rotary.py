"""For what the kit checks of rotary positions a description that breaks it."""

from __future__ import annotations

from rotary_model import Placed, Rotary, SoundRotary, case_of_rotary
from toy_model import SoundBlock, case_of

CHECK = "check_merged_places_are_means"


class SwapsCosinesAndSines(SoundRotary):
    def given(self, cos, sin):
        return super().given(sin, cos)

    def rotate(self, q, k, cos, sin):
        return super().rotate(q, k, sin, cos)


class ReturnsToTheCircle(SoundRotary):
    """Makes a rotation of every mean of rotations. On a full sequence nobody sees it."""

    def rotate(self, q, k, cos, sin):
        length = (cos.square() + sin.square()).sqrt()
        return super().rotate(q, k, cos / length, sin / length)


class TurnsQueriesOnly(SoundRotary):
    def rotate(self, q, k, cos, sin):
        turned, _ = super().rotate(q, k, cos, sin)
        return turned, k


class MisspellsTheArgument(SoundRotary):
    argument = "place"


class KnowsNoPlaces(Rotary):
    block = SoundBlock


BROKEN = [
    (CHECK, lambda _: case_of_rotary(SwapsCosinesAndSines), r"given\(\) does not undo turns\(\), cosines come back"),
    (CHECK, lambda _: case_of_rotary(ReturnsToTheCircle), "a score at mean places is not the mean of the scores"),
    ("check_maps_are_the_block", lambda _: case_of_rotary(TurnsQueriesOnly), "the attention half differs"),
    (
        "check_description_is_usable",
        lambda _: case_of_rotary(MisspellsTheArgument),
        r"PlacedBlock was called with places = a tensor of shape \(24, 16\)|called with places, a tensor",
    ),
    ("check_description_is_usable", lambda _: case_of(KnowsNoPlaces, Placed), "called with places, a tensor"),
]
"""As in broken_adapters."""
