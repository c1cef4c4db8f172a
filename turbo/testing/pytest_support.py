"""The way into the kit for pytest, which is imported only here and only when called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import turbo
from turbo.testing.entrances import FIRST, as_case, checks_of
from turbo.testing.results import NotApplicable

if TYPE_CHECKING:
    import pytest

ErrorT = TypeVar("ErrorT", bound=BaseException)


def parametrize_with_checks(cases: Iterable[Any]) -> pytest.MarkDecorator:
    """Decorate a test function of ``(case, check)`` that calls ``check(case)``: one test per case and check.

    Ids read ``vit-check_noop_is_exact``. An expected failure becomes a strict xfail with its reason, a promise that
    does not apply on this machine a skip. Where the first check of a case fails, the others are skipped.

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
        unusable: list[str] = []
        for check in checks_of(case):
            name = check.__name__
            reason = case.expected_failures.get(name)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            parameters.append(pytest.param(case, _for_pytest(check, unusable), id=f"{case.name}-{name}", marks=marks))
    return pytest.mark.parametrize(("case", "check"), parameters)


def _for_pytest(check: Callable[[Any], None], unusable: list[str]) -> Callable[[Any], None]:
    """The check with failures and skips that point at the test's own line, not into the kit.

    Args:
        check: a check.
        unusable: the case's own list, which the first check is added to where it fails; then the others are skipped.
    """
    import pytest

    @functools.wraps(check)
    def run(case: Any) -> None:
        __tracebackhide__ = True
        if unusable:
            pytest.skip(f"see {unusable[0]}")
        try:
            check(case)
        except NotApplicable as why:
            pytest.skip(str(why))
        except Exception as error:
            if check.__name__ in FIRST:
                unusable.append(check.__name__)
            if isinstance(error, AssertionError):
                raise AssertionError(str(error)) from (error.__cause__ and _without_kit(error.__cause__))
            raise _without_kit(error) from error.__cause__

    return run


def _without_kit(error: ErrorT) -> ErrorT:
    """The error with a traceback that begins in the code of the plug-in."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__package__") == __package__:
        frames = frames.tb_next
    return error.with_traceback(frames)
