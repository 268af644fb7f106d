"""`contract.json`, the half of a bundle that says what the policy takes, gives and must not exceed:

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

"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from sim2real.limits import SafetyLimits
from sim2real.links.link import FloatArray
from sim2real.numbers32 import decode

SCHEMA = "gantry-bundle/1"


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


def parse_contract(content: Mapping[str, Any], path: Path) -> Contract:
    """The contract from the file's content; `path` is named in errors.  Raises BundleError."""
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
        raise BundleError(f"{path}: the field {error.args[0]!r} is missing; export the run again") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: {error}; export the run again") from error
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
