"""The bundle: a policy as one ONNX file and one JSON contract, and how to run it with NumPy and onnxruntime.

`policy.onnx` maps named Readings and its own memory to joint targets; observation assembly, history,
normalization, action scaling and limits are inside.  `contract.json` says everything else that a robot needs
and that used to be typed in by hand:

| field | content |
|---|---|
| `schema` | version of this format |
| `robot`, `task` | what the policy was trained on and for |
| `joint_names`, `driven_joints` | policy order of all joints; those with a motor |
| `readings` | name, size, unit of each input, shape (1, size) float32 |
| `memory` | input and output name, shape and first value of each state that the graph carries |
| `output` | name, size, unit of the target of the driven joints, shape (1, size) float32 |
| `control_dt_s` | period between two ticks [s] |
| `kp`, `kd` | gains of the driven joints [N·m/rad, N·m·s/rad] |
| `home_joint_position` | pose of a zero action, all joints [rad] |
| `joint_limits` | hard and soft position [rad], velocity [rad/s], torque [N·m]; null where there is none |
| `stand_up` | poses of all joints with the seconds to reach each, and the gains for it |
| `commands` | name, unit, lowest and highest value of each entry of the reading `command` |
| `safety` | `SafetyLimits` for supervisor and guard |
| `golden` | recorded inputs and targets of consecutive ticks, float32 little-endian in base64 |
| `provenance` | run, reward, ranges, evaluation, commit, versions |
| `policy` | file name and SHA-256 of the graph |
| `sha256` | SHA-256 of this file with these 64 digits replaced by zeros |

Loading checks all of it and refuses with one clear error.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from configs.errors import UserError
from sim2real.limits import SafetyLimits
from sim2real.links.link import FloatArray

SCHEMA = "gantry-bundle/1"
POLICY_FILE = "policy.onnx"
CONTRACT_FILE = "contract.json"
TOLERANCE = 1e-5
"""Largest difference [rad] from a golden target."""

Array32 = NDArray[np.float32]
_UNSIGNED = "0" * 64
_SIGNATURE = re.compile(rb'"sha256": "([0-9a-f]{64})"\n?\}\s*\Z')


class BundleError(UserError):
    """This is no bundle that may drive a robot; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class Signal:
    """One named vector that goes into the graph."""

    name: str
    size: int
    unit: str


@dataclass(frozen=True)
class Memory:
    """One state that the graph hands back each tick and wants to be given at the next."""

    input: str
    output: str
    shape: tuple[int, ...]
    initial: float
    """Value of every element at the first tick."""


@dataclass(frozen=True)
class CommandEntry:
    """One entry of the reading `command`."""

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class Keyframe:
    """A pose on the way to standing."""

    name: str
    joint_position: FloatArray
    """(J,) [rad]."""
    duration_s: float
    """Time from the pose before it."""


