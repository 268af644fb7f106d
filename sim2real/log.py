"""The deployment log: an MCAP file with JSON messages, written by a thread of its own, readable when cut.

Channels, all stamped with the runtime's clock in nanoseconds:

| topic | each tick? | content |
|---|---|---|
| `/reading` | yes | everything the robot measured: joints [rad, rad/s, N·m], IMU, temperatures, battery |
| `/target` | yes | what was sent: joint targets [rad], gains, and the policy's own targets before limits |
| `/decision` | yes | the supervisor's state and reasons, and what makes it doubt |
| `/timing` | yes | deadline, wake-up, policy time, time sent [s]; whether the deadline was missed |
| `/command` | yes | the reading `command` that the policy was given |
| `/truth` | if known | a simulated robot's true base position [m], heading [rad] |
| `/event` | no | changes of state and why, one sentence each |

The contract is attached, so a log explains itself: joint names, units, gains, provenance.  `read_log` takes
unfinished files, too; about half a second is lost when the writer is killed.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import UserError

CHUNK_BYTES = 1 << 16
"""The writer keeps this much before it reaches the file: about half a second of a quadruped's log."""
QUEUE = 1024
"""Ticks that may wait for the disk: about 20 s."""
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_NUMBER = {"type": "number"}
_TEXTS = {"type": "array", "items": {"type": "string"}}

SCHEMAS: dict[str, dict[str, Any]] = {
    "/reading": {
        "tick": {"type": "integer"},
        "stamp_s": _NUMBER,
        "joint_position": _NUMBERS,
        "joint_velocity": _NUMBERS,
        "joint_torque": _NUMBERS,
        "quaternion": _NUMBERS,
        "angular_velocity": _NUMBERS,
        "gravity": _NUMBERS,
        "acceleration": _NUMBERS,
        "motor_temperature": _NUMBERS,
        "battery_soc": _NUMBER,
        "battery_voltage_v": _NUMBER,
        "remote": {"type": "object"},
    },
    "/target": {
        "joint_target": _NUMBERS,
        "joint_velocity_target": _NUMBERS,
        "kp": _NUMBERS,
        "kd": _NUMBERS,
        "joint_torque": _NUMBERS,
        "policy_target": _NUMBERS,
    },
    "/decision": {
        "state": {"type": "string"},
        "supervisor": {"type": "string"},
        "reasons": _TEXTS,
        "present": _TEXTS,
    },
    "/timing": {
        "tick": {"type": "integer"},
        "deadline_s": _NUMBER,
        "woke_s": _NUMBER,
        "sent_s": _NUMBER,
        "policy_s": _NUMBER,
        "late_s": _NUMBER,
        "missed": {"type": "boolean"},
    },
    "/command": {"command": _NUMBERS},
    "/truth": {"position_w": _NUMBERS, "heading": _NUMBER},
    "/event": {"state": {"type": "string"}, "text": {"type": "string"}},
}


Message = tuple[str, float, Mapping[str, Any]]


