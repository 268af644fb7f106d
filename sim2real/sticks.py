"""Sticks and buttons as command sources: the robot's own hand-held remote, and a gamepad."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from configs.errors import UserError
from sim2real.commands import Action, Request, Situation
from sim2real.contract import CommandEntry
from sim2real.links.link import FloatArray, Remote

DEAD_ZONE = 0.08
"""Share of a stick's travel about its middle that counts as the middle."""


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
