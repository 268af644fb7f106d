"""A deployment's MCAP log as something to show: what was asked of the robot, what it did, and how punctual it was.

Logs come from robots and from other people, finished or cut: every value is checked, nothing here raises for what
a log contains but Unreadable, which says why there is nothing to show.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from sim2real.log import Log, read_log
from watch.files import MIB, Unreadable
from watch.values import mapping, number, text

LOG_LIMIT = 64 * MIB
"""Bytes of a log that is read; half an hour of a quadruped has about 75 kB a second of robot time, compressed half."""
MAX_JOINTS, MAX_EVENTS, MAX_STEPS = 40, 300, 100
SMOOTH_S = 0.2
"""Over which true positions are differenced; a walking base sways faster than it travels."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """Something that lasted, in seconds since the log's first tick."""

    what: str
    begin_s: float
    end_s: float
    why: str = ""


@dataclass(frozen=True)
class Step:
    """One step of the script that drove the robot."""

    name: str
    asked: str
    outcome: str
    seconds: float | None
    distance_m: float | None
    angle_rad: float | None
    measured: str


@dataclass(frozen=True)
class Command:
    """One entry of the command, and what the robot did of it."""

    name: str
    unit: str
    asked: Array
    """(T,) at `command_s`."""
    done: Array | None = None
    """At `done_s`; None where nothing measured it."""


@dataclass
class Deployment:
    """A log in memory, all times in seconds since its first tick."""

    path: Path
    complete: bool
    about: dict[str, str]
    """What the log says of itself: robot, task, link, command line."""
    started: datetime | None = None
    seconds: float = 0.0
    ticks: int = 0
    control_dt_s: float | None = None
    joint_names: list[str] = field(default_factory=list)
    reading_s: Array = field(default_factory=lambda: np.zeros(0))
    target_s: Array = field(default_factory=lambda: np.zeros(0))
    position: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """(T, J) [rad]"""
    target: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """(T, J) [rad]"""
    stiff: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """(T, J) position gain of what was sent; without one a target means nothing."""
    soft_limits: list[tuple[float, float] | None] = field(default_factory=list)
    command_s: Array = field(default_factory=lambda: np.zeros(0))
    done_s: Array = field(default_factory=lambda: np.zeros(0))
    commands: list[Command] = field(default_factory=list)
    measured_by: str = ""
    path_w: Array = field(default_factory=lambda: np.zeros((0, 2)))
    """(T, 2) [m] true positions, where a simulated robot gave them."""
    timing_s: Array = field(default_factory=lambda: np.zeros(0))
    timing: dict[str, Array] = field(default_factory=dict)
    """Milliseconds a tick, by what was timed."""
    simulated_clock: bool = False
    """Time stood still between ticks: only the policy's own time says something."""
    missed: int = 0
    states: list[Span] = field(default_factory=list)
    doubts: list[Span] = field(default_factory=list)
    """When the supervisor limited or damped, and why."""
    events: list[tuple[float, str, str]] = field(default_factory=list)
    """(time [s], state, text)"""
    events_left_out: int = 0
    steps: list[Step] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """What latched damping."""
    limited: int = 0

    @property
    def tracking_error_rad(self) -> float | None:
        """Root mean square of target minus measurement, of joints that were held by a position gain."""
        count = min(len(self.position), len(self.target))
        if not count or self.position.shape[1] != self.target.shape[1]:
            return None
        error = (self.target[:count] - self.position[:count])[self.stiff[:count] > 0]
        error = error[np.isfinite(error)]
        return float(np.sqrt(np.mean(error**2))) if len(error) else None


def read(path: Path) -> Deployment:
    """The log at `path`, finished or cut. Raises Unreadable with the reason."""
    try:
        if path.stat().st_size > LOG_LIMIT:
            raise Unreadable(f"is larger than {LOG_LIMIT // MIB} MiB; cut it with `mcap filter`")
        log = read_log(path)
    except UserError as error:
        raise Unreadable(str(error).removeprefix(f"{path} ")) from error
    except ModuleNotFoundError as error:
        raise Unreadable(f"needs {error.name}; install gantry-lab[robot]") from error
    except (OSError, MemoryError) as error:
        raise Unreadable(f"cannot be read: {type(error).__name__}") from error
    about = {key: text(value, 500) or "" for key, value in mapping(log.metadata.get("gantry")).items()}
    found = Deployment(path, log.complete, about)
    ticked = [times[0] for topic in ("/timing", "/reading") if (times := log.times_s.get(topic))]
    start = min(ticked or [times[0] for times in log.times_s.values() if times], default=0.0)
    ends = [times[-1] for times in log.times_s.values() if times]
    found.seconds = max(0.0, max(ends, default=start) - start)
    found.started = _started(found.about)
    contract = mapping(log.contract)
    found.control_dt_s = number(contract.get("control_dt_s"))
    _joints(found, log, contract, start)
    _commands(found, log, contract, start)
    _timing(found, log, start)
    _decisions(found, log, start)
    _summary(found, mapping(log.metadata.get("summary")))
    return found


