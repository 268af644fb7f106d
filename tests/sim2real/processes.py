"""The real processes for tests: simulated robot, deployment and guard on a DDS domain of their own, watched."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sim2real.bundle import Bundle, save
from sim2real.log import Log, read_log
from sim2real.robot_console import tell
from tests.sim2real.wire_watch import WireWatch

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "go2-walk-bundle"
WALK_M_S = 0.5
RISE_S = {"folded": 0.3, "home": 0.8}
"""Standing up in the tests of faults, which are about what comes after it: a third of the time it usually takes."""
ATTEMPTS = 4
"""How often a scene is tried while the machine stops for longer than a robot may be left alone."""
AT_ONCE = 2
"""Scenes that are played at a time: each needs half a core, and mostly waits."""
_DOMAINS = iter(random.SystemRandom().sample(range(1, 101), 100))  # higher ones have ports that the system hands out
LOAD = re.compile(r"deadline: |stale: |link: the guard damps: silence")
"""Reasons that a busy machine gives, too."""


class Disturbed(AssertionError):
    """The machine was too busy for real time: the robot was damped before, or without, the fault."""


@functools.cache
def quick_bundle() -> Path:
    """The test bundle with a shorter way to standing, signed anew."""
    content = json.loads((BUNDLE / "contract.json").read_text())
    for pose in content["stand_up"]["keyframes"]:
        pose["duration_s"] = RISE_S[pose["name"]]
    folder = Path(tempfile.mkdtemp(prefix="gantry-test-bundle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return save(folder / "bundle", (BUNDLE / "policy.onnx").read_bytes(), content)


@dataclass
class Outcome:
    """How a deployment ended."""

    code: int
    summary: dict[str, Any]
    """What --json printed; empty if it was killed or refused."""
    errors: str
    """Its stderr."""
    log: Log | None = field(repr=False)

    @property
    def events(self) -> list[str]:
        """The log's events, oldest first."""
        return [event["text"] for event in self.log.messages.get("/event", [])] if self.log else []

    @property
    def reasons(self) -> list[str]:
        """Everything that latched damping, as the log's decisions say it, oldest first."""
        decisions = self.log.messages.get("/decision", []) if self.log else []
        return list(dict.fromkeys(reason for d in decisions if d["supervisor"] == "damping" for reason in d["reasons"]))

    def has(self, what: str) -> bool:
        """Whether an event or reason contains this."""
        return any(what in text for text in [*self.events, *self.reasons])


