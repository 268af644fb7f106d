"""This machine's Chromium, headless, through playwright: for pictures, benchmarks and tests of what people see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from configs.errors import UserError

_FLAGS = (
    "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
_FLAT = ("--disable-gpu",)
_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""WebGL in software: nothing else draws 3D where there is no screen."""


def executable() -> str:
    """Path of the browser. Raises UserError, saying what to install, where there is none."""
    found = os.environ.get("GANTRY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise UserError("no Chromium found; apt-get install chromium, or set GANTRY_CHROMIUM to its path")
    return found


def launch(browser_type: Any, *, webgl: bool = False) -> Any:
    """Starts the browser through playwright's browser type. Raises UserError where there is none."""
    flags = [*_FLAGS, *(_WEBGL if webgl else _FLAT)]
    return browser_type.launch(executable_path=executable(), headless=True, args=flags)


@contextmanager
def chromium(*, webgl: bool = False) -> Iterator[Any]:
    """A running browser with a fresh profile; `webgl` draws 3D, in software.

    Raises:
        UserError: there is no Chromium, or no playwright.
    """
    executable()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UserError("playwright is not installed; install gantry-lab[dev]") from None
    with sync_playwright() as playwright:
        browser = launch(playwright.chromium, webgl=webgl)
        try:
            yield browser
        finally:
            browser.close()
