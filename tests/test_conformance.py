"""turbo's own adapters and strategies go through the conformance kit, by the door that plug-ins use."""

from __future__ import annotations

import os

import pytest
from families import FAMILIES

import turbo
from turbo.testing import check_adapter, parametrize_with_checks

COMPILED = {"vit", "dinov2-registers-classifier", "timm-no-class-avg", "clip-vision", "open-clip-avg", "blip-vision"}
"""One model per adapter, with and without a restored output, stands for all: compiling takes seconds each."""


@parametrize_with_checks([family.case for family in FAMILIES])
def test_adapters(case, check):
    if check.__name__ == "check_compiles" and case.name not in COMPILED and "TURBO_COMPILE_ALL" not in os.environ:
        pytest.skip("six models stand for all; set TURBO_COMPILE_ALL to compile every one")
    check(case)


@parametrize_with_checks(turbo.list_strategies())
def test_strategies(case, check):
    check(case)


@pytest.mark.parametrize("name", turbo.list_adapters())
def test_examples(name):
    """What `turbo check NAME` runs on; the families above are checked in full."""
    only = ["check_is_found_by_itself", "check_maps_are_the_block", "check_token_counts_follow_schedule"]
    assert {result.check: result.outcome for result in check_adapter(name, only=only)} == dict.fromkeys(only, "passed")


def test_every_adapter_and_every_compiled_family_is_there():
    assert {family.adapter for family in FAMILIES} == set(turbo.list_adapters())
    assert {family.name for family in FAMILIES} >= COMPILED
    assert {family.adapter for family in FAMILIES if family.name in COMPILED} == set(turbo.list_adapters())
