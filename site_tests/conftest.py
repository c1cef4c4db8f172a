"""The site under test: what `make docs` built into site/, or the folder that the variable SITE names."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from built_site import ROOT, Site


@pytest.fixture(scope="session")
def site() -> Site:
    """The built site."""
    root = Path(os.environ.get("SITE", ROOT / "site"))
    if not (root / "index.html").is_file():
        pytest.fail(f"{root} holds no site: run `make docs`")
    return Site(root, urlsplit(os.environ.get("SITE_URL", "")).path.rstrip("/") + "/")
