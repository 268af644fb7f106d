"""The keyboard as a command source."""

from __future__ import annotations

import os
import re
import select
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from configs.errors import UserError
from sim2real.commands import Action, Request, Situation
from sim2real.contract import CommandEntry

_SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]")
"""What arrow and function keys send: it begins like Esc, which stops."""


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