def _started(about: dict[str, str]) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(about["started_unix_s"]))
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def _rows(log: Log, topic: str, name: str, size: int) -> Array:
    """(T, size) of a field that should be a list of numbers; NaN for whatever is not."""
    rows = np.full((len(log.messages.get(topic, [])), size), np.nan)
    for row, message in zip(rows, log.messages.get(topic, []), strict=True):
        values = message.get(name) if isinstance(message, dict) else None
        if isinstance(values, list) and len(values) >= size:
            row[:] = [np.nan if (v := number(x)) is None else v for x in values[:size]]
    return rows


def _column(log: Log, topic: str, name: str) -> Array:
    """(T,) of a field that should be a number."""
    messages = log.messages.get(topic, [])
    values = (number(m.get(name)) if isinstance(m, dict) else None for m in messages)
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _times(log: Log, topic: str, start: float) -> Array:
    return log.times(topic) - start


def _joints(found: Deployment, log: Log, contract: dict[str, Any], start: float) -> None:
    names = contract.get("joint_names")
    if not isinstance(names, list):
        first = next((m for m in log.messages.get("/reading", []) if isinstance(m, dict)), {})
        values = first.get("joint_position")
        names = [f"joint {k + 1}" for k in range(len(values))] if isinstance(values, list) else []
    found.joint_names = [text(name, 60) or f"joint {k + 1}" for k, name in enumerate(names[:MAX_JOINTS])]
    count = len(found.joint_names)
    found.reading_s, found.target_s = _times(log, "/reading", start), _times(log, "/target", start)
    found.position = _rows(log, "/reading", "joint_position", count)
    found.target = _rows(log, "/target", "joint_target", count)
    found.stiff = np.nan_to_num(_rows(log, "/target", "kp", count))
    limits = mapping(contract.get("joint_limits")).get("position_soft")
    limits = limits if isinstance(limits, list) else []
    for k in range(count):
        pair = limits[k] if k < len(limits) and isinstance(limits[k], list) and len(limits[k]) == 2 else (None, None)
        low, high = number(pair[0]), number(pair[1])
        found.soft_limits.append(None if low is None or high is None else (low, high))


def _commands(found: Deployment, log: Log, contract: dict[str, Any], start: float) -> None:
    entries = contract.get("commands")
    entries = [mapping(entry) for entry in entries[:12]] if isinstance(entries, list) else []
    if not entries:
        return
    asked = _rows(log, "/command", "command", len(entries))
    found.command_s = _times(log, "/command", start)
    done = _true_velocity(found, log, start)
    if not done:
        rate = _rows(log, "/reading", "angular_velocity", 3)
        if np.isfinite(rate).any():
            found.done_s, found.measured_by = found.reading_s, "the gyro"
            done = {"turn left": rate[:, 2]}
    for k, entry in enumerate(entries):
        name, unit = text(entry.get("name"), 60) or f"command {k + 1}", text(entry.get("unit"), 20) or ""
        found.commands.append(Command(name, unit, asked[:, k], done.get(name)))


def _true_velocity(found: Deployment, log: Log, start: float) -> dict[str, Array]:
    """Velocity in the base's own frame from true positions, each over SMOOTH_S; empty without them."""
    position, heading = _rows(log, "/truth", "position_w", 2), _column(log, "/truth", "heading")
    time_s = _times(log, "/truth", start)
    good = np.isfinite(position).all(1) & np.isfinite(heading) if len(position) else np.zeros(0, bool)
    position, heading, time_s = position[good], np.unwrap(heading[good]), time_s[good]
    if len(time_s) < 3 or not time_s[-1] > time_s[0]:
        return {}
    found.path_w = position
    before = np.clip(time_s - SMOOTH_S / 2, time_s[0], time_s[-1])
    after = np.clip(time_s + SMOOTH_S / 2, time_s[0], time_s[-1])

    def change(values: Array) -> Array:
        return (np.interp(after, time_s, values) - np.interp(before, time_s, values)) / np.maximum(after - before, 1e-9)

    vx, vy = change(position[:, 0]), change(position[:, 1])
    found.done_s, found.measured_by = time_s, "the simulation"
    cos, sin = np.cos(heading), np.sin(heading)
    return {"forward": cos * vx + sin * vy, "left": cos * vy - sin * vx, "turn left": change(heading)}


