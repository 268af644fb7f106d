"""What a policy sees: named terms, each made from Readings that a real robot has.

Readings, in SI units and policy joint order: `joint_position` [rad], `joint_velocity` [rad/s],
`angular_velocity` [rad/s, base frame], `gravity` [unit vector, base frame], `command`. The same functions
run on batches in training and are traced into the exported graph, so the two cannot differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.errors import unknown
from envs.robots.spec import RobotSpec

Readings = Mapping[str, Tensor]
Mirror = list[tuple[int, float]]
"""For each entry of a vector: where its mirror image comes from, and with which sign."""

READING_UNITS = {
    "joint_position": "rad",
    "joint_velocity": "rad/s",
    "angular_velocity": "rad/s, base frame",
    "gravity": "unit vector, base frame",
    "command": "",
}


@dataclass(frozen=True)
class Term:
    """One part of an observation: compute(readings, previous_action (N, A), home (J,)) -> (N, size)."""

    readings: tuple[str, ...]
    compute: Callable[[Readings, Tensor, Tensor], Tensor]
    mirror: Callable[[RobotSpec], Mirror]
    """How the left-right mirror maps it. A vector keeps x and z and flips y; a rotation flips x and z."""


def _joint_mirror(robot: RobotSpec) -> Mirror:
    return list(zip(robot.mirror_index.tolist(), robot.mirror_signs, strict=True))


def action_mirror(robot: RobotSpec) -> Mirror:
    """Mirror of the driven joints' entries, as in actions and targets."""
    full = _joint_mirror(robot)
    driven = robot.driven_index.tolist()
    return [(driven.index(full[j][0]), full[j][1]) for j in driven]


def fixed(*signs: float) -> Callable[[RobotSpec], Mirror]:
    return lambda robot: list(enumerate(signs))


VECTOR = fixed(1.0, -1.0, 1.0)
ROTATION = fixed(-1.0, 1.0, -1.0)
WALK_COMMAND = fixed(1.0, -1.0, -1.0)

TERMS: dict[str, Term] = {
    "angular_velocity": Term(("angular_velocity",), lambda r, a, home: r["angular_velocity"], ROTATION),
    "gravity": Term(("gravity",), lambda r, a, home: r["gravity"], VECTOR),
    "walk_command": Term(("command",), lambda r, a, home: r["command"], WALK_COMMAND),
    "joint_position": Term(("joint_position",), lambda r, a, home: r["joint_position"] - home, _joint_mirror),
    "joint_velocity": Term(("joint_velocity",), lambda r, a, home: r["joint_velocity"], _joint_mirror),
    "previous_action": Term((), lambda r, a, home: a, action_mirror),
    # For a joint that turns freely, angle 0 and 2 pi are the same: sine and cosine say so, the angle does not.
    "pole_direction": Term(
        ("joint_position",),
        lambda r, a, home: torch.cat([r["joint_position"][:, 1:].sin(), r["joint_position"][:, 1:].cos()], 1),
        fixed(-1.0, 1.0),
    ),
    "cart_position": Term(("joint_position",), lambda r, a, home: r["joint_position"][:, :1], fixed(-1.0)),
}


class Observation:
    """An ordered list of terms with a history: newest frame last, (N, history * frame size) when flat."""

    def __init__(self, robot: RobotSpec, terms: tuple[str, ...], history: int) -> None:
        for name in terms:
            if name not in TERMS:
                raise unknown("observation term", name, list(TERMS))
        self.terms, self.history = terms, history
        self.home = torch.tensor(robot.home_joint_position, dtype=torch.float32)
        self.frame_mirror: Mirror = []
        self.slices: dict[str, slice] = {}
        sizes = {"joint_position": robot.num_joints, "joint_velocity": robot.num_joints}
        blank = {name: torch.zeros(1, sizes.get(name, 3)) for name in READING_UNITS}
        self.frame_size = 0
        for name in terms:
            start = self.frame_size
            self.frame_size += TERMS[name].compute(blank, torch.zeros(1, robot.num_actions), self.home).shape[1]
            if robot.mirror_joints:
                self.frame_mirror += [(start + i, sign) for i, sign in TERMS[name].mirror(robot)]
            self.slices[name] = slice(start, self.frame_size)

    @property
    def readings(self) -> tuple[str, ...]:
        """The readings it needs, in a fixed order."""
        used = {reading for name in self.terms for reading in TERMS[name].readings}
        return tuple(name for name in READING_UNITS if name in used)

    @property
    def size(self) -> int:
        return self.history * self.frame_size

    @property
    def mirror(self) -> Mirror:
        """Mirror of the flat observation."""
        return [(h * self.frame_size + i, sign) for h in range(self.history) for i, sign in self.frame_mirror]

    def frame(self, readings: Readings, previous_action: Tensor) -> Tensor:
        """(N, frame size) the newest frame."""
        return torch.cat([TERMS[name].compute(readings, previous_action, self.home) for name in self.terms], 1)


def push_frame(history: Tensor, frame: Tensor, started: Tensor) -> Tensor:
    """History (N, H, D) with the frame (N, D) appended; where started (N,) is false it is filled with the frame."""
    shifted = torch.cat([history[:, 1:], frame[:, None]], 1)
    return torch.where(started[:, None, None], shifted, frame[:, None].expand_as(history))
