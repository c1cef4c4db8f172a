"""What a check found."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from unittest import SkipTest

import torch

import turbo

CaseT = TypeVar("CaseT")
Outcome = Literal["passed", "failed", "expected failure", "unexpected pass", "not applicable", "not run"]


class NotApplicable(SkipTest):
    """A promise that a case cannot be asked for, such as one about a device that is not there. Pytest skips on it."""


@dataclass(frozen=True)
class Result:
    """One check of one case.

    Attributes:
        case: name of the case.
        check: name of the check.
        outcome: "passed", "failed", "expected failure", "unexpected pass", "not applicable", or "not run" where the
            first check of all failed.
        detail: what was found, or the reason; empty where the check passed.

    Examples:
        >>> Result("vit", "check_noop_is_exact", "unexpected pass").ok
        False
    """

    case: str
    check: str
    outcome: Outcome
    detail: str = ""

    @property
    def ok(self) -> bool:
        """False for a failure, and for a pass that was declared to fail: take it off the list then."""
        return self.outcome not in ("failed", "unexpected pass")


def run_check(check: Callable[[CaseT], None], case: CaseT, name: str, reason: str | None) -> Result:
    """Run one check.

    Args:
        check: the check.
        case: what it is run on.
        name: the case's name.
        reason: why the check is expected to fail, None where it is not.

    Returns:
        What happened. No exception of the adapter or strategy gets out.
    """
    label = check.__name__
    try:
        check(case)
    except NotApplicable as why:
        return Result(name, label, "not applicable", str(why))
    except Exception as error:
        if reason is not None:
            return Result(name, label, "expected failure", reason)
        return Result(name, label, "failed", _describe(error))
    if reason is not None:
        return Result(
            name, label, "unexpected pass", f"passes, but expected_failures says: {reason!r}; take the entry off"
        )
    return Result(name, label, "passed")


def _describe(error: Exception) -> str:
    """A failed promise, or what turbo says, in its own words; any other exception with its type and place."""
    if isinstance(error, AssertionError | turbo.TurboError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}{place_of(error)}"


def place_of(error: Exception) -> str:
    """The innermost line that is neither torch's nor turbo's: its author can do something about it."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        frame for frame in frames if not frame.filename.startswith(_INSIDE) or frame.filename.startswith(_PLUGINS)
    ]
    frame = (theirs or frames)[-1]
    return f" ({Path(frame.filename).name}, line {frame.lineno})"


_HOME = Path(turbo.__file__).parent
_INSIDE = tuple(f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, _HOME))
_PLUGINS = tuple(f"{_HOME / folder}{os.sep}" for folder in ("adapters", "fusion"))
