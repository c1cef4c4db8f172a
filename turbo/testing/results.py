"""What a check found."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from unittest import SkipTest

CaseT = TypeVar("CaseT")
Outcome = Literal["passed", "failed", "expected failure", "unexpected pass", "not applicable"]


class NotApplicable(SkipTest):
    """A promise that a case cannot be asked for, such as one about a device that is not there. Pytest skips on it."""


@dataclass(frozen=True)
class Result:
    """One check of one case.

    Attributes:
        case: name of the case.
        check: name of the check.
        outcome: "passed", "failed", "expected failure", "unexpected pass" or "not applicable".
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
        return Result(name, label, "unexpected pass", f"it was expected to fail: {reason}")
    return Result(name, label, "passed")


def _describe(error: Exception) -> str:
    """A failed promise in its own words; any other exception with its type and place."""
    if isinstance(error, AssertionError):
        return str(error) or "AssertionError"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
