"""The guard: a small process that owns the robot's command topic and damps when the runtime falls silent.

What a real Go2 does when commands stop is unknown to this project: it may hold the last command, go limp or
damp. The guard exists so that commands do not stop.  It repeats the runtime's last command at the robot's
own rate, checks every command against the limits once more, and publishes damping, latched, as soon as

- no command arrived for `--silence-s` (`silence`), or the runtime's connection ended (`disconnected`);
- a command is not finite, outside the limits, out of sequence or garbled (`bad_command`);
- another writer appears on the command topic (`publisher`);
- something fails inside the guard (`internal`).

The silence that is forgiven is by default the contract's `stale_s` (0.1 s), the pause after which the
supervisor damps, too.  A shorter one would make the last resort the first to act, on every machine that is
busy for three ticks; in 0.1 s a robot that holds its last joint targets does not fall.

Only a clear that names a person releases it; it then keeps damping until the next good command.  It
outlives the runtime and goes on damping until somebody ends it: SIGTERM makes it damp for another half
second and leave. Nothing guards against the guard's own end by kill -9 or a power failure but the runtime,
which then publishes damping by itself, and the person at the emergency stop.

Run by the link; by hand: `python -m sim2real.guard --interface lo --domain 0 --socket PATH --limits FILE`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim2real.guard_client import Frame, FrameError, FrameReader, GuardStatus, Kind, unpack_command
from sim2real.limits import SafetyLimits, command_violation
from sim2real.links.link import Command, FloatArray, LinkError

if TYPE_CHECKING:
    from sim2real.links.unitree_commands import CommandPublisher

HEARTBEAT_S = 0.05
FOREIGN_CHECK_S = 0.1
FAREWELL_S = 0.5


class Guard:
    """The guard's decisions, without sockets, DDS or a clock of its own."""

    def __init__(
        self, limits: SafetyLimits, publish: Callable[[Command], None], silence_s: float | None = None
    ) -> None:
        """`publish` sends a command to the robot; it is called for each new command and by every `tick`.

        `silence_s` None is `limits.stale_s`."""
        self.limits = limits
        self.status = GuardStatus(pid=os.getpid())
        self._publish = publish
        self._silence_s = limits.stale_s if silence_s is None else silence_s
        self._heard_s = 0.0
        self._sequence = 0
        self._sequence_sent = 0
        self._target: FloatArray | None = None  # of the last command that was passed on
        self._foreign: tuple[str, ...] = ()
        arrays = limits.arrays
        self._command = Command.damping(np.clip(np.zeros_like(arrays.lower), arrays.lower, arrays.upper), 0.0)

    def connected(self) -> None:
        """A runtime connected; its sequence numbers start anew."""
        self._sequence = self._sequence_sent = 0
        self._target = None

    def disconnected(self) -> None:
        """The runtime's connection ended."""
        if self.status.state in ("passing", "ready"):
            self.damp(
                f"disconnected: the runtime is gone; when the robot is safe, end the guard with: kill {self.status.pid}"
            )

    def receive(self, frame: Frame, now_s: float) -> None:
        """A frame from the runtime."""
        if frame.kind is Kind.CLEAR:
            self._clear(frame)
        elif frame.kind is Kind.COMMAND:
            self._receive_command(frame, now_s)

    def see_publishers(self, foreign: tuple[str, ...]) -> None:
        """Other writers on the command topic."""
        self._foreign = foreign
        if foreign != self.status.foreign_publishers:
            self.status = replace(self.status, foreign_publishers=foreign)
        if foreign and self.status.state in ("passing", "ready"):
            self.damp(f"publisher: {'; '.join(foreign)}")

    def tick(self, now_s: float) -> None:
        """Once per robot period: notice silence and send again what holds now."""
        if self.status.state == "passing" and now_s - self._heard_s > self._silence_s:
            self.damp(f"silence: no command for {now_s - self._heard_s:.3f} s")  # publishes
        elif self.status.state != "idle":
            self._publish(self._command)

    def damp(self, reason: str) -> None:
        """Latch damping and send it at once; the first reason stays."""
        if self.status.state != "damping":
            self.status = replace(self.status, state="damping", reason=reason)
        self._command = Command.damping(self._command.joint_target, self.limits.damping_kd)
        self._publish(self._command)

    def _receive_command(self, frame: Frame, now_s: float) -> None:
        if self.status.state == "damping":
            return
        try:
            command = unpack_command(frame.payload, len(self.limits.joint_names))
        except FrameError as error:
            return self.damp(f"bad_command: {error}")
        if frame.sequence <= self._sequence:
            return self.damp(f"bad_command: number {frame.sequence} after {self._sequence}")
        self._sequence = frame.sequence
        age_s = now_s - frame.stamp_s
        if not -self._silence_s < age_s < self._silence_s:
            return None  # too old to be acted on; silence follows if nothing newer comes
        violation = command_violation(self.limits, command, self._target, periods=frame.sequence - self._sequence_sent)
        if violation is not None:
            return self.damp(f"bad_command: {violation}")
        if self._foreign:
            return self.damp(f"publisher: {'; '.join(self._foreign)}")
        self._heard_s, self._sequence_sent = now_s, frame.sequence
        self._target = command.joint_target
        self._command = command
        if self.status.state != "passing":
            self.status = replace(self.status, state="passing", reason="")
        self._publish(command)
        return None

    def _clear(self, frame: Frame) -> None:
        by = frame.payload.decode(errors="replace").strip()
        refusal = ""
        if not by:
            refusal = "a clear must name the person who looked at the robot"
        elif self._foreign:
            refusal = f"publisher: {'; '.join(self._foreign)}"
        elif self.status.state == "damping":
            self._target = None
            self.status = replace(self.status, state="ready", reason=f"cleared by {by}")
        self._sequence = max(self._sequence, frame.sequence)
        self.status = replace(self.status, answers=frame.sequence, refusal=refusal)


