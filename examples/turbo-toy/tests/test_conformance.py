"""The adapter and the strategy keep every promise that turbo's own ones keep."""

from turbo.testing import parametrize_with_checks


@parametrize_with_checks(["toy", "keep_big"])
def test_turbo_conformance(case, check):
    """One test per case and check, such as toy-check_noop_is_exact."""
    check(case)
