"""Takes the simulated robot's console lines (`robot_actions`) from a socket and from the keyboard.

    python -m sim2real.robot_console SOCKET push 0 1.5

sends one line to a robot started with `--control SOCKET` and prints its answer.  At a terminal the robot
takes the same lines from the keyboard.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
from pathlib import Path
from typing import Any

from configs.errors import UserError
from sim2real.robot_actions import do, usage
from sim2real.robot_core import SimulatedRobot

_MAX_LINE = 4096


class Console:
    """Takes lines from a unix socket and from a terminal; never blocks."""

    def __init__(self, robot: SimulatedRobot, path: Path | None) -> None:
        """`path` is where the socket is made; it must not exist.  Raises UserError if it cannot be."""
        self._robot, self._path = robot, path
        self._open: dict[int, tuple[socket.socket, bytes]] = {}
        self._listener: socket.socket | None = None
        if path is not None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.setblocking(False)
            try:
                self._listener.bind(str(path))
            except OSError as error:
                raise UserError(f"--control {path}: {error}; give a new, short path") from error
            self._listener.listen(8)

    def serve(self) -> None:
        """Obey what has arrived."""
        if self._listener is not None:
            waiting = [self._listener.fileno(), *self._open]
            for number in select.select(waiting, [], [], 0.0)[0]:
                self._accept() if number == self._listener.fileno() else self._read(number)
        if _at_terminal() and select.select([0], [], [], 0.0)[0]:
            for line in os.read(0, _MAX_LINE).decode(errors="replace").splitlines():
                print(do(self._robot, line), flush=True)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            self._open[peer.fileno()] = (peer, b"")

    def _read(self, number: int) -> None:
        peer, before = self._open.pop(number)
        try:
            data = peer.recv(_MAX_LINE)
        except OSError:
            data = b""
        line, end, _ = (before + data).partition(b"\n")
        if not end and data and len(line) < _MAX_LINE:
            self._open[number] = (peer, line)
            return
        with contextlib.suppress(OSError):
            if end:
                peer.sendall(do(self._robot, line.decode(errors="replace")).encode() + b"\n")
        peer.close()

    def close(self) -> None:
        """Remove the socket."""
        for peer, _ in self._open.values():
            peer.close()
        if self._listener is not None and self._path is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)


def _at_terminal() -> bool:
    """Whether keys come to this process; one in the background would be stopped for reading them."""
    with contextlib.suppress(OSError, ValueError):
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    return False


def tell(path: Path | str, line: str, timeout_s: float = 2.0) -> dict[str, Any]:
    """Send one line to the robot whose socket is `path`; returns its answer.

    Raises UserError if the robot refuses the line or does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_s)
        try:
            peer.connect(str(path))
            peer.sendall(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n") and (data := peer.recv(_MAX_LINE)):
                answer += data
        except OSError as error:
            raise UserError(f"no robot answers at {path}: {error}; was it started with --control?") from error
    content: dict[str, Any] = json.loads(answer or '{"error": "the robot closed without an answer"}')
    if "error" in content:
        raise UserError(content["error"])
    return content


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: python -m sim2real.robot_console SOCKET LINE...\nlines:\n{usage()}")
    try:
        print(json.dumps(tell(sys.argv[1], " ".join(sys.argv[2:]))))
    except UserError as refusal:
        sys.exit(f"error: {refusal}")