class _Connection:
    """The one runtime that is connected, or none; never blocks."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._peer: socket.socket | None = None
        self._frames = FrameReader()
        self._unsent = b""
        self._sequence = 0

    def serve(self, guard: Guard, timeout_s: float) -> None:
        """Wait up to `timeout_s` for a runtime to connect, speak or leave, and pass that on."""
        sockets = [self._listener] if self._peer is None else [self._listener, self._peer]
        ready, _, _ = select.select(sockets, [], [], max(0.0, timeout_s))
        if self._peer in ready:
            self._read(guard)
        if self._listener in ready:
            self._accept(guard)

    def _accept(self, guard: Guard) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # it left again
        if self._peer is not None:
            peer.close()  # the robot has one runtime
            return
        peer.setblocking(False)
        self._peer, self._frames, self._unsent = peer, FrameReader(), b""
        guard.connected()

    def _read(self, guard: Guard) -> None:
        assert self._peer is not None
        try:
            data = self._peer.recv(1 << 20)
            frames = self._frames.feed(data)
        except BlockingIOError:
            return
        except FrameError as error:
            guard.damp(f"bad_command: {error}")
            return self._drop(guard)
        except OSError:
            return self._drop(guard)
        if not data:
            return self._drop(guard)
        for frame in frames:
            guard.receive(frame, time.monotonic())

    def tell(self, status: GuardStatus) -> None:
        """Send the status if the runtime still reads; else leave it out."""
        if self._peer is None:
            return
        if not self._unsent:
            self._sequence += 1
            self._unsent = Frame(Kind.STATUS, self._sequence, time.monotonic(), status.to_json()).pack()
        with contextlib.suppress(OSError):  # a lost peer is noticed by the next read
            self._unsent = self._unsent[self._peer.send(self._unsent) :]

    def _drop(self, guard: Guard) -> None:
        if self._peer is not None:
            self._peer.close()
        self._peer = None
        guard.disconnected()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m sim2real.guard", description=summary)
    parser.add_argument("--socket", required=True, type=Path, help="where the runtime connects (made here)")
    parser.add_argument("--limits", required=True, type=Path, help="SafetyLimits as JSON")
    parser.add_argument("--interface", help="network interface; without it, CYCLONEDDS_URI holds")
    parser.add_argument("--domain", type=int, default=0, help="DDS domain (Go2: 0)")
    parser.add_argument("--silence-s", type=float, help="damp after this time without a command (default: stale_s)")
    parser.add_argument("--rate-hz", type=float, default=500.0, help="how often to repeat commands (Go2: 500)")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal must not end the guard
        print(f"{time.strftime('%H:%M:%S')} guard: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Guard until SIGTERM; returns 0, or 2 if it cannot start."""
    options = _parse(arguments)
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runtime

    # DDS is loaded here, so that `Guard` can be used and tested without it.
    from sim2real.links.unitree_commands import CommandPublisher

    try:
        limits = SafetyLimits.from_dict(json.loads(options.limits.read_text()))
        publisher = CommandPublisher(limits.joint_names, options.interface, options.domain)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(options.socket))
        listener.listen(1)
    except (LinkError, OSError, ValueError) as error:
        _say(f"cannot start: {error}")
        return 2
    guard = Guard(limits, publisher.publish, options.silence_s)
    gc.freeze()
    _say(f"pid {os.getpid()} owns the command topic of domain {options.domain}")
    try:
        _loop(guard, _Connection(listener), publisher, options.rate_hz, ending)
        if guard.status.state != "idle":
            guard.damp("ended: the guard was asked to end")
            end_s = time.monotonic() + FAREWELL_S
            while time.monotonic() < end_s:
                guard.tick(time.monotonic())
                time.sleep(1.0 / options.rate_hz)
        _say("left")
    finally:
        listener.close()
        options.socket.unlink(missing_ok=True)
    return 0


def _loop(
    guard: Guard,
    connection: _Connection,
    publisher: CommandPublisher,
    rate_hz: float,
    ending: list[int],
) -> None:
    """Serve the runtime and repeat commands on absolute deadlines until `ending` is filled."""
    told: GuardStatus | None = None
    next_tick_s = next_look_s = next_heartbeat_s = time.monotonic()
    while not ending:
        try:
            connection.serve(guard, next_tick_s - time.monotonic())
            now_s = time.monotonic()
            if now_s >= next_tick_s:
                # Held up after the wait above, the guard would take its own pause for the runtime's: look again.
                connection.serve(guard, 0.0)
                guard.tick(now_s)
                next_tick_s = max(next_tick_s + 1.0 / rate_hz, now_s)
            if now_s >= next_look_s:
                guard.see_publishers(publisher.foreign_publishers())
                if (count := publisher.readers()) != guard.status.readers:
                    guard.status = replace(guard.status, readers=count)
                next_look_s = now_s + FOREIGN_CHECK_S
        except Exception as error:  # damping must go on, whatever happens: the next tick sends it again
            with contextlib.suppress(Exception):
                guard.damp(f"internal: {type(error).__name__}: {error}")
        if guard.status != told or time.monotonic() >= next_heartbeat_s:
            if told is None or (guard.status.state, guard.status.reason) != (told.state, told.reason):
                _say(f"{guard.status.state} {guard.status.reason}".rstrip())
            told = guard.status
            connection.tell(told)
            next_heartbeat_s = time.monotonic() + HEARTBEAT_S


if __name__ == "__main__":
    sys.exit(main())