class LogWriter:
    """Writes messages to an MCAP file from its own thread; `put` returns at once.

    What is put must not be changed afterwards.  Should the disk be too slow, messages are dropped and
    counted, because the robot must not wait for a disk.
    """

    def __init__(
        self, path: Path, contract: Mapping[str, Any], metadata: Mapping[str, str], *, patient: bool = False
    ) -> None:
        """Start the file at `path`, with the contract attached and `metadata` recorded.

        `patient` makes `put` wait for a slow disk instead of dropping: for simulated time, which can wait.
        Raises UserError if the file cannot be created.
        """
        self._patient = patient
        self.path = path
        self.dropped = 0
        self._channels: dict[str, tuple[int, int]] = {}  # topic -> channel, messages so far
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("wb")
            self._writer = self._begin(contract, metadata)
        except OSError as error:
            raise UserError(
                f"cannot write the log {path}: {error.strerror}; choose another place with --log"
            ) from error
        self._queue: queue.SimpleQueue[tuple[Message, ...] | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def _begin(self, contract: Mapping[str, Any], metadata: Mapping[str, str]) -> Any:
        from mcap.writer import CompressionType, Writer

        writer = Writer(self._stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        writer.start(profile="", library="gantry")
        writer.add_metadata("gantry", dict(metadata))
        now_ns = time.time_ns()
        text = json.dumps(contract, ensure_ascii=False).encode()
        writer.add_attachment(now_ns, now_ns, "contract.json", "application/json", text)
        for topic, properties in SCHEMAS.items():
            schema = {"type": "object", "title": topic[1:], "properties": properties}
            schema_id = writer.register_schema(topic[1:], "jsonschema", json.dumps(schema).encode())
            self._channels[topic] = (writer.register_channel(topic, "json", schema_id), 0)
        self._stream.flush()
        return writer

    def put(self, *messages: Message) -> None:
        """Hand messages over: topic, time [s], content.  NumPy arrays become lists, NaN becomes null.

        All of one tick belong in one call: each call wakes the writing thread once.
        """
        while self._patient and self._error is None and self._queue.qsize() >= QUEUE:
            time.sleep(0.001)
        if self._queue.qsize() >= QUEUE:
            self.dropped += len(messages)
            return
        self._queue.put(messages)

    def close(self, metadata: Mapping[str, str] | None = None) -> None:
        """Write what is left, add `metadata` as "summary", finish the file.  Safe to call twice.

        Raises UserError if the file could not be written.
        """
        if self._stream.closed:
            return
        self._queue.put(None)
        self._thread.join()
        try:
            if self._error is not None:
                raise self._error
            if metadata is not None:
                self._writer.add_metadata("summary", dict(metadata))
            self._writer.finish()
        except (OSError, ValueError) as error:
            raise UserError(f"the log {self.path} is incomplete: {error}") from error
        finally:
            with contextlib.suppress(OSError):  # on a full disk even closing fails; said above
                self._stream.close()

    def _run(self) -> None:
        try:
            while (messages := self._queue.get()) is not None:
                for topic, time_s, content in messages:
                    channel, count = self._channels[topic]
                    self._channels[topic] = (channel, count + 1)
                    time_ns = round(time_s * 1e9)
                    self._writer.add_message(channel, time_ns, to_json(content), time_ns, count)
                if self._queue.empty():
                    self._stream.flush()
        except Exception as error:
            # The robot is still being driven: say so when the log is closed, and let `put` count drops.
            self._error = error
            while (messages := self._queue.get()) is not None:
                self.dropped += len(messages)


def to_json(content: Mapping[str, Any]) -> bytes:
    """Compact JSON of a message; every number keeps all its digits."""
    plain = {key: _plain(value) for key, value in content.items()}
    try:
        return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # rare, so only then is every number looked at
        return json.dumps(_without_nan(plain), separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class Log:
    """A log in memory: per topic its messages in order of writing, with times."""

    path: Path
    complete: bool
    """Whether the file was finished; if not, its last half second may be missing."""
    contract: dict[str, Any]
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    times_s: dict[str, list[float]] = field(default_factory=dict)
    """Per topic the time of each message, same clock for all [s]."""

    def times(self, topic: str) -> np.ndarray:
        """(T,) [s] of a topic's messages."""
        return np.array(self.times_s.get(topic, []), np.float64)

    def array(self, topic: str, name: str) -> np.ndarray:
        """(T, ...) of one field of a topic; null becomes NaN.

        Raises UserError for a field that is not there in every message.
        """
        try:
            rows = [message[name] for message in self.messages.get(topic, [])]
        except KeyError as error:
            raise UserError(f"{self.path}: {topic} has no field {name!r}; valid: see the log's schema") from error
        return np.array(rows, np.float64)


def read_log(path: Path) -> Log:
    """Read a log, finished or not.  Raises UserError if there is none or nothing of it can be read."""
    from mcap import exceptions, records
    from mcap.stream_reader import StreamReader

    log = Log(path, complete=False, contract={})
    topics: dict[int, str] = {}
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UserError(f"no log at {path}: {error.strerror}") from error
    with stream:
        try:
            for record in StreamReader(stream).records:
                if isinstance(record, records.Channel):
                    topics[record.id] = record.topic
                elif isinstance(record, records.Message):
                    topic = topics[record.channel_id]
                    log.messages.setdefault(topic, []).append(json.loads(record.data))
                    log.times_s.setdefault(topic, []).append(record.log_time * 1e-9)
                elif isinstance(record, records.Attachment) and record.name == "contract.json":
                    log.contract = json.loads(record.data)
                elif isinstance(record, records.Metadata):
                    log.metadata[record.name] = record.metadata
                elif isinstance(record, records.Footer):
                    log.complete = True
        except Exception as error:
            # A cut file ends in the middle of a record, with whatever error its bytes give.
            if not log.messages:
                kind = "is not a log" if isinstance(error, exceptions.InvalidMagic) else "holds no messages"
                raise UserError(f"{path} {kind}: {error or type(error).__name__}") from error
    return log


def flat(item: Any) -> dict[str, Any]:
    """A dataclass instance's fields, without a copy of its arrays."""
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def texts(metadata: Any) -> dict[str, str]:
    """A dataclass as MCAP metadata: every value as text, structures as JSON."""
    content = asdict(metadata)
    return {k: v if isinstance(v, str) else json.dumps(_without_nan(_plain(v))) for k, v in content.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value) if isinstance(value, Path) else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value


def iterate(log: Log, topic: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """Time [s] and content of each message of a topic."""
    yield from zip(log.times_s.get(topic, []), log.messages.get(topic, []), strict=True)
