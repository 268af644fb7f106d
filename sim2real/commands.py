"""Command sources: what a person, a script or a program asks the runtime to do.

A source is polled once per tick and must not block.  It may ask for an `Action` and give values for the
reading `command` (for walking: forward, left [m/s], turn left [rad/s]); the runtime clips those to the
contract's ranges.  All sources can stop the robot.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import struct
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from configs.errors import UserError, unknown
from sim2real.bundle import CommandEntry
from sim2real.links.link import FloatArray, Reading, Remote

_SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]")
"""What arrow and function keys send: it begins like Esc, which stops."""
DEAD_ZONE = 0.08
"""Share of a stick's travel about its middle that counts as the middle."""


class State(StrEnum):
    """Where the runtime is."""

    LIMP = "limp"
    STAND_UP = "stand up"
    READY = "ready"
    RUNNING = "running"
    DAMPING = "damping"


class Action(StrEnum):
    """What can be asked for."""

    STAND = "stand"
    """From limp, or unlatched damping: stand up over seconds; then `READY`."""
    RUN = "run"
    """From ready: let the policy drive."""
    HOLD = "hold"
    """From running: back to the standing pose, under the runtime's control."""
    DAMP = "damp"
    """The normal end: motors only damp; the robot sinks down."""
    STOP = "stop"
    """Emergency stop: damping, latched until a person clears it."""
    CLEAR = "clear"
    """Release latched damping, once its cause is gone: to limp."""
    QUIT = "quit"
    """Damp, then end."""


@dataclass(frozen=True)
class Request:
    """What one source wants at one tick."""

    action: Action | None = None
    command: FloatArray | None = None
    """Values of the reading `command`; None to leave them to other sources."""
    source: str = ""
    """Who asks, for the log."""


@dataclass(frozen=True)
class Pose:
    """Where the robot truly is, if the link knows."""

    position_w: FloatArray
    """(3,) [m] base in the world."""
    heading: float
    """[rad] about the world's vertical axis."""


@dataclass(frozen=True)
class Situation:
    """What a source may look at."""

    time_s: float
    """The runtime's clock."""
    state: State
    reading: Reading | None
    """The newest one."""
    truth: Pose | None
    reasons: tuple[str, ...]
    """Why damping is latched; empty if it is not."""


class CommandSource(Protocol):
    """One way of commanding the robot."""

    def poll(self, situation: Situation) -> Request:
        """What is wanted now.  Called from the control loop: must return at once and not raise."""
        ...

    def close(self) -> None:
        """Give back what was opened.  Safe to call twice."""
        ...


class ProgramSource:
    """Commands from Python; its methods may be called from any thread."""

    def __init__(self, name: str = "program") -> None:
        self._name = name
        self._actions: deque[Action] = deque()
        self._command: FloatArray | None = None

    def ask(self, action: Action | str) -> None:
        """Ask for an action at the next tick; one action a tick, in order."""
        self._actions.append(Action(action))

    def command(self, *values: float) -> None:
        """Values of the reading `command` from now on, for walking `command(forward, left, turn)`."""
        self._command = np.array(values, np.float64)

    def poll(self, situation: Situation) -> Request:
        action = self._actions.popleft() if self._actions else None
        return Request(action, self._command, self._name)

    def close(self) -> None:
        self._actions.clear()


