"""How a tour over DDS really went: the simulated robot's own record against the runtime's log.

    python -m sim2real.tour TRUTH.jsonl LOG.mcap

The runtime can only reckon where its robot is; whoever judges a tour asks the robot (`gantry robot --truth`).
Both stamp with the machine's monotonic clock, so segments of the log are found in the record by time.  For
both on one machine.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import UserError
from sim2real.commands import State
from sim2real.links.link import FloatArray
from sim2real.log import Log, read_log

SETTLE_S = 0.5
"""After a new command the robot may take so long before its speed is compared."""


@dataclass(frozen=True)
class Truth:
    """The record's poses as arrays, T of them, 50 a second."""

    time_s: FloatArray
    """(T,) the machine's monotonic clock."""
    position_w: FloatArray
    """(T, 3) [m]."""
    heading: FloatArray
    """(T,) [rad], unwrapped."""
    velocity: FloatArray
    """(T, 3) forward, left [m/s] along the heading, turn left [rad/s]."""
    tilt_deg: FloatArray
    """(T,)."""
    events: tuple[str, ...]
    falls: int
    end: dict[str, Any]
    """The last line's counters; empty if the robot was killed."""
    start: dict[str, Any]
    """What was drawn."""


def read_truth(path: Path) -> Truth:
    """Read a record, finished or not.  Raises UserError if there is none or it holds no poses."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"no record at {path}: {error.strerror}; start the robot with --truth") from error
    lines: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break  # a killed robot leaves half a line
    poses = [line for line in lines if line["kind"] == "pose"]
    if not poses:
        raise UserError(f"{path} holds no poses; is it a record made by gantry robot --truth?")
    w, x, y, z = np.array([pose["quaternion_w"] for pose in poses]).T
    heading = np.unwrap(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))
    velocity_w = np.array([pose["velocity_w"] for pose in poses])
    c, s = np.cos(heading), np.sin(heading)
    velocity = np.stack(
        [
            c * velocity_w[:, 0] + s * velocity_w[:, 1],
            c * velocity_w[:, 1] - s * velocity_w[:, 0],
            np.array([pose["angular_velocity_b"][2] for pose in poses]),
        ],
        1,
    )
    events = tuple(str(line["event"]) for line in lines if line["kind"] == "event")
    return Truth(
        time_s=np.array([pose["monotonic_s"] for pose in poses]),
        position_w=np.array([pose["position_w"] for pose in poses]),
        heading=heading,
        velocity=velocity,
        tilt_deg=np.array([pose["tilt_deg"] for pose in poses]),
        events=events,
        falls=sum(event.startswith("fall") for event in events),
        end=next((line for line in reversed(lines) if line["kind"] == "end"), {}),
        start=next((line for line in lines if line["kind"] == "start"), {}),
    )


def segments(log: Log, truth: Truth) -> list[dict[str, Any]]:
    """One row for each stretch of running under one command: what was asked, and what the robot truly did.

    `speed` is the mean of forward, left [m/s] and turn left [rad/s] from `SETTLE_S` on, `error` the root mean
    square of its difference from the command; `distance_m` lies along the commanded direction.
    """
    entries = [entry["name"] for entry in log.contract.get("commands", [])]
    decisions, commands = log.messages.get("/decision", []), log.messages.get("/command", [])
    rows: list[dict[str, Any]] = []
    begin: int | None = None
    for tick in range(min(len(decisions), len(commands)) + 1):
        at_end = tick == min(len(decisions), len(commands))
        running = not at_end and decisions[tick]["state"] == State.RUNNING
        if begin is not None and (not running or commands[tick] != commands[begin]):
            times = log.times_s["/command"]
            row = _segment(np.array(commands[begin]["command"]), times[begin], times[tick - 1], truth, entries)
            rows += [row] if row is not None else []
            begin = None
        if running and begin is None:
            begin = tick
    return rows


def _segment(
    asked: FloatArray, begin_s: float, end_s: float, truth: Truth, entries: list[str]
) -> dict[str, Any] | None:
    first, last = np.searchsorted(truth.time_s, [begin_s, end_s])
    settled = int(np.searchsorted(truth.time_s, begin_s + SETTLE_S))
    if last - first < 2 or len(asked) != 3:
        return None
    way = truth.position_w[last - 1, :2] - truth.position_w[first, :2]
    direction = truth.heading[first] + math.atan2(asked[1], asked[0])
    moving = bool(np.hypot(asked[0], asked[1]) > 0.0)
    distance_m = float(way @ (math.cos(direction), math.sin(direction))) if moving else float(np.hypot(*way))
    speed = truth.velocity[min(settled, last - 1) : last]
    said = [f"{name} {value:g}" for name, value in zip(entries, asked, strict=True) if value]
    return {
        "segment": ", ".join(said) or "stand still",
        "seconds": round(end_s - begin_s, 3),
        "asked": asked.tolist(),
        "speed": np.round(speed.mean(0), 4).tolist(),
        "error": np.round(np.sqrt(np.square(speed - asked).mean(0)), 4).tolist(),
        "distance_m": round(distance_m, 3),
        "turned_rad": round(float(truth.heading[last - 1] - truth.heading[first]), 3),
    }


def tour_row(truth_path: Path, log_path: Path) -> dict[str, Any]:
    """One tour as a JSON-ready row.  Raises UserError if record or log cannot be read.

    `ok`: the robot never fell, by its own record, and every step of the script was done.
    """
    truth, log = read_truth(truth_path), read_log(log_path)
    summary = log.metadata.get("summary", {})
    steps = json.loads(summary.get("steps", "[]"))
    undone = [f"{step['name']}: {step['outcome']}" for step in steps if step["outcome"] != "done"]
    decisions = log.messages.get("/decision", [])
    limited = Counter(
        reason.split(":")[0] for d in decisions if d["supervisor"] == "limited" for reason in d["reasons"]
    )
    ran = [time_s for time_s, d in zip(log.times_s.get("/decision", []), decisions, strict=True) if _runs(d)]
    while_running = np.zeros(len(truth.time_s), bool)
    if ran:
        while_running = (truth.time_s >= ran[0]) & (truth.time_s <= ran[-1])
    path = np.linalg.norm(np.diff(truth.position_w[while_running, :2], axis=0), axis=1)
    return {
        "physics": truth.start.get("physics"),
        "seed": truth.start.get("seed"),
        "ok": truth.falls == 0 and bool(steps) and not undone and log.complete,
        "falls": truth.falls,
        "robot_events": list(truth.events),
        "undone": undone,
        "damped_for": json.loads(summary.get("reasons", "[]")),
        "limited_ticks": dict(limited),
        "distance_m": round(float(path.sum()), 3),
        "largest_tilt_deg": round(float(truth.tilt_deg[while_running].max()), 2) if while_running.any() else None,
        "segments": segments(log, truth),
        "ticks": int(summary.get("ticks", len(decisions))),
        "missed_deadlines": int(summary.get("missed_deadlines", 0)),
        "skipped_ticks": int(summary.get("skipped_ticks", 0)),
        "robot_lost_s": truth.end.get("lost_s"),
        "robot_worst_late_ms": truth.end.get("worst_late_ms"),
        "log": log_path.name,
    }


def _runs(decision: dict[str, Any]) -> bool:
    return bool(decision["state"] == State.RUNNING)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m sim2real.tour TRUTH.jsonl LOG.mcap")
    try:
        print(json.dumps(tour_row(Path(sys.argv[1]), Path(sys.argv[2])), indent=1))
    except UserError as refusal:
        sys.exit(f"error: {refusal}")
