"""Command sources: what a person, a script or a program asks the runtime to do.

A source is polled once per tick and must not block.  It may ask for an `Action` and give values for the
reading `command` (for walking: forward, left [m/s], turn left [rad/s]); the runtime clips those to the
contract's ranges.  All sources can stop the robot.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from sim2real.links.link import FloatArray, Reading


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


def close_all(sources: Sequence[CommandSource]) -> None:
    """Close every source, also when one fails to."""
    with contextlib.ExitStack() as stack:
        for source in sources:
            stack.callback(source.close)