class Keyboard:
    """Keys of the terminal: 1 stand, 2 run, 3 hold, 4 damp, space STOP, c clear, Q quit; w/s, a/d, q/e steer, x 0.

    Reads in a thread of its own, so it neither delays the loop nor waits for Enter.
    """

    KEYS: ClassVar = {
        "1": Action.STAND,
        "2": Action.RUN,
        "3": Action.HOLD,
        "4": Action.DAMP,
        " ": Action.STOP,
        "c": Action.CLEAR,
        "Q": Action.QUIT,
    }
    STEPS: ClassVar = {"w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "q": (2, 1), "e": (2, -1)}
    HELP = "1 stand  2 run  3 hold  4 damp  SPACE stop  c clear  Q quit   w/s forward  a/d left/right  q/e turn  x zero"

    def __init__(
        self, commands: Sequence[CommandEntry], *, steer: bool = True, file_descriptor: int | None = None
    ) -> None:
        """`steer` False leaves `command` to another source.  Raises UserError if there is no terminal."""
        self._entries, self._steer = tuple(commands), steer
        self._values = np.zeros(len(commands))
        self._actions: deque[Action] = deque()
        self._restore: list[Any] | None = None
        self._fd = sys.stdin.fileno() if file_descriptor is None else file_descriptor
        if os.isatty(self._fd):
            import termios
            import tty

            self._restore = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        elif file_descriptor is None:
            raise UserError("the keyboard needs a terminal; use --script, --gamepad or --remote without one")
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._thread.start()

    def poll(self, situation: Situation) -> Request:
        action = self._actions.popleft() if self._actions else None
        return Request(action, self._values.copy() if self._steer and self._entries else None, "keyboard")

    def press(self, key: str) -> None:
        """What one key does; unknown ones do nothing, apart from Esc, which stops too."""
        if key == "\x1b":
            key = " "
        if key in self.KEYS:
            action = self.KEYS[key]
            if action is Action.STOP:
                self._actions.clear()  # nothing that was typed before may come after a stop
                self._values = np.zeros_like(self._values)
            self._actions.append(action)
        elif key == "x":
            self._values = np.zeros_like(self._values)
        elif key in self.STEPS and self.STEPS[key][0] < len(self._entries):
            index, sign = self.STEPS[key]
            entry, values = self._entries[index], self._values.copy()
            values[index] = min(max(values[index] + sign * (entry.high - entry.low) / 20, entry.low), entry.high)
            values[np.abs(values) < 1e-9] = 0.0
            self._values = values  # replaced as a whole: the loop may be reading it

    def close(self) -> None:
        if self._wake_write >= 0:
            os.write(self._wake_write, b"x")
            self._thread.join(1.0)
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1
        if self._restore is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._restore)
            self._restore = None

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            data = os.read(self._fd, 64)
            if not data:
                # The terminal is gone, and with it the person's way to stop the robot.
                self._actions.append(Action.STOP)
                return
            for key in _SEQUENCE.sub(b"", data).decode(errors="ignore"):
                self.press(key)


class RemoteSource:
    """The robot's own hand-held remote, as it comes with the readings.

    L2+A stand, start run, select hold, L2+X damp, L2+B STOP (the supervisor sees that by itself), L2+Y clear.
    Left stick: forward and sideways; right stick: turn.
    """

    BUTTONS = (
        (frozenset({"L2", "B"}), Action.STOP),
        (frozenset({"L2", "X"}), Action.DAMP),
        (frozenset({"L2", "A"}), Action.STAND),
        (frozenset({"L2", "Y"}), Action.CLEAR),
        (frozenset({"start"}), Action.RUN),
        (frozenset({"select"}), Action.HOLD),
    )

    def __init__(self, commands: Sequence[CommandEntry]) -> None:
        self._entries = tuple(commands)
        self._before: frozenset[str] | None = None

    def poll(self, situation: Situation) -> Request:
        remote = situation.reading.remote if situation.reading is not None else None
        if remote is None:
            return Request(command=np.zeros(len(self._entries)) if self._entries else None, source="remote")
        before, self._before = self._before, remote.buttons
        action = None
        if before is not None:  # what is held when the runtime starts was not meant for it
            pressed = (a for keys, a in self.BUTTONS if keys <= remote.buttons and not keys <= before)
            action = next(pressed, None)
        return Request(action, sticks_to_command(remote, self._entries), "remote")

    def close(self) -> None:
        pass


def sticks_to_command(remote: Remote, commands: Sequence[CommandEntry]) -> FloatArray | None:
    """Values of `command` (forward, left, turn left) from two sticks; None for another kind of command."""
    if len(commands) != 3:
        return None
    sticks = np.array([remote.left_y, -remote.left_x, -remote.right_x])
    moved = np.sign(sticks) * np.clip((np.abs(sticks) - DEAD_ZONE) / (1.0 - DEAD_ZONE), 0.0, 1.0)
    reach = [entry.high if value > 0 else -entry.low for value, entry in zip(moved, commands, strict=True)]
    return np.array(moved * np.array(reach))