@dataclass(frozen=True)
class Contract:
    """`contract.json` as an object.  J joints in policy order, A of them driven."""

    robot: str
    task: str
    joint_names: tuple[str, ...]
    driven_joints: tuple[str, ...]
    readings: tuple[Signal, ...]
    memory: tuple[Memory, ...]
    output: Signal
    control_dt_s: float
    kp: FloatArray
    """(A,) [N·m/rad]."""
    kd: FloatArray
    """(A,) [N·m·s/rad]."""
    home_joint_position: FloatArray
    """(J,) [rad]."""
    stand_up: tuple[Keyframe, ...]
    stand_kp: FloatArray
    """(A,) [N·m/rad]."""
    stand_kd: FloatArray
    """(A,) [N·m·s/rad]."""
    commands: tuple[CommandEntry, ...]
    safety: SafetyLimits
    sha256: str
    content: Mapping[str, Any]
    """The whole file, parsed: what has no field here, such as `joint_limits` and `provenance`."""

    @property
    def driven_index(self) -> NDArray[np.intp]:
        """(A,) index among `joint_names` of each driven joint."""
        return np.array([self.joint_names.index(name) for name in self.driven_joints], np.intp)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the policy comes from."""
        return self.content["provenance"]  # type: ignore[no-any-return]

    def check_robot(self, robot: str, joint_names: tuple[str, ...] | None = None) -> None:
        """Raises BundleError unless the policy was made for `robot` with these joints in this order."""
        if robot != self.robot:
            raise BundleError(
                f"this bundle drives {self.robot!r}, but the robot is {robot!r}; export a run of a task of {robot}"
            )
        if joint_names is not None and tuple(joint_names) != self.joint_names:
            raise BundleError(
                f"the robot's joints are {', '.join(joint_names)}, the bundle's {', '.join(self.joint_names)}"
            )


class Policy:
    """One run of a bundle's graph: named readings in, joint targets out, memory kept in between.

    For one thread; `reset` before each start.
    """

    def __init__(self, session: Any, readings: Sequence[Signal], memory: Sequence[Memory], output: str) -> None:
        self._session = session
        self._inputs = {signal.name: np.zeros((1, signal.size), np.float32) for signal in readings}
        self._memory = tuple(memory)
        self._outputs = [output, *(spec.output for spec in memory)]
        self._feed: dict[str, Array32] = dict(self._inputs)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next tick is the first."""
        for memory in self._memory:
            self._feed[memory.input] = np.full(memory.shape, memory.initial, np.float32)

    def __call__(self, readings: Mapping[str, ArrayLike]) -> Array32:
        """(A,) [rad] target of the driven joints for one tick.

        `readings` holds at least the contract's readings, each (size,).  Raises KeyError or ValueError for a
        missing one or a wrong shape.
        """
        for name, array in self._inputs.items():
            array[0] = readings[name]
        target, *memory = self._session.run(self._outputs, self._feed)
        for spec, value in zip(self._memory, memory, strict=True):
            self._feed[spec.input] = value
        return target[0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: everything about it has been checked."""

    path: Path
    contract: Contract
    golden_error: float
    """Largest difference [rad] of this machine's targets from the golden ones; NaN if not compared."""
    _session: Any

    @classmethod
    def load(cls, path: Path | str, robot: str | None = None, verify: bool = True) -> Bundle:
        """The bundle in folder `path`, or in `path`/bundle for a run folder.

        `robot` is the name of the robot that it is about to drive.  `verify` replays the golden ticks.
        Raises BundleError for a missing, cut or edited file, an unknown schema, another robot's contract,
        weights outside the file, or a graph that is not the one which the contract describes.
        """
        folder = Path(path)
        if not (folder / CONTRACT_FILE).is_file() and (folder / "bundle" / CONTRACT_FILE).is_file():
            folder = folder / "bundle"
        content = _read_contract(folder)
        contract = _parse(content, folder)
        if robot is not None:
            contract.check_robot(robot)
        graph = _read(folder / POLICY_FILE)
        expected = content["policy"]["sha256"]
        if (digest := hashlib.sha256(graph).hexdigest()) != expected:
            raise BundleError(
                f"{folder / POLICY_FILE}: its SHA-256 is {digest[:12]}…, the contract says {expected[:12]}…; "
                "it was cut, edited or belongs to another contract. Copy the bundle again"
            )
        _refuse_external_data(graph, folder / POLICY_FILE)
        session = open_session(graph)
        _compare(session, contract, folder)
        error = golden_error(session, contract) if verify else float("nan")
        if verify and not error <= TOLERANCE:
            raise BundleError(
                f"{folder}: targets differ by up to {error:.3g} rad from the recorded golden ones (allowed "
                f"{TOLERANCE:g}); this onnxruntime does not run the policy as it was verified"
            )
        return cls(folder, contract, error, session)

    def policy(self) -> Policy:
        """A fresh run of the policy, with a memory of its own."""
        return _policy(self._session, self.contract)


def open_session(graph: bytes) -> Any:
    """An onnxruntime session on one thread.  Raises BundleError if the bytes are no usable graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen exception types without a common base
        raise BundleError(f"onnxruntime cannot open the policy: {str(error).splitlines()[0]}") from error


def golden_error(session: Any, contract: Contract) -> float:
    """Largest difference [rad] between the graph's targets and the golden ones; infinite for NaN."""
    golden = contract.content["golden"]
    readings = {s.name: decode(golden["inputs"][s.name]).reshape(-1, s.size) for s in contract.readings}
    expected = decode(golden["joint_target"]).reshape(-1, contract.output.size)
    policy = _policy(session, contract)
    error = 0.0
    for tick, target in enumerate(expected):
        difference = np.abs(policy({name: rows[tick] for name, rows in readings.items()}) - target).max()
        error = max(error, float(difference)) if np.isfinite(difference) else float("inf")
    return error


def _policy(session: Any, contract: Contract) -> Policy:
    return Policy(session, contract.readings, contract.memory, contract.output.name)


def encode(array: ArrayLike) -> str:
    """Base64 of an array as float32, little-endian: exact, and short."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")


def decode(text: str) -> Array32:
    """Flat array, the inverse of `encode`."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)


def save(folder: Path, graph: bytes, content: Mapping[str, Any]) -> Path:
    """Write a bundle, whole or not at all, in place of one that may be there; returns `folder`.

    `content` is the contract without `policy` and `sha256`, which are added here.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    policy = {"file": POLICY_FILE, "sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)}
    body = {key: value for key, value in content.items() if key not in ("policy", "sha256")}
    signed = body | {"policy": policy, "sha256": _UNSIGNED}
    text = (json.dumps(signed, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (temporary / POLICY_FILE).write_bytes(graph)
        (temporary / CONTRACT_FILE).write_bytes(digest.join(text.rsplit(_UNSIGNED.encode(), 1)))
        temporary.chmod(0o755)  # mkdtemp's folder is private
        away = _aside(folder)
        try:
            os.rename(temporary, folder)
        except BaseException:
            if away is not None:
                os.rename(away, folder)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if away is not None:
        shutil.rmtree(away)
    return folder


def remove(folder: Path) -> None:
    """Take a bundle away in one step, so that no half of it can be loaded."""
    away = _aside(folder)
    if away is not None:
        shutil.rmtree(away)


def _aside(folder: Path) -> Path | None:
    """Rename a folder that exists to a hidden name; returns that."""
    if not folder.exists():
        return None
    away = folder.with_name(f".{folder.name}-old-{secrets.token_hex(4)}")
    os.rename(folder, away)
    return away


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror or error}; a bundle is a folder with {POLICY_FILE} and {CONTRACT_FILE}, "
            "made by `gantry export RUN`"
        ) from error


def _read_contract(folder: Path) -> dict[str, Any]:
    path = folder / CONTRACT_FILE
    raw = _read(path)
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{path}: no JSON, so cut or edited ({error}). Copy the bundle again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else None
        raise BundleError(
            f"{path}: unknown schema {schema!r}; this version reads {SCHEMA!r}. Export the run again, or use "
            "the version of gantry that wrote it"
        )
    signature = _SIGNATURE.search(raw)
    if signature is None:
        raise BundleError(f"{path}: its last field is not a checksum 'sha256'; it was cut or edited")
    start, end = signature.span(1)
    digest = hashlib.sha256(raw[:start] + _UNSIGNED.encode() + raw[end:]).hexdigest()
    if digest != signature.group(1).decode():
        raise BundleError(
            f"{path}: its SHA-256 is {digest[:12]}…, but it says {signature.group(1).decode()[:12]}…; it was "
            "edited. Limits and gains are changed in the robot's description and exported again"
        )
    return content


def _parse(content: dict[str, Any], folder: Path) -> Contract:
    try:
        joints = tuple(str(name) for name in content["joint_names"])
        driven = tuple(str(name) for name in content["driven_joints"])
        stand = content["stand_up"]
        contract = Contract(
            robot=str(content["robot"]),
            task=str(content["task"]),
            joint_names=joints,
            driven_joints=driven,
            readings=tuple(Signal(r["name"], int(r["size"]), r["unit"]) for r in content["readings"]),
            memory=tuple(
                Memory(m["input"], m["output"], tuple(map(int, m["shape"])), float(m["initial"]))
                for m in content["memory"]
            ),
            output=Signal(content["output"]["name"], int(content["output"]["size"]), content["output"]["unit"]),
            control_dt_s=_positive(content["control_dt_s"], "control_dt_s"),
            kp=_vector(content["kp"], len(driven), "kp"),
            kd=_vector(content["kd"], len(driven), "kd"),
            home_joint_position=_vector(content["home_joint_position"], len(joints), "home_joint_position"),
            stand_up=tuple(
                Keyframe(
                    str(k["name"]),
                    _vector(k["joint_position"], len(joints), "stand_up.joint_position"),
                    _positive(k["duration_s"], "stand_up.duration_s"),
                )
                for k in stand["keyframes"]
            ),
            stand_kp=_vector(stand["kp"], len(driven), "stand_up.kp"),
            stand_kd=_vector(stand["kd"], len(driven), "stand_up.kd"),
            commands=tuple(
                CommandEntry(c["name"], c["unit"], float(c["low"]), float(c["high"])) for c in content["commands"]
            ),
            safety=SafetyLimits.from_dict(content["safety"]),
            sha256=content["sha256"],
            content=content,
        )
        for key in ("joint_limits", "provenance"):
            _ = content[key]
        _check(contract)
    except KeyError as error:
        raise BundleError(
            f"{folder / CONTRACT_FILE}: the field {error.args[0]!r} is missing; export the run again"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder / CONTRACT_FILE}: {error}; export the run again") from error
    return contract


def _check(contract: Contract) -> None:
    """What must agree inside a contract.  Raises ValueError, KeyError."""
    joints, driven = contract.joint_names, contract.driven_joints
    if not set(driven) <= set(joints):
        raise ValueError(f"driven_joints {sorted(set(driven) - set(joints))} are not among joint_names")
    if contract.output.size != len(driven):
        raise ValueError(f"output has size {contract.output.size}, but {len(driven)} joints are driven")
    if contract.safety.joint_names != joints:
        raise ValueError("safety.joint_names differ from joint_names")
    if contract.safety.control_dt_s != contract.control_dt_s:
        raise ValueError("safety.control_dt_s differs from control_dt_s")
    if not contract.stand_up:
        raise ValueError("stand_up has no keyframes")
    golden, policy = contract.content["golden"], contract.content["policy"]
    if not isinstance(policy["sha256"], str) or len(policy["sha256"]) != 64:
        raise ValueError("policy.sha256 is no SHA-256")
    ticks = int(golden["ticks"])
    parts = [(golden["joint_target"], contract.output.size, "joint_target")]
    for signal in contract.readings:
        parts.append((golden["inputs"][signal.name], signal.size, signal.name))
        if signal.name == "command" and signal.size != len(contract.commands):
            raise ValueError(f"command has size {signal.size}, but {len(contract.commands)} are described")
    for text, size, name in parts:
        if ticks < 1 or decode(text).size != ticks * size:
            raise ValueError(f"golden {name} has not {ticks} ticks of {size} numbers")


def _compare(session: Any, contract: Contract, folder: Path) -> None:
    """Raises BundleError unless the graph's inputs and outputs are those of the contract."""
    inputs = {signal.name: [1, signal.size] for signal in contract.readings}
    inputs |= {memory.input: list(memory.shape) for memory in contract.memory}
    outputs = {contract.output.name: [1, contract.output.size]}
    outputs |= {memory.output: list(memory.shape) for memory in contract.memory}
    for kind, described, found in (
        ("inputs", inputs, {node.name: list(node.shape) for node in session.get_inputs()}),
        ("outputs", outputs, {node.name: list(node.shape) for node in session.get_outputs()}),
    ):
        if described != found:
            raise BundleError(
                f"{folder}: the graph's {kind} are {found}, the contract describes {described}; they do not "
                "belong together"
            )


def _vector(values: Any, size: int, name: str) -> FloatArray:
    array = np.array(values, np.float64)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be {size} finite numbers, got {values!r}")
    array.setflags(write=False)
    return array


def _positive(value: Any, name: str) -> float:
    if not (isinstance(value, int | float) and 0.0 < value < float("inf")):
        raise ValueError(f"{name} = {value!r} must be a finite number above 0")
    return float(value)


# Where tensors hide in an ONNX file: message -> {field number: message below it} (onnx.proto3).
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def _refuse_external_data(graph: bytes, path: Path) -> None:
    """Raises BundleError if a tensor's values lie outside the file: they would escape the checksum."""
    pending: list[tuple[str, memoryview]] = [("model", memoryview(graph))]
    while pending:
        kind, data = pending.pop()
        try:
            for number, value in _fields(data):
                if kind == "tensor":
                    outside = number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
                    if outside:
                        raise BundleError(
                            f"{path}: it keeps weights in another file (external data), which no checksum "
                            "covers; export with the weights inside"
                        )
                elif number in _NESTED[kind] and isinstance(value, memoryview):
                    pending.append((_NESTED[kind][number], value))
        except (IndexError, ValueError) as error:
            raise BundleError(f"{path}: no ONNX file: {error}") from error


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message: integers as int, everything else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("it is cut")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("an endless number")