@dataclass
class Stage:
    """A simulated robot, what watches the wire, and the deployment."""

    folder: Path
    domain: int
    robot: subprocess.Popen[str]
    watch: WireWatch
    deployment: subprocess.Popen[str] | None = None
    intruders: list[Any] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "run.mcap"

    @property
    def guard_log(self) -> str:
        """What the guard wrote."""
        path = self.log.with_suffix(".guard.log")
        return path.read_text() if path.is_file() else ""

    @property
    def guard_pid(self) -> int:
        found = re.search(r"pid (\d+) owns", self.guard_log)
        assert found is not None, f"no guard: {self.guard_log!r}"
        return int(found.group(1))

    def tell(self, line: str) -> dict[str, Any]:
        """A line for the robot's console."""
        return tell(self.folder / "control", line)

    def deploy(
        self,
        walk_s: float = 30.0,
        *,
        bundle: Path | None = None,
        program: tuple[str, ...] = (),
        commander: tuple[str, ...] = (),
    ) -> None:
        """Start `gantry deploy`: stand up, walk for so long, damp; or with the options `commander`."""
        script = self.folder / "script.json"
        steps = [{"do": "stand"}, {"do": "run"}, {"command": [WALK_M_S, 0.0, 0.0], "for_s": walk_s}, {"do": "damp"}]
        script.write_text(json.dumps(steps))
        self.deployment = start(
            *(program or (str(ROOT / "gantry.py"),)),
            *(
                "deploy",
                str(bundle or quick_bundle()),
                "--link",
                "unitree",
                "--interface",
                "lo",
                "--domain",
                str(self.domain),
            ),
            *("--log", str(self.log), "--json", *(commander or ("--script", str(script)))),
        )

    def walk(self, for_s: float = 0.6) -> None:
        """Wait until the policy has driven the robot for so long.  Raises Disturbed if it was damped before."""
        assert self.deployment is not None
        self.until(self.watch.running, 30.0, "the policy runs")
        end_s = time.monotonic() + for_s
        while time.monotonic() < end_s:
            if self.watch.damping() or self.deployment.poll() is not None:
                break
            time.sleep(0.01)
        else:
            return
        outcome = self.outcome()
        raise Disturbed(f"damped before the fault: {outcome.reasons}")

    def until(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Wait for something; raises Disturbed if the deployment ended before for reasons of load."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if self.deployment is not None and self.deployment.poll() is not None and not condition():
                outcome = self.outcome()
                kind = Disturbed if only_load(outcome.reasons) else AssertionError
                raise kind(f"the deployment ended before {what}: {outcome.reasons or outcome.errors}")
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {timeout_s} s: {what}")
            time.sleep(0.01)

    def outcome(self, timeout_s: float = 30.0) -> Outcome:
        """Wait for the deployment's end; read what it left."""
        assert self.deployment is not None
        output, errors = self.deployment.communicate(timeout=timeout_s)
        last = output.splitlines()[-1] if output.strip() else ""
        summary = json.loads(last) if last.startswith("{") else {}
        log = read_log(self.log) if self.log.is_file() else None
        return Outcome(self.deployment.returncode, summary, errors, log)

    def ends_in_damping(self, fault: str, within_s: float = 0.6) -> Outcome:
        """Wait for damping after a fault that has just been made, then for the end.

        Checks that damping came in time and stayed, that no command was outside the limits, and that the log
        names `fault` (a regular expression) among the reasons.  Raises Disturbed if load came first.
        """
        made_s = time.monotonic()
        self.until(self.watch.damping, 10.0, "damping on the wire")
        outcome = self.outcome()
        self.watch.close()
        assert any(re.search(fault, reason) for reason in outcome.reasons) or only_load(outcome.reasons), (
            outcome.reasons
        )
        if not re.search(fault, outcome.reasons[0]) and LOAD.match(outcome.reasons[0]):
            raise Disturbed(f"load came first: {outcome.reasons}")
        took_s = self.watch.damped_since() - made_s
        assert took_s < within_s, f"damping came {took_s:.3f} s after the fault"
        assert self.watch.check() > 500, "less than a second of commands was seen"
        assert outcome.code == 1
        return outcome


def only_load(reasons: list[str]) -> bool:
    """Whether everything that damped the robot can be blamed on a busy machine."""
    return bool(reasons) and all(LOAD.match(reason) for reason in reasons)


def start(*command: str) -> subprocess.Popen[str]:
    """A Python process of this project."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


@contextlib.contextmanager
def stage(folder: Path, *arguments: str) -> Iterator[Stage]:
    """A robot on a domain of its own; at the end nothing is left running."""
    domain = next(_DOMAINS)
    robot = start(
        *(str(ROOT / "gantry.py"), "robot", "go2", "--domain", str(domain)),
        *("--control", str(folder / "control"), "--truth", str(folder / "truth.jsonl"), *arguments),
    )
    made: Stage | None = None
    try:
        made = Stage(folder, domain, robot, WireWatch(Bundle.load(BUNDLE, verify=False).contract, domain))
        assert robot.stdout is not None
        line = robot.stdout.readline()
        assert "rt/lowstate on lo" in line, f"{line}{robot.stderr.read() if robot.stderr else ''}"
        yield made
    finally:
        if made is not None:
            made.watch.close()
            made.intruders.clear()
            if made.deployment is not None:
                made.deployment.kill()
                made.deployment.communicate()
            if found := re.search(r"pid (\d+) owns", made.guard_log):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(found.group(1)), signal.SIGKILL)
        robot.kill()
        robot.communicate()


def staged(folder: Path, body: Callable[[Stage], None], *arguments: str) -> None:
    """Run a test's body with the processes; again, a little later, while the machine is too busy for real time."""
    for attempt in range(1, ATTEMPTS + 1):
        place = folder / str(attempt)
        place.mkdir(parents=True)
        try:
            with stage(place, *arguments) as running:
                return body(running)
        except Disturbed as disturbed:
            if attempt == ATTEMPTS:
                pytest.fail(f"{ATTEMPTS} times in a row the machine was too busy for real time: {disturbed}")
            time.sleep(5.0 * attempt)
            warnings.warn(f"tried once more, the machine was too busy for real time: {disturbed}", stacklevel=2)
    return None


class Playing:
    """Plays scenes, `AT_ONCE` at a time and in their order, each with processes of its own."""

    def __init__(self, folder: Path, scenes: Mapping[str, Callable[[Stage], None]]) -> None:
        quick_bundle()
        self._pool = ThreadPoolExecutor(AT_ONCE)
        # Short paths: a socket's has at most 107 bytes.
        self._played = {
            name: self._pool.submit(staged, folder / str(number), scene)
            for number, (name, scene) in enumerate(scenes.items())
        }

    def __enter__(self) -> Playing:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def result(self, name: str) -> None:
        """Wait for a scene; raises what it raised."""
        self._played[name].result()