class Gamepad:
    """A gamepad through Linux's joystick device: A stand, start run, back hold, X damp, B STOP, Y clear.

    Should it disappear, the robot is stopped.
    """

    EVENT = struct.Struct("<IhBB")  # time [ms], value, type, number (linux/joystick.h)
    BUTTON, AXIS = 1, 2
    ACTIONS: ClassVar = {
        0: Action.STAND,
        1: Action.STOP,
        2: Action.DAMP,
        3: Action.CLEAR,
        6: Action.HOLD,
        7: Action.RUN,
    }
    """Buttons as the kernel's xpad driver numbers them."""

    def __init__(self, commands: Sequence[CommandEntry], device: Path = Path("/dev/input/js0")) -> None:
        """Raises UserError if the device cannot be read."""
        self._entries = tuple(commands)
        self._axes: dict[int, float] = {}
        self._fd = -1
        try:
            self._fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            present = ", ".join(str(p) for p in sorted(Path("/dev/input").glob("js*"))) or "none"
            raise UserError(
                f"gamepad {device}: {error.strerror}; present: {present}; plug it in, or give --gamepad DEVICE"
            ) from error

    def poll(self, situation: Situation) -> Request:
        action: Action | None = None
        try:
            data = os.read(self._fd, self.EVENT.size * 64) if self._fd >= 0 else b""
            if not data:
                raise OSError("gone")
            for _, value, kind, number in self.EVENT.iter_unpack(data[: len(data) // 8 * 8]):
                if kind == self.AXIS or kind == self.AXIS | 0x80:  # 0x80: state at start
                    self._axes[number] = value / 32767.0
                elif kind == self.BUTTON and value and action is not Action.STOP:
                    action = self.ACTIONS.get(number, action)
        except BlockingIOError:
            pass
        except OSError:
            self._axes.clear()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                action = Action.STOP
        axis = self._axes.get
        remote = Remote(axis(0, 0.0), -axis(1, 0.0), axis(3, 0.0), -axis(4, 0.0))
        return Request(action, sticks_to_command(remote, self._entries), "gamepad")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True)
class Step:
    """One step of a script: an action, or a command held for a time, distance or angle."""

    name: str
    do: Action | None = None
    command: tuple[float, ...] | None = None
    for_s: float | None = None
    distance_m: float | None = None
    """Along the commanded direction, from where the step began."""
    angle_rad: float | None = None

    FIELDS = ("name", "do", "command", "for_s", "distance_m", "angle_rad")


STEP_TIMEOUT_S = 20.0
"""A distance or angle may take three times as long as the command says, plus this for an action."""
_AFTER = {Action.STAND: State.READY, Action.RUN: State.RUNNING, Action.HOLD: State.READY}


def tour(commands: Sequence[CommandEntry]) -> tuple[Step, ...]:
    """The built-in tour: stand up, 1 m/s forward 5 m, turn, sideways, stop, damp.

    For a policy without a walking command: stand up, run for 10 s, damp.
    """
    begin = (Step("stand up", Action.STAND), Step("start the policy", Action.RUN))
    end = (Step("hold", Action.HOLD), Step("damp", Action.DAMP), Step("rest", for_s=2.0))
    if len(commands) != 3:
        return (*begin, Step("run", for_s=10.0), *end)
    return (
        *begin,
        Step("stand still", command=(0.0, 0.0, 0.0), for_s=1.0),
        Step("forward 5 m", command=(1.0, 0.0, 0.0), distance_m=5.0),
        Step("turn left 90°", command=(0.0, 0.0, 0.8), angle_rad=math.pi / 2),
        Step("left 1.5 m", command=(0.0, 0.4, 0.0), distance_m=1.5),
        Step("stop", command=(0.0, 0.0, 0.0), for_s=1.5),
        *end,
    )


def parse_script(content: Any, commands: Sequence[CommandEntry]) -> tuple[Step, ...]:
    """Steps from a parsed YAML or JSON list of mappings.  Raises UserError naming the step and the fault."""
    if isinstance(content, dict):
        content = content.get("steps")
    if not isinstance(content, list) or not content:
        raise UserError("a script is a list of steps such as {command: [1, 0, 0], distance_m: 5}")
    steps = []
    for number, item in enumerate(content, 1):
        if isinstance(item, str):
            item = {"do": item}
        if not isinstance(item, dict):
            raise UserError(f"step {number} of the script is {item!r}; valid is a mapping or an action's name")
        for key in item:
            if key not in Step.FIELDS:
                raise unknown(f"key of step {number}", key, Step.FIELDS)
        do = item.get("do")
        if do is not None and do not in list(Action):
            raise unknown(f"action of step {number}", do, list(Action))
        values = item.get("command")
        try:
            command = None if values is None else tuple(float(v) for v in values)
            lengths = {
                key: float(item[key]) for key in ("for_s", "distance_m", "angle_rad") if item.get(key) is not None
            }
        except (TypeError, ValueError):
            raise UserError(f"step {number} of the script: {item!r} holds what is no number") from None
        if command is not None and len(command) != len(commands):
            raise UserError(
                f"step {number}: command has {len(command)} values; this policy takes {len(commands)}: "
                f"{', '.join(entry.name for entry in commands) or 'none'}"
            )
        if (do is None) == (not lengths) or len(lengths) > 1:
            raise UserError(
                f"step {number}: give either `do`, or one of for_s, distance_m and angle_rad with a command"
            )
        moving = math.hypot(*(command or (0.0,))[:2]) if "distance_m" in lengths else None
        if "angle_rad" in lengths:
            moving = abs(command[2]) if command is not None and len(command) == 3 else 0.0
        if moving == 0.0:
            raise UserError(f"step {number}: its command does not move the robot there")
        name = item.get("name") or (str(do) if do else f"step {number}")
        steps.append(Step(str(name), Action(do) if do else None, command, **lengths))
    return tuple(steps)


def load_script(choice: str, commands: Sequence[CommandEntry]) -> tuple[Step, ...]:
    """The built-in `tour`, or a YAML or JSON file of steps.  Raises UserError if it cannot be read."""
    if choice == "tour":
        return tour(commands)
    path = Path(choice)
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"script {choice!r}: {error.strerror}; valid: tour, or a YAML or JSON file") from error
    try:
        import yaml

        content = yaml.safe_load(text)
    except ImportError:
        import json

        try:
            content = json.loads(text)
        except ValueError as error:
            raise UserError(f"script {choice!r} is no JSON ({error}); for YAML install PyYAML") from error
    except yaml.YAMLError as error:
        raise UserError(f"script {choice!r}: {' '.join(str(error).split())}") from error
    return parse_script(content, commands)