def _timing(found: Deployment, log: Log, start: float) -> None:
    columns = {name: _column(log, "/timing", name) for name in ("deadline_s", "woke_s", "sent_s", "policy_s")}
    found.timing_s = _times(log, "/timing", start)
    found.ticks = len(found.timing_s)
    messages = log.messages.get("/timing", [])
    found.missed = sum(isinstance(m, dict) and m.get("missed") is True for m in messages)
    if not found.ticks:
        return
    late, tick = columns["woke_s"] - columns["deadline_s"], columns["sent_s"] - columns["woke_s"]
    found.simulated_clock = bool(np.nanmax(np.abs(late), initial=0.0) < 1e-9 and np.ptp(np.nan_to_num(tick)) < 1e-9)
    if not found.simulated_clock:
        found.timing = {"wake-up after the deadline": late * 1e3, "wake-up to command sent": tick * 1e3}
    policy = np.where(columns["policy_s"] > 0, columns["policy_s"], np.nan)
    running = np.array([_state(m) == "running" for m in log.messages.get("/decision", [])], bool)
    if len(running) == len(policy) and running.any():
        policy = np.where(running, policy, np.nan)
    if np.isfinite(policy).any():
        found.timing["policy"] = policy * 1e3


def _state(message: Any) -> str:
    return (text(message.get("state"), 40) or "?") if isinstance(message, dict) else "?"


def _decisions(found: Deployment, log: Log, start: float) -> None:
    messages, time_s = log.messages.get("/decision", []), _times(log, "/decision", start)
    states, doubts = [], []
    for message, t in zip(messages, time_s.tolist(), strict=True):
        content = message if isinstance(message, dict) else {}
        states.append((t, _state(content), ""))
        verdict = text(content.get("supervisor"), 40) or "?"
        why = "; ".join(_texts(content.get("reasons")) or _texts(content.get("present")))
        found.limited += verdict == "limited"
        doubts.append((t, verdict, why))
    end = float(time_s[-1]) if len(time_s) else 0.0
    found.states = _spans(states, end)
    found.doubts = [span for span in _spans(doubts, end) if span.what != "pass"]
    events = list(zip(log.messages.get("/event", []), _times(log, "/event", start).tolist(), strict=True))
    found.events_left_out = max(0, len(events) - MAX_EVENTS)
    for message, t in events[:MAX_EVENTS]:
        content = message if isinstance(message, dict) else {}
        found.events.append((t, _state(content), text(content.get("text"), 500) or ""))


def _spans(moments: list[tuple[float, str, str]], end: float) -> list[Span]:
    """Equal neighbors as one span each, ended by the next."""
    spans: list[Span] = []
    for k, (t, what, why) in enumerate(moments):
        if k and moments[k - 1][1:] == (what, why):
            continue
        if spans:
            last = spans[-1]
            spans[-1] = Span(last.what, last.begin_s, t, last.why)
        spans.append(Span(what, t, end, why))
    return spans[:2000]


def _texts(value: Any) -> list[str]:
    return [line for item in value[:20] if (line := text(item))] if isinstance(value, list) else []


def _summary(found: Deployment, summary: dict[str, Any]) -> None:
    """What the runtime wrote when it ended; a log that was cut has none."""
    steps = _parsed(summary.get("steps"))
    for raw in steps[:MAX_STEPS] if isinstance(steps, list) else ():
        step = mapping(raw)
        found.steps.append(
            Step(
                name=text(step.get("name"), 80) or "?",
                asked=text(step.get("asked"), 80) or "",
                outcome=text(step.get("outcome"), 200) or "?",
                seconds=number(step.get("seconds")),
                distance_m=number(step.get("distance_m")),
                angle_rad=number(step.get("angle_rad")),
                measured=text(step.get("measured"), 40) or "",
            )
        )
    found.reasons = _texts(_parsed(summary.get("reasons")))


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None


def finite(values: Array, digits: int = 4) -> list[float | None]:
    """JSON-ready, shortened to significant digits; NaN becomes null."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values.tolist()]
