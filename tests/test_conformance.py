"""turbo's own adapters and strategies go through the conformance kit, by the door that plug-ins use."""

from __future__ import annotations

import os

import pytest
from denoisers import DENOISERS
from families import FAMILIES

import turbo
from turbo.testing import check_adapter, parametrize_with_checks

COMPILED = {
    "vit",
    "dinov2-registers-classifier",
    "timm-no-class-avg",
    "clip-vision",
    "open-clip-avg",
    "blip-vision",
    "blip-2-vision",
    "siglip-vision",
    "owlvit",
    "clipseg",
    "llava",
    "dinov3",
    "timm-eva02",
    "sd1",
}
"""One model per adapter, with and without a restored output, stands for all: compiling takes seconds each."""


@parametrize_with_checks([*(family.case for family in FAMILIES), *DENOISERS])
def test_adapters(case, check):
    if check.__name__ == "check_compiles" and case.name not in COMPILED and "TURBO_COMPILE_ALL" not in os.environ:
        pytest.skip("one model for each adapter stands for all; set TURBO_COMPILE_ALL to compile every one")
    check(case)


@parametrize_with_checks(turbo.list_strategies())
def test_strategies(case, check):
    check(case)


@pytest.mark.parametrize("name", turbo.list_adapters())
def test_examples(name):
    """What `turbo check NAME` runs on; the families above are checked in full."""
    only = ["check_is_found_by_itself", "check_maps_are_the_block", "check_token_counts_follow_schedule"]
    if name == "unet":
        only[1:] = ["check_attention_is_as_described", "check_parts_run_on_fewer_tokens"]
    assert {result.check: result.outcome for result in check_adapter(name, only=only)} == dict.fromkeys(only, "passed")


def test_every_adapter_and_every_compiled_family_is_there():
    cases = [*(family.case for family in FAMILIES), *DENOISERS]
    assert {case.adapter for case in cases} == set(turbo.list_adapters())
    assert {case.name for case in cases} >= COMPILED
    assert {case.adapter for case in cases if case.name in COMPILED} == set(turbo.list_adapters())
