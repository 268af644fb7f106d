"""Rehearsals: a deployment and a simulated robot, each a process of its own, over DDS on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import UserError
from sim2real.tour import tour_row


def start(*arguments: str) -> subprocess.Popen[str]:
    """`gantry ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gantry", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@contextlib.contextmanager
def robot(folder: Path, *arguments: str) -> Iterator[int]:
    """A simulated Go2 until the end of the block; gives its domain.  Raises UserError if it does not start."""
    domain = random.SystemRandom().randint(1, 100)
    process = start("robot", "go2", "--domain", str(domain), "--truth", str(folder / "truth.jsonl"), *arguments)
    try:
        assert process.stdout is not None and process.stderr is not None
        if "rt/lowstate" not in process.stdout.readline():
            raise UserError(f"the simulated robot does not start: {process.stderr.read().strip()}")
        yield domain
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=600)  # a film is rendered now
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def deploy(bundle: Path, domain: int, folder: Path, script: str) -> tuple[subprocess.Popen[str], Path]:
    """`gantry deploy` with a script; gives the process and its log."""
    log = folder / "run.mcap"
    arguments = ("--link", "unitree", "--interface", "lo", "--domain", str(domain), "--script", script)
    return start("deploy", str(bundle), *arguments, "--log", str(log), "--json"), log


def summary_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a deployment; its summary.  Raises UserError with its own words if it gave none."""
    output, errors = process.communicate()
    lines = output.splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise UserError(f"the deployment failed: {errors.strip()}")
    summary: dict[str, Any] = json.loads(lines[-1])
    return summary


def tour(bundle: Path, physics: str, seed: int, video: Path | None = None, keep: Path | None = None) -> dict[str, Any]:
    """One tour on one draw of `physics`, as `tour_row` tells it; `keep` is a folder for its log and record."""
    with tempfile.TemporaryDirectory(prefix="gantry-tour-") as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        film = ("--video", str(video)) if video is not None else ()
        with robot(folder, "--physics", physics, "--seed", str(seed), *film) as domain:
            process, log = deploy(bundle, domain, folder, "tour")
            summary_of(process)
        return tour_row(folder / "truth.jsonl", log)
