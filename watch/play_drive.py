"""What people ask of the robots: sliders set a command, keys and gamepads override it while they are held."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.tasks.task import Command


@dataclass(frozen=True)
class Axis:
    """One component of the command, with its limits."""

    label: str
    low: float
    high: float
    unit: str


WALK_LABELS = ("Forward", "Left", "Turn left")


def axes(command: Command | None) -> tuple[Axis, ...]:
    """The command's components; a walking command has names, others are numbered."""
    if command is None:
        return ()
    walks = command.units == ("m/s", "m/s", "rad/s")
    return tuple(
        Axis(WALK_LABELS[i] if walks else f"Command {i + 1}", float(low), float(high), unit)
        for i, (low, high, unit) in enumerate(zip(command.low, command.high, command.units, strict=True))
    )


class Drive:
    """The command in force. Thread-safe: pages and sliders write, the simulation reads."""

    def __init__(self, command: Command | None) -> None:
        self.axes = axes(command)
        self._lock = threading.Lock()
        self._set = np.zeros(len(self.axes))
        self._held: dict[int, np.ndarray] = {}

    def set(self, index: int, value: float) -> None:
        """A slider's value, clipped to the axis' limits."""
        axis = self.axes[index]
        with self._lock:
            self._set[index] = min(max(value, axis.low), axis.high)

    def hold(self, page: int, share: Sequence[float]) -> None:
        """What a page's keys or gamepad ask for: -1..1 of each axis' limit. All zeros hands over to the sliders."""
        values = np.zeros(len(self.axes))
        for i, part in enumerate(share[: len(self.axes)]):
            values[i] = min(max(part, -1.0), 1.0) if math.isfinite(part) else 0.0
        with self._lock:
            if values.any():
                self._held[page] = values
            else:
                self._held.pop(page, None)

    def release(self, page: int) -> None:
        """A page that is gone holds no keys."""
        with self._lock:
            self._held.pop(page, None)

    def stop(self) -> None:
        with self._lock:
            self._set[:] = 0.0

    @property
    def command(self) -> np.ndarray:
        """(C,) in the axes' units: of the page that took hold last, else the sliders'."""
        with self._lock:
            if not self._held:
                return self._set.copy()
            share = next(reversed(self._held.values()))
            reach = [axis.high if part > 0 else -axis.low for axis, part in zip(self.axes, share, strict=True)]
            command: np.ndarray = share * np.array(reach)
            return command
