"""The runtime's end of the guard: frames on a local stream socket, and starting the guard process.

A frame is a 24-byte header and a payload.  Commands are five float64 arrays; the guard answers with its
status as JSON, at least every 50 ms, so that both sides notice when the other falls silent.  The socket is
a stream because a stream says at once when the other process is gone, also after kill -9.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from sim2real.limits import SafetyLimits
from sim2real.links.link import Command

# magic, kind, payload bytes, sequence number, stamp [s], CRC-32 of the payload
_HEADER = struct.Struct("<4sBxHIdI")
_MAGIC = b"GNT1"
_SEND_TIMEOUT_S = 0.01
CLEAR_TIMEOUT_S = 0.05
"""A clear is asked for from the control loop, which must not pause for long enough to be doubted."""


class GuardLost(ConnectionError):
    """The guard process is gone, does not take commands, or could not be started."""


class FrameError(ValueError):
    """Bytes on the socket that are not a frame."""


class Kind(IntEnum):
    """What a frame carries."""

    COMMAND = 1
    CLEAR = 2
    STATUS = 3


@dataclass(frozen=True)
class Frame:
    """One message on the socket."""

    kind: Kind
    sequence: int
    stamp_s: float
    """Sender's `time.monotonic()`, which all processes of a machine share."""
    payload: bytes

    def pack(self) -> bytes:
        """Bytes for the socket."""
        size, checksum = len(self.payload), zlib.crc32(self.payload)
        return _HEADER.pack(_MAGIC, self.kind, size, self.sequence, self.stamp_s, checksum) + self.payload


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are complete now.  Raises FrameError on anything that is not one."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= _HEADER.size:
            magic, kind, length, sequence, stamp_s, checksum = _HEADER.unpack_from(self._buffer)
            if magic != _MAGIC or kind not in tuple(Kind):
                raise FrameError(f"not a frame: {self._buffer[:8].hex()}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            payload, self._buffer = self._buffer[_HEADER.size : end], self._buffer[end:]
            if zlib.crc32(payload) != checksum:
                raise FrameError(f"frame {sequence} is damaged: its checksum does not match")
            frames.append(Frame(Kind(kind), sequence, stamp_s, payload))
        return frames


def pack_command(command: Command) -> bytes:
    """Payload of a COMMAND frame."""
    return np.concatenate([np.asarray(part, "<f8") for part in vars(command).values()]).tobytes()


def unpack_command(payload: bytes, joints: int) -> Command:
    """The command in a COMMAND frame's payload.  Raises FrameError for another number of joints."""
    if len(payload) != 5 * 8 * joints:
        raise FrameError(f"a command of {len(payload)} bytes; {joints} joints need {5 * 8 * joints}")
    return Command(*np.frombuffer(payload, "<f8").reshape(5, joints).copy())


@dataclass(frozen=True)
class GuardStatus:
    """What the guard does, as it tells it."""

    state: str = "idle"
    """`idle`: nothing sent yet; `passing`; `damping`: latched; `ready`: cleared, damps until a command."""
    reason: str = ""
    """Why it damps."""
    foreign_publishers: tuple[str, ...] = ()
    """Other writers on the command topic."""
    readers: int = 0
    """How many readers its commands reach."""
    pid: int = 0
    """Its process."""
    answers: int = 0
    """Sequence number of the last CLEAR that it answered."""
    refusal: str = ""
    """Why that CLEAR was refused; empty if it was granted."""

    def to_json(self) -> bytes:
        """Payload of a STATUS frame."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> GuardStatus:
        """The inverse of `to_json`."""
        content = json.loads(payload)
        return cls(**content | {"foreign_publishers": tuple(content["foreign_publishers"])})


class GuardClient:
    """The runtime's connection to a guard.  For one thread."""

    def __init__(self, socket_path: str | os.PathLike[str]) -> None:
        """Connect.  Raises GuardLost if no guard listens there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._frames = FrameReader()
        self._status, self._status_payload = GuardStatus(), b""
        self._heard_s = time.monotonic()
        self._sequence = 0
        self._lost = ""
        try:
            self._socket.connect(os.fspath(socket_path))
        except OSError as error:
            self._socket.close()
            raise GuardLost(f"no guard listens at {socket_path}: {error}") from error
        self._socket.setblocking(False)

    def send(self, command: Command) -> None:
        """Hand a command over.  Raises GuardLost if the guard is gone or its buffer stays full for 10 ms."""
        self._send(Kind.COMMAND, pack_command(command))

    def status(self) -> GuardStatus:
        """The newest status.  Raises GuardLost if the guard is gone."""
        if self._lost:
            raise GuardLost(self._lost)
        try:
            while data := self._socket.recv(65536):
                for frame in self._frames.feed(data):
                    if frame.kind is Kind.STATUS:
                        self._take_status(frame.payload)
            self._lose("the guard closed the connection")
        except BlockingIOError:
            return self._status
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._lose(f"the guard is gone: {error}")
        raise GuardLost(self._lost)

    def _take_status(self, payload: bytes) -> None:
        if payload != self._status_payload:  # it repeats itself twenty times a second
            self._status, self._status_payload = GuardStatus.from_json(payload), payload
        self._heard_s = time.monotonic()

    def silent_s(self) -> float:
        """Seconds since the guard was last heard; call after `status`."""
        return time.monotonic() - self._heard_s

    def clear(self, by: str, timeout_s: float = CLEAR_TIMEOUT_S) -> None:
        """Ask the guard to leave its damping.

        Raises PermissionError with its reason for a refusal, TimeoutError if it has not answered in
        `timeout_s`: it may still do what was asked.
        """
        self._send(Kind.CLEAR, by.encode())
        request = self._sequence
        deadline_s = time.monotonic() + timeout_s
        while (status := self.status()).answers < request:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"it has not answered within {timeout_s} s; ask again")
            time.sleep(0.002)
        if status.refusal:
            raise PermissionError(status.refusal)

    def close(self) -> None:
        """Disconnect; a guard that was passing commands damps from then on."""
        self._socket.close()
        self._lost = self._lost or "closed"

    def _send(self, kind: Kind, payload: bytes) -> None:
        if self._lost:
            raise GuardLost(self._lost)
        self._sequence += 1
        unsent = Frame(kind, self._sequence, time.monotonic(), payload).pack()
        try:
            while unsent:
                _, writable, _ = select.select([], [self._socket], [], _SEND_TIMEOUT_S)
                if not writable:
                    raise TimeoutError(f"its buffer stayed full for {_SEND_TIMEOUT_S} s")
                unsent = unsent[self._socket.send(unsent) :]
        except OSError as error:  # part of a frame may have left, so the stream is useless now
            self._lose(f"the guard takes no more commands: {error}")
            raise GuardLost(self._lost) from error

    def _lose(self, why: str) -> None:
        self._lost = why
        self._socket.close()


@dataclass
class GuardProcess:
    """A guard that this process started, and the connection to it."""

    process: subprocess.Popen[bytes]
    client: GuardClient
    socket_path: Path
    """Where it listens; one runtime at a time may connect."""
    log_path: Path
    """Where it writes one line for each change of state."""
    _folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the guard to end (SIGTERM: it damps, then leaves); kill it if it has not in `timeout_s`."""
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._folder.cleanup()


def start_guard(
    limits: SafetyLimits,
    *,
    interface: str | None,
    domain: int,
    silence_s: float | None = None,
    log_path: Path | None = None,
    timeout_s: float = 15.0,
) -> GuardProcess:
    """Start `python -m sim2real.guard` in a session of its own and connect to it.

    `interface` None uses the environment's CYCLONEDDS_URI, `silence_s` None `limits.stale_s`.  Raises
    GuardLost with the guard's own words if it does not come up within `timeout_s`.
    """
    folder = tempfile.TemporaryDirectory(prefix="gantry-guard-", ignore_cleanup_errors=True)
    socket_path = Path(folder.name) / "socket"
    limits_path = Path(folder.name) / "limits.json"
    limits_path.write_text(json.dumps(limits.to_dict()))
    log_path = log_path or Path(folder.name) / "guard.log"
    options: dict[str, object] = {"--socket": socket_path, "--limits": limits_path, "--domain": domain}
    if silence_s is not None:
        options["--silence-s"] = silence_s
    if interface is not None:
        options["--interface"] = interface
    package_root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sim2real.guard",
                *(str(part) for pair in options.items() for part in pair),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # a Ctrl-C in the runtime's terminal must not end the guard
        )
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return GuardProcess(process, GuardClient(socket_path), socket_path, log_path, folder)
        except GuardLost as error:
            if process.poll() is None and time.monotonic() < deadline_s:
                time.sleep(0.02)
                continue
            process.kill()
            process.wait()
            words = log_path.read_text(errors="replace").strip()[-2000:]
            folder.cleanup()
            raise GuardLost(f"the guard did not come up within {timeout_s} s: {words or error}") from error
