"""A picture of the viewer at work, as the documentation shows it, taken in a real headless Chromium."""

from __future__ import annotations

import os
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from configs.errors import UserError
from watch.browser import chromium

_FRAMES_PER_S = 5.0
"""Enough for one picture: software draws slowly, and would take the cores that the robots need for real time."""

_FADE_FRAMES = 40
"""viser fades a new scene in frame by frame, and software may draw two of them a second."""
_AFTER_FRAMES = """count => new Promise((done) => {
  const next = () => count-- > 0 ? requestAnimationFrame(next) : done();
  next();
})"""
_CLOSE_NOTES = """() => {
  const buttons = document.querySelectorAll('.mantine-Notification-closeButton');
  buttons.forEach((button) => button.click());
  return buttons.length === 0;
}"""


def screenshot(
    run: Path,
    path: Path,
    *,
    dark: bool = False,
    other: Path | None = None,
    width: int = 1440,
    height: int = 900,
    walk_m: float = 4.0,
    timeout_s: float = 240.0,
    browser: Any = None,
) -> Path:
    """Plays a run, holds the key W until the robot has walked, and writes a PNG of the page. Returns the path.

    Args:
        run: the run's folder.
        path: the PNG; it appears once it is complete.
        dark: the page's colors.
        other: a second run, to be shown beside the first.
        width: of the page [pixel].
        height: of the page [pixel].
        walk_m: how far the first robot walks; a robot that takes no commands plays for four seconds.
        timeout_s: how long the whole may take.
        browser: a running Chromium of playwright, with WebGL; None starts one.

    Raises:
        UserError: a run cannot be played, or there is no Chromium or no playwright,
            or the robot does not walk so far in time.
    """
    from watch.play_session import Session

    with chromium(webgl=True) if browser is None else nullcontext(browser) as used:
        session = Session([run] if other is None else [run, other], dark=dark, frames_per_s=_FRAMES_PER_S)
        stop = threading.Event()
        loop = threading.Thread(target=session.run, args=(stop,), daemon=True)
        loop.start()
        try:
            scheme = "dark" if dark else "light"
            page = used.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.set_default_timeout(timeout_s * 1000)
            page.goto(session.door.address)
            settle(page)
            page.keyboard.down("w")
            _until_walked(page, session, walk_m, timeout_s)
            page.evaluate(_AFTER_FRAMES, _FADE_FRAMES)
            partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.png")
            page.screenshot(path=partial)
            page.keyboard.up("w")
            page.close()
            os.replace(partial, path)
        finally:
            stop.set()
            loop.join()
            session.close()
    return path


def settle(page: Any) -> None:
    """Waits until the page shows robots, and closes the note that WebGL runs in software."""
    page.wait_for_function("() => window.gantryPlay && document.querySelector('canvas')")
    page.wait_for_timeout(3000)  # the meshes, and the note, come a moment later
    # In one go, since a note may leave by itself between being found and being clicked.
    page.wait_for_function(_CLOSE_NOTES, polling=400)


def _until_walked(page: Any, session: Any, walk_m: float, timeout_s: float) -> None:
    start, began, end = session.scene.base(0), session.robots[0].time_s, time.monotonic() + timeout_s
    while time.monotonic() < end:
        page.wait_for_timeout(100)
        far = ((session.scene.base(0) - start)[:2] ** 2).sum() ** 0.5
        if far >= walk_m or (not session.drive.axes and session.robots[0].time_s - began >= 4.0):
            return
    raise UserError(f"the robot has not walked {walk_m:g} m within {timeout_s:g} s")
