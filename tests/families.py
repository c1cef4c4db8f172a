"""Every supported vision tower as a small model with random weights. UNets are in `denoisers`."""

from __future__ import annotations

from functools import cache

from families_language import LANGUAGE
from families_open_clip import OPEN_CLIP
from families_timm import TIMM
from families_transformers import TRANSFORMERS
from family import Family

FAMILIES = [*TRANSFORMERS, *LANGUAGE, *TIMM, *OPEN_CLIP]


@cache
def family(name: str) -> Family:
    """A family by name."""
    return next(f for f in FAMILIES if f.name == name)
