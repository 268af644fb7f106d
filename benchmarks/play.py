"""How close to real time `gantry play` runs, with one policy and with two side by side.

    python -m benchmarks.play RUN [RUN2] [--seconds 15] [--clients page,socket,none]

For each number of policies and each kind of client, `gantry play` runs in a process of its own and the robots walk at
70 % of the highest forward command. After a warm-up, simulated time is compared with the wall clock: a
`real_time_factor` of 1.0 keeps up. Clients:

**page**: the page is open in headless Chromium, which draws 3D in software on the same cores as the robots do their
physics. A person's browser has a graphics card for that; this is the worst case. `frames_per_s` is what the page drew.

**socket**: a client that connects as the page does, asks for everything and draws nothing, as when the browser runs on
another machine. `updates_per_s` is how often new poses arrived.

**none**: nobody watches.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from agents.checkpoint import load_policy
from benchmarks.report import finish
from configs.errors import UserError, leave
from watch.browser import chromium

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = ("page", "socket", "none")
WARM_UP_S = 8.0
"""Meshes are sent, shaders compiled and the robots are walking by then."""
FORWARD = 0.7
"""Share of the highest forward command, as the key W gives it."""
SIZE = {"width": 1280, "height": 800}
_COUNT_FRAMES = "window.frames_drawn = 0; (function next() { window.frames_drawn++; requestAnimationFrame(next); })()"


@contextmanager
def playing(runs: list[Path]) -> Iterator[tuple[int, str]]:
    """`gantry play` in a process of its own: its id and its address."""
    command = [sys.executable, "-m", "gantry", "play", *map(str, runs), "--no-open", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("http://"):
                raise UserError(f"gantry play did not start: {process.stderr.read().strip()[-500:]}")
            yield process.pid, line.split()[0]
        finally:
            process.terminate()
            process.communicate(timeout=30)


def cpu_s(process: int) -> float | None:
    """[s] of processor time that the process has used so far; None where /proc does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Driver:
    """Holds the forward command and reads the viewer's own clock, over the socket that its page uses for keys."""

    def __init__(self, address: str) -> None:
        self._socket = connect(f"{address.replace('http', 'ws', 1)}drive", origin=address.rstrip("/"))  # type: ignore[arg-type]
        self.heard: list[tuple[float, float, list[float]]] = []
        """(wall time [s], simulated time [s], each robot's forward position [m]), message by message."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # the socket ends with the process that it belongs to
            for message in self._socket:
                status = json.loads(message)
                if "robots" not in status:  # it has just started
                    continue
                positions = [robot["position"][0] for robot in status["robots"]]
                self.heard.append((time.perf_counter(), status["time_s"], positions))

    def walk(self) -> None:
        self._socket.send(json.dumps({"held": [FORWARD, 0.0, 0.0]}))

    def since(self, count: int) -> tuple[float, list[float]]:
        """(simulated over real time, what each robot has walked [m]) from message `count` on.

        The factor is the slope of a line through all messages: each of them is up to 0.2 s old when it arrives.
        """
        heard = self.heard[count:]
        if len(heard) < 10:
            raise UserError("gantry play has stopped telling how it goes")
        wall_s, simulated_s, positions = zip(*heard, strict=True)
        slope = float(np.polyfit(wall_s, simulated_s, 1)[0])
        return slope, [round(b - a, 2) for a, b in zip(positions[0], positions[-1], strict=True)]

    def close(self) -> None:
        self._socket.close()


class Listener:
    """Takes everything that the page would get, and draws nothing."""

    def __init__(self, address: str) -> None:
        import viser

        protocol = Subprotocol(f"viser-v{viser.__version__}")
        self._socket = connect(
            address.replace("http", "ws", 1), subprotocols=[protocol], max_size=None, origin=address.rstrip("/")  # type: ignore[arg-type]
        )  # fmt: skip
        self.updates = self.bytes = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(Exception):
            for message in self._socket:
                self.updates += 1
                self.bytes += len(message)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def watching(client: str, address: str) -> Iterator[Any]:
    """The page, the listener, or None."""
    if client == "page":
        with chromium(webgl=True) as browser:
            page = browser.new_page(viewport=SIZE)
            page.goto(address)
            page.wait_for_function("() => window.gantryPlay && document.querySelector('canvas')", timeout=60_000)
            yield page
    elif client == "socket":
        listener = Listener(address)
        try:
            yield listener
        finally:
            listener.close()
    else:
        yield None


def measure(runs: list[Path], client: str, seconds: float) -> dict[str, Any]:
    """One row: so many policies, that client."""
    with playing(runs) as (process, address), watching(client, address) as watcher:
        driver = Driver(address)
        try:
            driver.walk()
            time.sleep(WARM_UP_S)
            if client == "page":
                watcher.evaluate(_COUNT_FRAMES)
            updates, volume = (watcher.updates, watcher.bytes) if client == "socket" else (0, 0)
            used_s, began, count = cpu_s(process), time.perf_counter(), len(driver.heard)
            time.sleep(seconds)
            wall_s, ended_s = time.perf_counter() - began, cpu_s(process)
            factor, walked_m = driver.since(count)
            row: dict[str, Any] = {
                "policies": len(runs), "client": client, "real_time_factor": round(factor, 3),
                "play_cores": None if used_s is None or ended_s is None else round((ended_s - used_s) / wall_s, 2),
                "walked_m": walked_m,
            }  # fmt: skip
            if client == "page":
                row["frames_per_s"] = round(watcher.evaluate("window.frames_drawn") / wall_s, 1)
            elif client == "socket":
                row["updates_per_s"] = round((watcher.updates - updates) / wall_s, 1)
                row["kbyte_per_s"] = round((watcher.bytes - volume) / wall_s / 1e3, 1)
        finally:
            driver.close()
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one run; or two, which also stand together")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement, after the warm-up")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="which, separated by commas (default: all)")
    parser.add_argument("--policies", default="1,2", help="how many at a time, separated by commas (default: 1,2)")
    options = parser.parse_args()
    if len(options.runs) > 2:
        raise UserError(f"{len(options.runs)} runs given; valid: one or two")
    if not options.seconds > 0:
        raise UserError(f"--seconds {options.seconds}: valid is more than 0")
    clients, policies = options.clients.split(","), options.policies.split(",")
    if unknown := [name for name in clients if name not in CLIENTS]:
        raise UserError(f"--clients {unknown[0]!r} is unknown; valid: {', '.join(CLIENTS)}")
    if unknown := [count for count in policies if count not in ("1", "2")]:
        raise UserError(f"--policies {unknown[0]!r}: valid are 1 and 2")
    pair = [options.runs[0], options.runs[-1]]
    rows = [measure(pair[: int(count)], client, options.seconds) for count in policies for client in clients]
    finish("play", {"rows": rows, "seconds": options.seconds}, load_policy(options.runs[0]).task)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        leave(error)
