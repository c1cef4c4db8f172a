"""The way into the kit for pytest, which is imported only here and only when called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import turbo
from turbo.testing.entrances import as_case, checks_of

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(cases: Iterable[Any]) -> pytest.MarkDecorator:
    """Decorate a test function of ``(case, check)`` that calls ``check(case)``: one test per case and check.

    Ids read ``vit-check_noop_is_exact``. An expected failure becomes a strict xfail with its reason, a promise that
    does not apply on this machine a skip.

    Args:
        cases: cases, or what `as_case` makes one of: adapters, strategies, registered names.

    Returns:
        The decorator.

    Raises:
        TurboError: not a list, or something in it is none of these.
    """
    import pytest

    if not isinstance(cases, Iterable) or isinstance(cases, str):
        raise turbo.TurboError(f"parametrize_with_checks({cases}): give a list of cases, [{cases}]")
    parameters = []
    for case in map(as_case, cases):
        for check in checks_of(case):
            name = check.__name__
            reason = case.expected_failures.get(name)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            parameters.append(pytest.param(case, check, id=f"{case.name}-{name}", marks=marks))
    return pytest.mark.parametrize(("case", "check"), parameters)
