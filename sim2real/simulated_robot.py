"""`gantry robot go2`: a process that behaves on the wire like a real Unitree Go2.

It publishes `rt/lowstate` every 2 ms and obeys `rt/lowcmd` once its motion service has been released
through the motion switcher, as on the real robot.  Its physics is not the training physics.

What is assumed, because no public source says it: what a real Go2 does when commands stop (`--on-silence`;
by default the motors keep their last command), how long its service takes to leave, heating, the battery's
figures, the sensors' errors and the unit of `foot_force` (here newtons).  A message with a wrong checksum is
dropped whole; a motor whose mode is not servo, or whose numbers are not finite, keeps its former command.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from configs.errors import UserError
from sim2real.realtime import PRIORITY, real_time

if TYPE_CHECKING:
    from sim2real.robot_core import SimulatedRobot
    from sim2real.robot_video import Film

TICK_S = 0.002
CATCH_UP_S = 0.1
"""The robot makes up for a pause up to this long by ticking faster; beyond, its time has stood still."""
_CONSOLE_EVERY_TICKS = 5
_SERVICE_EVERY_TICKS = 5


class Health:
    """How well the robot keeps real time."""

    def __init__(self) -> None:
        self.late_ticks = 0
        """Ticks that began more than a period after they were due."""
        self.worst_late_s = 0.0
        self.lost_s = 0.0
        """Time for which the robot stood still because the machine was busy."""
        self._start_s, self._cpu_s = time.monotonic(), time.process_time()

    def tick(self, late_s: float) -> None:
        """A tick began so long after it was due."""
        self.worst_late_s = max(self.worst_late_s, late_s)
        self.late_ticks += late_s > TICK_S

    def record(self, ticks: int) -> dict[str, Any]:
        """JSON-ready."""
        wall_s = time.monotonic() - self._start_s
        return {
            "ticks": ticks,
            "wall_s": round(wall_s, 3),
            "rate_hz": round(ticks / wall_s, 2),
            "late_ticks": self.late_ticks,
            "worst_late_ms": round(1000 * self.worst_late_s, 3),
            "lost_s": round(self.lost_s, 3),
            "cpu_share": round((time.process_time() - self._cpu_s) / wall_s, 4),
        }


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gantry robot",
        description="Start a simulated robot behind the real one's protocol.",
        epilog="Lines that --control and the keyboard take: python -m sim2real.robot_console",
    )
    parser.add_argument("robot", help="go2")
    parser.add_argument("--physics", default="nominal", help="physics set: nominal, randomized, select, report")
    parser.add_argument("--seed", type=int, default=0, help="which draw of the physics set, and the noise")
    parser.add_argument("--shifts", type=int, help="how many of the set's parameters are shifted (default: as the set)")
    parser.add_argument("--interface", default="lo", help="network interface (default lo)")
    parser.add_argument("--domain", type=int, default=0, help="DDS domain (default 0, as a real Go2)")
    parser.add_argument("--start", default="lying", choices=["lying", "standing", "hanging"])
    parser.add_argument("--hang", dest="start", action="store_const", const="hanging", help="same as --start hanging")
    parser.add_argument(
        "--on-silence",
        default="hold",
        choices=["hold", "limp", "damp"],
        help="what the motors do when commands stop; unknown of a real Go2 (default: hold the last command)",
    )
    parser.add_argument("--silence-s", type=float, default=0.1, help="after this time without a command (default 0.1)")
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="take console lines from this socket")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="record what truly happens, as JSON lines")
    parser.add_argument("--video", type=Path, metavar="FILE", help="render an MP4 of it all at the end")
    parser.add_argument("--seconds", type=float, default=0.0, help="end by itself after so long (default: never)")
    return parser.parse_args(arguments)


def _require(*modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UserError(
            f"gantry robot needs {', '.join(missing)}, not installed here; the simulated robot runs on a "
            "training machine: pip install 'gantry-lab[train,robot]'"
        )


def main(arguments: list[str] | None = None) -> int:
    """Be a robot until SIGINT or SIGTERM (or `--seconds`); returns 0, or 1 if the simulation diverged.

    The last line printed is JSON: how well real time was kept, and what was obeyed and ignored.  Raises
    UserError for bad input.
    """
    options = _parse(arguments)
    if not options.silence_s > 0.0:
        raise UserError(f"--silence-s {options.silence_s}: valid is a time above 0 [s]")
    _require("mujoco", "torch", "cyclonedds")
    from sim2real.links.link import LinkError
    from sim2real.robot_core import SimulatedRobot
    from sim2real.robot_physics import make_physics
    from sim2real.robot_video import Film

    if options.shifts is not None and options.shifts < 0:
        raise UserError(f"--shifts {options.shifts}: valid is 0 or more")
    physics = make_physics(options.robot, options.physics, options.seed, options.shifts)
    film = Film(physics.model, options.video) if options.video is not None else None
    try:
        robot = SimulatedRobot(
            physics,
            start=options.start,
            on_silence=options.on_silence,
            silence_s=options.silence_s,
            truth=options.truth,
        )
    except OSError as error:
        raise UserError(f"--truth {options.truth}: {error.strerror or error}") from error
    try:
        # A real robot's loop waits for nobody; but its computer is its own, so here the runtime comes first.
        with real_time(PRIORITY - 10):
            health, diverged = _run(robot, film, options)
    except LinkError as error:
        raise UserError(str(error)) from error
    return _finish(robot, film, health, diverged)


def _run(robot: SimulatedRobot, film: Film | None, options: argparse.Namespace) -> tuple[Health, bool]:
    """Be the robot until it ends; how well it kept real time, and whether the simulation diverged."""
    from sim2real.links.unitree_dds import (
        LOW_CMD_TOPIC,
        LOW_STATE_TOPIC,
        EncodedReader,
        EncodedWriter,
        make_participant,
    )
    from sim2real.links.unitree_types import LowCmd_, LowState_
    from sim2real.robot_console import Console
    from sim2real.robot_service import MotionSwitcherServer

    ending: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ending.append(number)

    console = Console(robot, options.control)
    try:
        participant = make_participant(options.interface, options.domain)
        reader = EncodedReader(participant, LOW_CMD_TOPIC, LowCmd_, depth=32)
        writer = EncodedWriter(participant, LOW_STATE_TOPIC, LowState_)
        switcher = MotionSwitcherServer(participant, robot.service)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGTERM, end)
        print(
            f"robot {options.robot}: pid {os.getpid()}, {LOW_STATE_TOPIC} on {options.interface}, domain "
            f"{options.domain}, physics {options.physics}, seed {options.seed}, {options.start}",
            flush=True,
        )
        gc.freeze()
        health = Health()
        due_s = time.monotonic()
        diverged = False
        while not ending and not diverged:
            for data in robot.tick(reader.take()):
                writer.write(data)
            if robot.ticks % _SERVICE_EVERY_TICKS == 0:
                switcher.serve(robot.time_s)
            if robot.ticks % _CONSOLE_EVERY_TICKS == 1:
                console.serve()
            if robot.ticks % 50 == 2:
                diverged = robot.body.diverged()
            if film is not None:
                film.see(robot.time_s, robot.body.data.qpos)
            if 0.0 < options.seconds <= robot.time_s:
                break
            due_s = _wait(due_s + TICK_S, health)
    finally:
        console.close()
    return health, diverged


def _wait(due_s: float, health: Health) -> float:
    """Sleep until the next tick; returns when it was due, moved on if the robot fell too far behind."""
    left_s = due_s - time.monotonic()
    if left_s > 0.0:
        time.sleep(left_s)
    late_s = time.monotonic() - due_s
    health.tick(late_s)
    if late_s > CATCH_UP_S:
        health.lost_s += late_s
        due_s += late_s
    return due_s


def _finish(robot: SimulatedRobot, film: Film | None, health: Health, diverged: bool) -> int:
    """Close the record, render the film, print the last line."""
    record = health.record(robot.ticks)
    record |= {name: robot.counters[name] for name in ("obeyed", "damaged", "while_service")}
    record |= {"motors_ignored": robot.motors.ignored, "diverged": diverged, "falls": robot.truth.judge.falls}
    robot.truth.end(robot.time_s, record)
    if diverged:
        print("robot: the simulation diverged; its state means nothing any more", file=sys.stderr)
    if film is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a film that takes too long can be given up
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print(f"robot: has left; renders {len(film.poses)} frames", flush=True)
        film.render()
    print(json.dumps(record), flush=True)
    return 1 if diverged else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as refusal:
        sys.exit(f"gantry robot: error: {refusal}")
