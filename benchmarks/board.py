"""How fast the board of many runs opens.

    python -m benchmarks.board RUN [--runs 1000] [--repeat 5]

Builds so many run folders from one real run, each with its own name, task settings, learning curves and evaluation;
every tenth is failed, killed or broken. Writes the board and opens it from disk in headless Chromium:

`open_s` is the wall time from asking for the page until its table stands there and has answered a click that sorts it,
in a browser that runs already; the median of `--repeat` fresh profiles. `cold_s` is the same once, with the browser's
own start. `write_s` is what `gantry board` takes to read all runs and write the page, `again_s` what it takes to look
whether anything has changed, as `--watch` does every few seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from agents.run_folder import git_commit, machine, versions
from configs.errors import UserError, leave
from watch.board import Board
from watch.browser import chromium

LIMIT_S = 2.0
_LINKED = ("video.mp4", "reward.py", "randomization.yaml")
"""Files that do not differ; linked, since a thousand videos would say nothing more."""
_FIRST_ROW = "#runs tbody tr:first-child"


def build(source: Path, runs: Path, count: int) -> None:
    """`count` runs from one, below `runs`. Raises UserError where `source` is no complete run."""
    try:
        record = json.loads((source / "run.json").read_text())
        config = (source / "config.yaml").read_text()
        evaluation = json.loads((source / "evaluation.json").read_text())
        rows = [json.loads(line) for line in (source / "progress.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{source} cannot be copied: {error}; give a finished and evaluated run") from error
    draw = random.Random(0)
    shared = runs / ".shared"
    shared.mkdir()
    linked = [name for name in _LINKED if (source / name).is_file()]
    for name in linked:
        shutil.copyfile(source / name, shared / name)
    for i in range(count):
        skill = draw.uniform(0.3, 1.1)
        stamp = f"2026-{1 + i % 12:02d}-{1 + i % 28:02d}_{i % 24:02d}-{i % 60:02d}-{(7 * i) % 60:02d}"
        run = runs / record["task"] / f"{stamp}-sweep{i:04d}"
        run.mkdir(parents=True)
        for name in linked:
            os.link(shared / name, run / name)
        state = "failed" if i % 30 == 3 else "running" if i % 30 == 13 else "finished"
        command = ["gantry train", f"task={record['task']}", f"seed={i}", f"ppo.gamma={0.9 + i % 99 / 1e3:.3f}"]
        said = "MemoryError: simulations need 7.1 GB" if state == "failed" else None
        own = {
            "state": state,
            "error": said,
            "command": command,
            "seconds": record["seconds"] * draw.uniform(0.8, 1.4),
        }
        (run / "run.json").write_text("{" if i % 30 == 23 else json.dumps(record | own))
        (run / "config.yaml").write_text(f"{config}sweep_seed: {i}\n")
        (run / "progress.jsonl").write_text("".join(json.dumps(_varied(row, skill, draw)) + "\n" for row in rows))
        if state == "finished":
            (run / "evaluation.json").write_text(json.dumps(_weaker(evaluation, skill)))
        else:
            long_ago = time.time() - 86400
            for path in run.iterdir():
                os.utime(path, (long_ago, long_ago))


def _varied(row: dict[str, Any], skill: float, draw: random.Random) -> dict[str, Any]:
    """The iteration with another fitness and reward, and components that differ."""
    factor = skill * draw.uniform(0.98, 1.02)
    parts = {name: value * factor for name, value in row.get("components", {}).items()}
    return {**row, "fitness": min(1.0, row["fitness"] * factor), "reward": row["reward"] * factor, "components": parts}


def _weaker(evaluation: dict[str, Any], skill: float) -> dict[str, Any]:
    sets = {}
    for name, result in evaluation["sets"].items():
        fitness = result["fitness"]
        scaled = {key: min(1.0, fitness[key] * skill) for key in ("mean", "low", "high")}
        sets[name] = {**result, "fitness": {**fitness, **scaled}}
    return {**evaluation, "sets": sets}


def opened_s(browser: Any, page: Path) -> float:
    """[s] until the page's table can be used, in a fresh profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    tab = context.new_page()
    began = time.perf_counter()
    tab.goto(page.resolve().as_uri(), wait_until="commit", timeout=120_000)
    tab.wait_for_selector(_FIRST_ROW, timeout=120_000)
    before = tab.get_attribute(_FIRST_ROW, "data-id")
    tab.click("[data-sort=fitness]")
    while tab.get_attribute(_FIRST_ROW, "data-id") == before:
        if time.perf_counter() - began > 120.0:
            raise UserError("the board's table never sorted")
    took = time.perf_counter() - began
    context.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished and evaluated run")
    parser.add_argument("--runs", type=int, default=1000, help="how many runs the board shows (default 1000)")
    parser.add_argument("--repeat", type=int, default=5, help="how often it is opened (default 5)")
    options = parser.parse_args()
    for name in ("runs", "repeat"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: valid is 1 or more")
    folder = Path(tempfile.mkdtemp(prefix="gantry-board-"))
    try:
        build(options.run, folder, options.runs)
        began = time.perf_counter()
        board = Board(folder)
        page = board.write()
        written = time.perf_counter()
        board.refresh()
        again_s = time.perf_counter() - written
        began_cold = time.perf_counter()
        with chromium() as browser:
            opened_s(browser, page)
            cold_s = time.perf_counter() - began_cold
            times = [opened_s(browser, page) for _ in range(options.repeat)]
            browser_version = browser.version
        size = page.stat().st_size
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    open_s = statistics.median(times)
    print(
        json.dumps({
            "benchmark": "board", "runs": options.runs, "open_s": round(open_s, 3), "open_max_s": round(max(times), 3),
            "cold_s": round(cold_s, 3), "limit_s": LIMIT_S, "within_limit": open_s < LIMIT_S,
            "write_s": round(written - began, 2), "again_s": round(again_s, 3), "page_mbyte": round(size / 1e6, 2),
            "browser": browser_version, "machine": machine(), "versions": versions(), "git_commit": git_commit(),
        }),
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        leave(error)
