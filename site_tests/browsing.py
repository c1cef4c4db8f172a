"""A window of headless Chromium that remembers what went wrong in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """The machine's own Chromium, headless. Where there is none the test is skipped, or fails by REQUIRE_BROWSER."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if not path:
        stop = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        stop(f"needs a browser, one of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Visit:
    """A window with settings of its own; errors in it, and requests that leave `address`, become problems."""

    def __init__(self, browser: Browser, address: str, script: str, **settings: Any) -> None:
        """Open the window; `script` runs in each page before its own."""
        self.address, self.problems = address, list[str]()
        self.page = browser.new_context(**{"reduced_motion": "reduce", **settings}).new_page()  # colours change at once
        if script:
            self.page.add_init_script(script)
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("requestfailed", self._on_failure)

    def open(self, name: str) -> None:
        """Go to a page of the site and wait until all is loaded."""
        self.page.goto(self.address + name, wait_until="load")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self._note(f"asks for {request.url}")

    def _on_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by going on to the next page
            self._note(f"{request.url}: {request.failure}")

    def _note(self, text: str) -> None:
        self.problems.append(f"{self.page.url.removeprefix(self.address)}: {text}")

    def __enter__(self) -> Visit:
        """This window."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.page.context.close()
