"""Settings of all test folders."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A TurboWarning that a test does not expect fails it; set in the ini file, it would import turbo too early."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("error::turbo.TurboWarning"))
