"""`make screenshots`: the pictures of the documentation, docs/images/*.png, from real runs in a headless Chromium.

Each picture is made light and dark. What the runs do not offer yet, such as a search, is left out and said.
`make screenshots ARGS="--runs FOLDER --only search,play"` makes some of them from other runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agents.checkpoint import CHECKPOINT  # noqa: E402
from agents.run_folder import write_atomically  # noqa: E402
from configs.errors import UserError, leave  # noqa: E402
from watch.board import Board  # noqa: E402
from watch.browser import chromium  # noqa: E402
from watch.deployment_report import find_logs, write_log_report  # noqa: E402
from watch.report import write_report  # noqa: E402
from watch.run_reader import Run, find_runs, read_run  # noqa: E402
from watch.search_report import write_search_report  # noqa: E402
from watch.search_tree import summary  # noqa: E402

LIMIT = 380_000
"""Bytes of a picture; a page that shows it should load at once."""
SIZE = {"width": 1280, "height": 800}
SCHEMES = ("light", "dark")
PLAY_SIZE = {"width": 1440, "height": 900}
"""The viewer has panels on both sides."""

Prepare = Callable[[Any], None]


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


def board_view(view: str, picked: list[Run]) -> Prepare:
    """The board's view with these runs selected."""

    def prepare(tab: Any) -> None:
        for run in picked:
            tab.locator("#runs tr[data-id]").filter(has_text=run.name).first.locator("input").click()
        tab.click(f"button[data-view={view}]")
        if view == "videos":
            playing(tab)
        elif view == "compare":
            tab.wait_for_selector("#chart-fitness .main-svg")

    return prepare


def table(tab: Any) -> None:
    tab.click("[data-sort=fitness]")


def fitness(run: Run) -> float:
    """As the board shows it: of the evaluation, else the last while training."""
    main = run.evaluation.main
    return main.fitness.mean if main and main.fitness else run.progress.last("fitness") or 0.0


def best(runs: list[Run], wanted: Callable[[Run], bool]) -> Run | None:
    """Of the runs that qualify, the one with the highest fitness."""
    return max((run for run in runs if wanted(run)), key=fitness, default=None)


def finished(runs: list[Run]) -> list[Run]:
    """Finished trainings of the best one's task, best first, each training once; a search's candidates are left out.

    A run may be a copy of another with something redone; its learning curves tell.
    """
    trained = (run for run in runs if run.state == "finished" and run.record.get("kind") == "train")
    done = [run for run in trained if len(run.progress) > 1]
    done.sort(key=lambda run: (run.video is not None, fitness(run)), reverse=True)
    seen: dict[tuple[float | None, ...], Run] = {}
    for run in done:
        if run.task == done[0].task:
            seen.setdefault(tuple(run.progress.scalars.get("fitness", ())), run)
    return list(seen.values())


class Studio:
    """Takes the pictures that were asked for and keeps what could not be taken."""

    def __init__(self, browser: Any, output: Path, only: set[str]) -> None:
        self.browser, self.output, self.only = browser, output, only
        self.missing: list[str] = []

    def wants(self, part: str) -> bool:
        return not self.only or part in self.only

    def page(self, page: Path, name: str, prepare: Prepare = lambda tab: None) -> None:
        """NAME.png and NAME-dark.png of the page, once `prepare` has brought it where it should be."""
        for scheme in SCHEMES:
            context = self.browser.new_context(viewport=SIZE, color_scheme=scheme)
            tab = context.new_page()
            tab.set_default_timeout(120_000)
            tab.goto(page.resolve().as_uri(), wait_until="load")
            prepare(tab)
            tab.wait_for_timeout(700)
            self.keep(name, scheme, tab.screenshot())
            context.close()

    def play(self, name: str, run: Run, other: Run | None = None) -> None:
        """The viewer at work; needs a browser with WebGL."""
        from watch.play_screenshot import screenshot

        beside = None if other is None else other.path
        with tempfile.TemporaryDirectory() as folder:
            for scheme in SCHEMES:
                path = Path(folder) / "play.png"
                screenshot(run.path, path, dark=scheme == "dark", other=beside, browser=self.browser, **PLAY_SIZE)
                self.keep(name, scheme, path.read_bytes())

    def keep(self, name: str, scheme: str, png: bytes) -> None:
        file = self.output / f"{name}{'' if scheme == 'light' else '-dark'}.png"
        write_atomically(file, small(png))
        print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}  {file.stat().st_size / 1e3:.0f} kB")


