"""Kills a training at random moments, as a power cut would, and resumes it each time. Run by test_train.py.

usage: python kill_training.py CONFIG KILLS SEED     (CONFIG is JSON, as `agents.train.train` takes it)

Prints the run folder. Each attempt is a fork of this process, which has imported everything but started no
thread, so that ten of them take seconds. The last attempt is stopped by Ctrl-C instead.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents import train

PATIENCE_S = 400.0


def start(config: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        train.train(dict(config))
        code = 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def wait_for(condition: Callable[[], bool], child: int) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        if os.waitpid(child, os.WNOHANG)[0]:
            raise SystemExit("the training ended before it was killed")
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            raise SystemExit(f"nothing happened for {PATIENCE_S:.0f} s")
        time.sleep(0.002)


def main() -> None:
    config, kills, chance = json.loads(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even where whoever started this ignores it

    def logs() -> list[Path]:
        return list(Path(config["runs"]).glob("*/*/progress.jsonl"))

    def lines() -> int:
        return sum(path.read_bytes().count(b"\n") for path in logs())

    for attempt in range(kills + 1):
        known = lines()
        child = start(config)
        if attempt % 5 == 2:  # while it imports, builds or restores
            time.sleep(chance.uniform(0.0, 1.0))
        else:  # while it simulates, learns or saves
            more = chance.randint(1, 4)
            wait_for(lambda goal=known + more: lines() >= goal, child)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL if attempt < kills else signal.SIGINT)
        status = os.waitpid(child, 0)[1]
        expected = -signal.SIGKILL if attempt < kills else 130
        if os.waitstatus_to_exitcode(status) != expected:
            raise SystemExit(f"attempt {attempt} ended with {os.waitstatus_to_exitcode(status)}, not {expected}")
        config["resume"] = str(logs()[0].parent)
    print(config["resume"])


if __name__ == "__main__":
    main()