@dataclass(frozen=True)
class StepResult:
    """How one step of a script went."""

    name: str
    outcome: str
    """`done`, `timeout` or what the robot was damped for."""
    seconds: float
    asked: str
    """What was asked for."""
    distance_m: float | None
    """Moved along the commanded direction: true, or by dead reckoning; None for a step that goes nowhere."""
    angle_rad: float | None
    """Turned, likewise."""
    measured: str
    """`truth` or `dead reckoning`, for the two numbers."""


class Script:
    """Runs steps one after the other and then quits; quits early when the robot is damped."""

    def __init__(self, steps: Sequence[Step], commands: Sequence[CommandEntry]) -> None:
        self._steps, self._entries = deque(steps), tuple(commands)
        self.results: list[StepResult] = []
        self._current: Step | None = None
        self._began_s = self._before_s = 0.0
        self._start: Pose | None = None
        self._heading: deque[float] = deque(maxlen=1)
        self._turned = 0.0
        self._reckoned_m = self._reckoned_rad = 0.0

    @property
    def ok(self) -> bool:
        """Whether every step was done."""
        return not self._steps and self._current is None and all(r.outcome == "done" for r in self.results)

    def poll(self, situation: Situation) -> Request:
        step, action = self._current, None
        if step is not None:
            self._advance(situation)
            outcome = self._outcome(step, situation)
            if outcome is not None:
                self._finish(step, outcome, situation)
                if outcome != "done":
                    self._steps.clear()
                step = None
        if step is None and self._steps:
            step = self._begin(self._steps.popleft(), situation)
            action = step.do
        elif step is None:
            action = Action.QUIT
        values = None if step is None else step.command
        zero = np.zeros(len(self._entries))
        return Request(action, zero if values is None else np.array(values), "script")

    def close(self) -> None:
        self._steps.clear()

    def _begin(self, step: Step, situation: Situation) -> Step:
        self._current = step
        self._began_s = self._before_s = situation.time_s
        self._start = situation.truth
        self._turned = self._reckoned_m = self._reckoned_rad = 0.0
        self._heading.clear()
        return step

    def _advance(self, situation: Situation) -> None:
        elapsed_s = situation.time_s - self._before_s
        self._before_s = situation.time_s
        command = self._current.command if self._current else None
        if command is not None and len(command) == 3 and situation.state is State.RUNNING:
            clipped = [min(max(v, e.low), e.high) for v, e in zip(command, self._entries, strict=True)]
            self._reckoned_m += math.hypot(*clipped[:2]) * elapsed_s
            self._reckoned_rad += clipped[2] * elapsed_s
        if situation.truth is not None:
            before = self._heading[0] if self._heading else situation.truth.heading
            self._turned += math.remainder(situation.truth.heading - before, math.tau)
            self._heading.append(situation.truth.heading)

    def _moved(self, situation: Situation, step: Step) -> tuple[float, float]:
        """[m] along the commanded direction and [rad] turned since the step began."""
        if self._start is None or situation.truth is None:
            return self._reckoned_m, self._reckoned_rad
        way = situation.truth.position_w - self._start.position_w
        forward, left = (*(step.command or ()), 1.0, 0.0)[:2] if step.command else (1.0, 0.0)
        direction = self._start.heading + math.atan2(left, forward)
        return float(way[0] * math.cos(direction) + way[1] * math.sin(direction)), self._turned

    def _outcome(self, step: Step, situation: Situation) -> str | None:
        elapsed_s = situation.time_s - self._began_s
        if situation.reasons:
            return "damped: " + "; ".join(situation.reasons)
        if step.do is not None:
            if situation.state is _AFTER.get(step.do, situation.state) and elapsed_s > 0.0:
                return "done"
            return "timeout" if elapsed_s > STEP_TIMEOUT_S else None
        if step.command is not None and situation.state is not State.RUNNING:
            return f"not running but {situation.state}"
        distance_m, angle_rad = self._moved(situation, step)
        if step.for_s is not None:
            return "done" if elapsed_s >= step.for_s - 1e-9 else None
        if step.distance_m is not None:
            done, expected_s = distance_m >= step.distance_m, step.distance_m / _speed(step)
        else:
            wanted = abs(step.angle_rad or 0.0)
            done, expected_s = abs(angle_rad) >= wanted, wanted / abs((step.command or (0, 0, 1))[2])
        if done:
            return "done"
        return "timeout" if elapsed_s > 3.0 * expected_s + 2.0 else None

    def _finish(self, step: Step, outcome: str, situation: Situation) -> None:
        distance_m, angle_rad = self._moved(situation, step)
        moves = step.command is not None and len(step.command) == 3
        known = self._start is not None and situation.truth is not None
        asked = str(step.do) if step.do else f"{list(step.command or ())}"
        for text, value in (("s", step.for_s), ("m", step.distance_m), ("rad", step.angle_rad)):
            asked += f" {value:.3g} {text}" if value is not None else ""
        self.results.append(
            StepResult(
                step.name,
                outcome,
                situation.time_s - self._began_s,
                asked,
                distance_m if moves else None,
                angle_rad if moves else None,
                "truth" if known else "dead reckoning",
            )
        )
        self._current = None


def _speed(step: Step) -> float:
    return max(math.hypot(*(step.command or (0.0, 0.0))[:2]), 1e-3)


def close_all(sources: Sequence[CommandSource]) -> None:
    """Close every source, also when one fails to."""
    with contextlib.ExitStack() as stack:
        for source in sources:
            stack.callback(source.close)
