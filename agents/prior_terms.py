"""Which physics parameters of a task the prior scans, and at which values."""

from __future__ import annotations

from collections.abc import Sequence

from configs.errors import UserError, unknown
from envs import robots
from envs.observations import Observation
from envs.randomization import TERMS
from envs.tasks.task import Task

VALUES = 11
FIRST_SHARE = 0.03
"""The value next to neutral, as a share of the way from neutral to the bound; the others follow geometrically."""

_OF_CONTACT = ("friction", "contact_softness", "restitution")
_OF_BASE = ("center_of_mass", "push_velocity")
_OF_READING = {
    "motor_offset": "joint_position", "joint_position_noise": "joint_position",
    "joint_velocity_noise": "joint_velocity", "angular_velocity_noise": "angular_velocity",
    "angular_velocity_bias": "angular_velocity", "gravity_noise": "gravity", "gravity_bias": "gravity",
}  # fmt: skip
_OF_EVERY_ROBOT = ("base_mass", "link_mass", "motor_strength", "kp", "kd", "joint_friction", "joint_damping",
                   "joint_stiffness", "armature", "action_delay", "gravity")  # fmt: skip


def symmetric(name: str) -> bool:
    """Whether a value v of the term stands for -v to v: noise, and pushes, whose directions are drawn."""
    return TERMS[name].when in ("step", "push")


def applicable(task: Task) -> tuple[str, ...]:
    """The terms that can make a difference to this task's robot, in the order of TERMS.

    Terms of what touches the ground need feet, those of a ball a ball, those of a sensor an observation that reads it.
    A term that this module does not know belongs to the tasks that randomize it.
    """
    robot = robots.get(task.robot)
    readings = Observation(robot, task.observation, task.history).readings
    found = []
    for name in TERMS:
        # The interval says when the pushes of push_velocity come; it is no physics of its own.
        if (TERMS[name].of_ball and task.ball is None) or name == "push_interval":
            continue
        if name in _OF_CONTACT or name in _OF_BASE:
            fits = bool(robot.feet)
        elif name in _OF_READING:
            fits = _OF_READING[name] in readings
        else:
            fits = TERMS[name].of_ball or name in _OF_EVERY_ROBOT or name in task.randomization
        if fits:
            found.append(name)
    return tuple(found)


def choose(task: Task, names: Sequence[str]) -> tuple[str, ...]:
    """The terms of these names, all where there are none. Raises UserError for one that does not apply."""
    valid = applicable(task)
    for name in names:
        if name not in TERMS:
            raise unknown("randomization term", name, valid)
        if name not in valid:
            raise UserError(f"term {name!r} makes no difference to {task.name}; valid: {', '.join(valid)}")
    return tuple(name for name in valid if name in names) if names else valid


def bounds(name: str) -> tuple[float, float]:
    """Lowest and highest value that is scanned."""
    low, high = TERMS[name].bounds
    return (0.0, high) if symmetric(name) else (low, high)


def grid(name: str, count: int = VALUES) -> list[float]:
    """`count` values from bound to bound, neutral among them, denser towards it.

    A side without room (neutral is the bound) leaves its values to the other. Raises UserError below 3.
    """
    if count < 3:
        raise UserError(f"values={count}; at least 3 are needed: neutral and one to each side")
    neutral = TERMS[name].neutral
    low, high = bounds(name)
    below = 0 if low >= neutral else count - 1 if high <= neutral else (count - 1) // 2
    values = [neutral - (neutral - low) * share for share in reversed(_shares(below))]
    values += [neutral]
    values += [neutral + (high - neutral) * share for share in _shares(count - 1 - below)]
    return [min(max(float(f"{value:.4g}"), low), high) for value in values]


def _shares(count: int) -> list[float]:
    """`count` growing numbers up to 1, geometric from FIRST_SHARE."""
    if count < 2:
        return [1.0] * count
    return [FIRST_SHARE ** (1 - i / (count - 1)) for i in range(count)]
