"""A real headless Chromium for the tests, without a network: Debian's, driven by playwright."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from configs.errors import UserError
from watch.browser import chromium as run_chromium
from watch.browser import executable


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a fresh profile. Skips the test, saying what to install, where there is none."""
    pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    try:
        executable()
    except UserError as error:
        pytest.skip(str(error))
    with run_chromium() as running:
        yield running


class Visit:
    """An open page and everything that went wrong or out on it."""

    def __init__(self, browser: Any, url: str, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # the machine may be busy training
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        self.page.on("dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url, wait_until="load", timeout=120_000)

    def wait(self, condition: str, timeout_s: float = 120.0) -> None:
        """Until the expression is true. Asked from outside, since the page's own policy forbids to evaluate text."""
        end = time.monotonic() + timeout_s
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"never true within {timeout_s:g} s: {condition}"
            self.page.wait_for_timeout(50)

    @property
    def foreign(self) -> list[str]:
        """Requests that leave the page and its folder."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1"))]

    def close(self) -> None:
        self.context.close()
