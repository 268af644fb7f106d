"""A scripted conversation for tests of the search, and a script that kills a search at random moments.

usage: python -m tests.agents.kill_search CONFIG KILLS SEED     (CONFIG is JSON, as `agents.reward_search` takes it)
       python -m tests.agents.kill_search CONFIG at RESULTS ...

The script runs a search over and over in forks of this process, which has imported everything but started no thread,
kills each with SIGKILL, at random moments or once so many results stand on disk, and lets the last one finish. It
checks after every kill that nothing that stood on disk is done again, and prints the search's folder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.candidate import run_job
from agents.llm import Answer, LLMError, Request

GOOD = """Swing up first, then balance.

```python
import torch

def reward(s):
    upright = (1.0 + s.joint_position[:, 1].cos()) / 2
    calm = torch.exp(-(s.joint_velocity[:, 1] / 4.0) ** 2)
    return {"upright": upright, "balance": upright ** 4 * calm, "effort": -0.02 * s.action.square().sum(dim=-1)}
```
"""
REFUSED = """```python
import os

def reward(s):
    os.system("true")
    return {"up": s.joint_position[:, 1].cos()}
```"""
GAMING = """```python
def reward(s):
    return {"far": s.joint_position[:, 0].abs(), "wild": 0.1 * s.joint_velocity[:, 0].abs().clamp(max=5.0)}
```"""
LATE_ERROR = """```python
def reward(s):
    late = 3.0 - s.time_s
    return {"up": s.joint_position[:, 1].cos(), "early": late.sqrt()}
```"""
SCRIPT = {(0, 0): GOOD, (0, 1): REFUSED, (1, 0): GAMING, (1, 1): LATE_ERROR}


class Scripted:
    """Answers by generation and sample; every question that reaches it is noted in a file."""

    def __init__(self, log: Path, script: dict[tuple[int, int], str] | None = None) -> None:
        self.log, self.script = log, SCRIPT if script is None else script
        self.requests: list[Request] = []

    async def ask(self, request: Request) -> Answer:
        with self.log.open("a") as file:
            file.write(f"{request.place}\n")
        self.requests.append(request)
        text = self.script.get((request.generation, request.sample))
        if text is None:
            raise LLMError("nothing scripted here")
        return Answer(text, "scripted", "script-1", 1000, 100, 0.01, 0.1)


def launch(jobs: Sequence[Path]) -> None:
    """One after the other, in this process."""
    for path in jobs:
        run_job(path)


def _start(config: dict[str, Any], log: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        from agents import reward_search

        folder = reward_search.find_or_start(config)
        reward_search.search(folder, launch, provider=Scripted(log), say=lambda line: None)
        code = 0
    finally:
        os._exit(code)


def _finished(runs: Path) -> dict[str, tuple[int, int]]:
    """Every result on disk, with what changes when it is written again."""
    patterns = ("*/*/check.json", "*/*/rung*.json", "*/*/report.json", "sweeps/*/llm/*.answer.json")
    found = [path for pattern in patterns for path in runs.glob(pattern)]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


Moment = Callable[[Path], None]
"""Returns when a search, whose folder of runs it is given, is to be killed."""


def _random_moments(kills: int, chance: random.Random) -> list[Moment]:
    # Some at once, most while a child imports, trains or is measured.
    waits_s = [chance.uniform(0.0, 0.5) if i % 4 == 1 else chance.uniform(0.5, 8.0) for i in range(kills)]
    return [lambda runs, wait_s=wait_s: time.sleep(wait_s) for wait_s in waits_s]  # type: ignore[misc]


def _once_there_are(results: int) -> Moment:
    def wait(runs: Path) -> None:
        deadline = time.monotonic() + 300
        while len(_finished(runs)) < results:
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(_finished(runs))} results after 300 s instead of {results}")
            time.sleep(0.02)
        time.sleep(0.3)  # into whatever comes next

    return wait


def main() -> None:
    config = json.loads(sys.argv[1])
    if sys.argv[2] == "at":
        moments = [_once_there_are(int(count)) for count in sys.argv[3:]]
    else:
        moments = _random_moments(int(sys.argv[2]), random.Random(int(sys.argv[3])))
    runs = Path(config["runs"])
    log = runs / "asked.log"
    runs.mkdir(parents=True, exist_ok=True)
    for attempt, moment in enumerate([*moments, None]):
        before = _finished(runs)
        answered = {Path(p).name.removesuffix(".answer.json") for p in before if p.endswith(".answer.json")}
        asked = log.read_text().split() if log.is_file() else []
        child = _start(config, log)
        if moment is None:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code != 0:
                raise SystemExit(f"the last attempt ended with {code}")
        else:
            moment(runs)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        after = _finished(runs)
        if changed := [path for path, stamp in before.items() if after.get(path) != stamp]:
            raise SystemExit(f"attempt {attempt} did again: {changed}")
        new = log.read_text().split()[len(asked) :] if log.is_file() else []
        if again := answered & set(new):
            raise SystemExit(f"attempt {attempt} asked again: {again}")
        searches = [path.parent for path in runs.glob("sweeps/*/search.json")]
        if searches:
            config["resume"] = str(searches[0])
    print(config["resume"])


if __name__ == "__main__":
    main()
