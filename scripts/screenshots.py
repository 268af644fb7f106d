"""`make screenshots`: the pictures of the documentation, docs/images/*.png, from real runs in a headless Chromium.

Each picture is made light and dark. What the runs do not offer yet, such as a search, is left out and said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agents.run_folder import write_atomically  # noqa: E402
from configs.errors import UserError, leave  # noqa: E402
from watch.board import Board  # noqa: E402
from watch.deployment_report import find_logs, write_log_report  # noqa: E402
from watch.report import write_report  # noqa: E402
from watch.run_reader import Run, find_runs, read_run  # noqa: E402

LIMIT = 300_000
"""Bytes of a picture; a page that shows it should load at once."""
SIZE = {"width": 1280, "height": 800}
SCHEMES = ("light", "dark")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
          "--autoplay-policy=no-user-gesture-required"]  # fmt: skip

Prepare = Callable[[Any], None]


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser. Raises UserError, saying what to install, where there is none."""
    path = os.environ.get("GANTRY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise UserError("screenshots need playwright; install gantry-lab[dev]") from None
    if path is None:
        raise UserError("no Chromium found; apt-get install chromium, or set GANTRY_CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def small(png: bytes) -> bytes:
    """The picture within LIMIT: as it is, else with fewer colors, else smaller."""
    from PIL import Image

    picture = Image.open(BytesIO(png)).convert("RGB")
    for colors, scale in ((None, 1.0), (256, 1.0), (128, 1.0), (128, 0.8), (64, 0.65)):
        size = (round(picture.width * scale), round(picture.height * scale))
        shown = picture.resize(size, Image.Resampling.LANCZOS) if scale < 1 else picture
        if colors is not None:
            shown = shown.quantize(colors, dither=Image.Dither.FLOYDSTEINBERG)  # type: ignore[assignment]
        out = BytesIO()
        shown.save(out, "PNG", optimize=True)
        if out.tell() <= LIMIT:
            break
    return out.getvalue()


def take(browser: Any, page: Path, name: str, output: Path, prepare: Prepare) -> None:
    """NAME.png and NAME-dark.png of the page, once `prepare` has brought it where it should be."""
    for scheme in SCHEMES:
        context = browser.new_context(viewport=SIZE, color_scheme=scheme)
        tab = context.new_page()
        tab.set_default_timeout(120_000)
        tab.goto(page.resolve().as_uri(), wait_until="load")
        prepare(tab)
        tab.wait_for_timeout(700)
        file = output / f"{name}{'' if scheme == 'light' else '-dark'}.png"
        write_atomically(file, small(tab.screenshot()))
        context.close()
        print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}  {file.stat().st_size / 1e3:.0f} kB")


def playing(tab: Any, at_s: float = 1.5) -> None:
    """Until the page's videos play, for at most ten seconds; a picture of their first frame says little."""
    moving = f"[...document.querySelectorAll('video')].some(v => v.currentTime > {at_s})"
    for _ in range(100):
        if tab.evaluate(moving):
            return
        tab.wait_for_timeout(100)


def section(selector: str) -> Prepare:
    """Scrolls there, below the bar, and waits for what is drawn when it comes near."""

    def prepare(tab: Any) -> None:
        for _ in range(2):  # charts that are drawn on the way may move it
            tab.evaluate(
                f"scrollTo(0, document.querySelector('{selector}').getBoundingClientRect().top + scrollY - 70)"
            )
            tab.wait_for_timeout(1200)

    return prepare


def board_view(view: str, *, select: int = 0) -> Prepare:
    """The board's view, with that many finished runs of the task that has most of them selected."""

    def prepare(tab: Any) -> None:
        if select:
            tasks = tab.locator("#runs tbody tr:has(.state-finished) .col-task").all_inner_texts()
            tab.select_option("#task", max(set(tasks), key=tasks.count) if tasks else "")
        rows = tab.locator("#runs tbody tr:has(.state-finished) input")
        for k in range(min(select, rows.count())):
            rows.nth(k).click()
        tab.click(f"button[data-view={view}]")
        if view == "videos":
            playing(tab)
        elif view == "compare":
            tab.wait_for_selector("#chart-fitness .main-svg")

    return prepare


def table(tab: Any) -> None:
    tab.click("[data-sort=fitness]")


def best(runs: list[Run], wanted: Callable[[Run], bool]) -> Run | None:
    """Of the runs that qualify, the one with the highest fitness."""
    fitness = lambda run: run.evaluation.main.fitness.mean if run.evaluation.main else 0.0  # noqa: E731
    return max((run for run in runs if wanted(run)), key=fitness, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the documentation's pictures of reports and board.")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="the folder of the runs (default: runs)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    board = Board(arguments.runs)
    runs = [read_run(path) for path in find_runs(arguments.runs)]
    shown = best(runs, lambda run: run.state == "finished" and run.video is not None and bool(run.evaluation.sets))
    deployed = best(runs, lambda run: bool(find_logs(run.path)))
    grown = best(runs, lambda run: bool(run.stages))
    missing = []
    with chromium() as browser:
        shoot = lambda page, name, prepare: take(browser, page, name, arguments.output, prepare)  # noqa: E731
        if shown is not None:
            page = write_report(shown.path)
            shoot(page, "report", playing)
            shoot(page, "report-curves", section("#curves"))
            if shown.episodes:
                shoot(page, "report-survival", section("#survival"))
        else:
            missing.append("reports: no finished run with an evaluation and a video")
        if grown is not None:
            shoot(write_report(grown.path), "report-stages", section("#stages"))
        else:
            missing.append("the skill growing: no run with films of its stages")
        if deployed is not None:
            page = write_log_report(find_logs(deployed.path)[0])
            shoot(page, "deployment", lambda tab: None)
            shoot(page, "deployment-joints", section("#commands"))
        else:
            missing.append("deployment: no run with a log in its deploy/ folder")
        page = board.write()
        shoot(page, "board", table)
        shoot(page, "board-videos", board_view("videos", select=4))
        shoot(page, "board-compare", board_view("compare", select=2))
        if board.catalog.searches.found:
            shoot(page, "board-search", board_view("searches"))
        else:
            missing.append("the tree of a search: no search below runs/sweeps")
    for line in missing:
        print(f"left out, {line}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        leave(error)
