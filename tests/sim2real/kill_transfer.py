"""A script that kills a transfer over and over and lets it go on, with answers written by hand.

usage: python -m tests.sim2real.kill_transfer CONFIG WHEN     (CONFIG is JSON, as `sim2real.transfer` takes it)

WHEN is `stages`: the transfer dies right after every stage that it writes into its ledger; `events`: right after every
line of any ledger, its own, the search's and the design's, but for those that say it was resumed; or `random:N:SEED`:
at N random moments. Each attempt is a fork of this process, which has imported everything but started no thread. After
each it checks that nothing that stood on disk was done again; at the end it prints the transfer's folder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.design_jobs import run_job
from agents.search_jobs import Launch
from agents.search_ledger import Ledger
from tests.agents.range_answers import Written

MOST_ATTEMPTS = 400
_RESULTS = ("*/*/check.json", "*/*/rung*.json", "*/*/report.json", "*/*/physics_prior.json", "sweeps/*/ranges/*.yaml",
            "sweeps/*/llm/*.answer.json")  # fmt: skip


def one_by_one(jobs: Sequence[Path]) -> None:
    """In this process."""
    for path in jobs:
        run_job(path)


def run(config: dict[str, Any], log: Path, launch: Launch = one_by_one) -> Path:
    """A whole transfer. Returns its folder."""
    from agents.work_folder import find_or_start
    from sim2real.transfer import KIND, Transfer

    folder = find_or_start(KIND, config)
    Transfer(folder, lambda _: launch, Written(log), say=lambda line: None).run()
    return folder.path


def _die_after_next(event: str | None) -> None:
    """Makes this process kill itself once a ledger has a new line; of that event, where one is named."""
    add = Ledger.add

    def add_and_die(self: Ledger, kind: str, key: str, **content: Any) -> dict[str, Any]:
        new = self.get(kind, key) is None
        entry = add(self, kind, key, **content)
        # Every attempt after the first writes that it resumed: dying there, none would ever get further.
        if new and (kind == event or (event is None and kind != "resumed")):
            os.kill(os.getpid(), signal.SIGKILL)
        return entry

    Ledger.add = add_and_die  # type: ignore[method-assign]


def _attempt(config: dict[str, Any], log: Path, when: str, wait_s: float | None) -> int:
    """One attempt in a fork; its exit status, negative where it was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if when != "never" and not when.startswith("random"):
                _die_after_next({"stages": "stage", "events": None}[when])
            run(config, log)
            code = 0
        finally:
            os._exit(code)
    if wait_s is not None:
        time.sleep(wait_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _finished(runs: Path) -> dict[str, tuple[int, int]]:
    """Every result on disk, with what changes when it is written again."""
    found = [path for pattern in _RESULTS for path in runs.glob(pattern)]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def main() -> None:
    config, when = json.loads(sys.argv[1]), sys.argv[2]
    runs = Path(config["runs"])
    runs.mkdir(parents=True, exist_ok=True)
    log = runs / "asked.log"
    chance, left = random.Random(0), 0
    if when.startswith("random"):
        _, count, seed = when.split(":")
        chance, left = random.Random(int(seed)), int(count)
    attempts = 0
    while True:
        before = _finished(runs)
        wait_s = None
        if when.startswith("random"):
            wait_s, left = (chance.uniform(0.2, 12.0), left - 1) if left else (None, 0)
        code = _attempt(config, log, when, wait_s)
        attempts += 1
        after = _finished(runs)
        if changed := [path for path, stamp in before.items() if after.get(path) != stamp]:
            raise SystemExit(f"attempt {attempts} did again: {changed}")
        asked = log.read_text().split() if log.is_file() else []
        answered = [Path(p).name.removesuffix(".answer.json") for p in before if p.endswith(".answer.json")]
        if again := [place for place in answered if asked.count(place) > 1]:
            raise SystemExit(f"attempt {attempts} asked again: {again}")
        folders = [path.parent for path in runs.glob("sweeps/*/transfer.json")]
        if folders:
            config["resume"] = str(folders[0])
        if code == 0:
            break
        if code != -signal.SIGKILL or attempts > MOST_ATTEMPTS:
            raise SystemExit(f"attempt {attempts} ended with {code}")
    print(f"{attempts} attempts", file=sys.stderr)
    print(config["resume"])


if __name__ == "__main__":
    main()