def reports(studio: Studio, runs: list[Run]) -> None:
    shown = best(runs, lambda run: run.state == "finished" and run.video is not None and bool(run.evaluation.sets))
    if shown is None:
        studio.missing.append("reports: no finished run with an evaluation and a video")
    else:
        page = write_report(shown.path)
        studio.page(page, "report", playing)
        studio.page(page, "report-curves", section("#curves"))
        if shown.episodes:
            studio.page(page, "report-survival", section("#survival"))
    grown = best(runs, lambda run: bool(run.stages))
    if grown is None:
        studio.missing.append("the skill growing: no run with films of its stages")
    else:
        studio.page(write_report(grown.path), "report-stages", section("#stages"))


def boards(studio: Studio, runs: list[Run], board: Board) -> None:
    page, trained = board.write(), finished(runs)
    studio.page(page, "board", table)
    filmed = [run for run in trained if run.video is not None or run.stages]
    if filmed:
        studio.page(page, "board-videos", board_view("videos", filmed[:4]))
    else:
        studio.missing.append("videos side by side: no finished run with a video")
    if len(trained) > 1:
        studio.page(page, "board-compare", board_view("compare", trained[:2]))
    else:
        studio.missing.append("a comparison: fewer than two different trainings of one task")


def searches(studio: Studio, board: Board) -> None:
    found = [search for search in board.catalog.searches.found.values() if search.candidates]
    if not found:
        studio.missing.append("the tree of a search: no search below runs/sweeps")
        return
    most = max(found, key=lambda search: (search.state == "finished", search.cost_usd, summary(search)["trained"]))
    studio.page(write_search_report(board.runs / "sweeps" / most.id), "search")


def deployments(studio: Studio, runs: list[Run]) -> None:
    deployed = best(runs, lambda run: bool(find_logs(run.path)))
    if deployed is None:
        studio.missing.append("deployment: no run with a log in its deploy/ folder")
        return
    page = write_log_report(find_logs(deployed.path)[0])
    studio.page(page, "deployment")
    studio.page(page, "deployment-joints", section("#commands"))


def viewers(studio: Studio, runs: list[Run]) -> None:
    playable = [run for run in finished(runs) if (run.path / CHECKPOINT).is_file()]
    if not playable:
        studio.missing.append("the robot in the browser: no finished run with a checkpoint")
        return
    studio.play("play", playable[0])
    if len(playable) > 1:
        studio.play("play-two", playable[0], playable[1])


def main() -> None:
    parts = ("report", "board", "search", "deployment", "play")
    parser = argparse.ArgumentParser(description="Make the documentation's pictures of reports, board and viewer.")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="the folder of the runs (default: runs)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", default="", help=f"some of {','.join(parts)} (default: all)")
    arguments = parser.parse_args()
    only = set(filter(None, arguments.only.split(",")))
    if unknown := sorted(only - set(parts)):
        raise UserError(f"--only {unknown[0]!r} is unknown; valid: {', '.join(parts)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    board = Board(arguments.runs)
    runs = [read_run(path) for path in find_runs(arguments.runs)]
    with chromium(webgl=True) as browser:
        studio = Studio(browser, arguments.output, only)
        steps: dict[str, Callable[[], None]] = {
            "report": lambda: reports(studio, runs),
            "board": lambda: boards(studio, runs, board),
            "search": lambda: searches(studio, board),
            "deployment": lambda: deployments(studio, runs),
            "play": lambda: viewers(studio, runs),
        }
        for part, step in steps.items():
            if studio.wants(part):
                step()
    for line in studio.missing:
        print(f"left out, {line}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        leave(error)
