"""Domain randomization as data: each term says once what it changes, how, in which unit and when it is drawn.

A set of ranges maps term names to [low, high], drawn uniformly (envs/randomizer.py).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from configs.errors import UserError, unknown
from envs.ball import Ball
from envs.model_fields import (
    KD,
    KP,
    Fields,
    Write,
    add_base_mass,
    add_center_of_mass,
    add_gravity,
    add_stiffness,
    ball_geoms,
    robot_geoms,
    scale_dofs,
    scale_friction,
    scale_gain,
    scale_links,
    scale_motor_strength,
    scale_softness,
    set_ball_drag,
    set_ball_mass,
    set_delay,
    set_friction,
    set_restitution,
)

Ranges = Mapping[str, tuple[float, float]]


def _one(f: Fields) -> int:
    return 1


@dataclass(frozen=True)
class Term:
    """One physical quantity that may differ between the simulation and the real robot."""

    meaning: str
    """For people and language models alike, with the unit."""
    operation: Literal["absolute", "scale", "add"]
    unit: str
    bounds: tuple[float, float]
    """Values outside make no physical sense or break the simulation."""
    neutral: float
    """The value that leaves the model as it is."""
    when: Literal["reset", "step", "push"] = "reset"
    size: Callable[[Fields], int] = _one
    fields: tuple[str, ...] = ()
    """MuJoCo model fields that it writes."""
    write: Write | None = None
    derived_constants: bool = False
    """Whether MuJoCo must recompute constants that depend on the fields (mj_setConst)."""
    of_ball: bool = False
    """Whether it is about the ball, and so exists in tasks with one only."""


def _joints(f: Fields) -> int:
    return f.robot.num_joints


def _motors(f: Fields) -> int:
    return f.robot.num_actions


def _three(f: Fields) -> int:
    return 3


TERMS: dict[str, Term] = {
    "friction": Term(
        "sliding friction coefficient between the robot and what it stands on", "absolute", "", (0.0, 5.0), 0.8,
        fields=("geom_friction",), write=set_friction(robot_geoms, 0)),
    "contact_softness": Term(
        "time constant of ground contact; above 1 the ground gives more", "scale", "", (0.5, 10.0), 1.0,
        fields=("geom_solref",), write=scale_softness(robot_geoms)),
    "restitution": Term(
        "share of the impact speed with which a foot bounces off the ground; least 0.13", "absolute", "",
        (0.0, 0.9), 0.0,
        fields=("geom_solref",), write=set_restitution(robot_geoms)),
    "base_mass": Term(
        "mass added to the base, such as a payload", "add", "kg", (-5.0, 20.0), 0.0,
        fields=("body_mass", "body_inertia"), write=add_base_mass, derived_constants=True),
    "link_mass": Term(
        "mass and inertia of each other link", "scale", "", (0.3, 3.0), 1.0, size=lambda f: len(f.links),
        fields=("body_mass", "body_inertia"), write=scale_links, derived_constants=True),
    "center_of_mass": Term(
        "shift of the base's center of mass along each axis", "add", "m", (-0.3, 0.3), 0.0, size=_three,
        fields=("body_ipos",), write=add_center_of_mass, derived_constants=True),
    "motor_strength": Term(
        "torque that each motor gives, of what it is asked for, and its limits", "scale", "", (0.1, 3.0), 1.0,
        size=_motors, fields=("actuator_gainprm", "actuator_forcerange"), write=scale_motor_strength),
    "motor_offset": Term(
        "error of each joint encoder's zero", "add", "rad", (-0.5, 0.5), 0.0, size=_motors),
    "kp": Term(
        "position gain of each joint", "scale", "", (0.1, 5.0), 1.0,
        size=_motors, fields=("actuator_gainprm",), write=scale_gain(KP)),
    "kd": Term(
        "velocity gain of each joint", "scale", "", (0.0, 5.0), 1.0,
        size=_motors, fields=("actuator_gainprm",), write=scale_gain(KD)),
    "joint_friction": Term(
        "dry friction of each joint", "scale", "", (0.0, 10.0), 1.0,
        size=_joints, fields=("dof_frictionloss", "actuator_biasprm"), write=scale_friction),
    "joint_damping": Term(
        "viscous damping of each joint", "scale", "", (0.0, 10.0), 1.0,
        size=_joints, fields=("dof_damping",), write=scale_dofs("dof_damping")),
    "joint_stiffness": Term(
        "spring that pulls each joint towards its zero, as a cable would", "add", "N·m/rad", (0.0, 50.0), 0.0,
        size=_joints, fields=("jnt_stiffness",), write=add_stiffness),
    "armature": Term(
        "rotor inertia of each joint, reflected through its gears", "scale", "", (0.1, 10.0), 1.0,
        size=_joints, fields=("dof_armature",), write=scale_dofs("dof_armature"), derived_constants=True),
    "action_delay": Term(
        "time from an action to its effect at the motors", "absolute", "s", (0.0, 0.06), 0.0,
        fields=("actuator_delay",), write=set_delay),
    "gravity": Term(
        "strength of gravity added to 9.81", "add", "m/s^2", (-9.0, 20.0), 0.0,
        fields=("gravity",), write=add_gravity),
    "push_velocity": Term(
        "sudden change of the base's horizontal velocity, each axis", "add", "m/s", (-10.0, 10.0), 0.0,
        when="push", size=lambda f: 2),
    "push_interval": Term(
        "time between pushes", "absolute", "s", (0.1, 1000.0), 1000.0, when="push"),
    "joint_position_noise": Term(
        "error of each joint position reading, new at every step", "add", "rad", (-1.0, 1.0), 0.0,
        when="step", size=_joints),
    "joint_velocity_noise": Term(
        "error of each joint velocity reading, new at every step", "add", "rad/s", (-10.0, 10.0), 0.0,
        when="step", size=_joints),
    "angular_velocity_noise": Term(
        "error of each gyro axis, new at every step", "add", "rad/s", (-5.0, 5.0), 0.0, when="step", size=_three),
    "gravity_noise": Term(
        "error of each component of the gravity direction, new at every step", "add", "", (-0.5, 0.5), 0.0,
        when="step", size=_three),
    "angular_velocity_bias": Term(
        "constant error of each gyro axis", "add", "rad/s", (-2.0, 2.0), 0.0, size=_three),
    "gravity_bias": Term(
        "constant error of each component of the gravity direction, as from a tilted sensor", "add", "",
        (-0.5, 0.5), 0.0, size=_three),
    "ball_mass": Term(
        "mass of the ball", "absolute", "kg", (0.1, 20.0), Ball.mass_kg, of_ball=True,
        fields=("body_mass", "body_inertia"), write=set_ball_mass, derived_constants=True),
    "ball_friction": Term(
        "sliding friction coefficient between the ball and the ground", "absolute", "", (0.0, 5.0), Ball.friction,
        of_ball=True, fields=("geom_friction",), write=set_friction(ball_geoms, 0)),
    "ball_rolling_friction": Term(
        "rolling friction of the ball on the ground: torque against rolling for each newton of load", "absolute", "m",
        (0.0, 0.1), Ball.rolling_friction_m, of_ball=True,
        fields=("geom_friction",), write=set_friction(ball_geoms, 2)),
    "ball_drag": Term(
        "force against the motion of the ball's center for each m/s, as of air or a soft floor", "absolute", "N·s/m",
        (0.0, 1000.0), 0.0, of_ball=True, fields=("dof_damping",), write=set_ball_drag),
    "ball_softness": Term(
        "time constant of contact between ball and ground; above 1 the ball gives more", "scale", "", (0.5, 10.0), 1.0,
        of_ball=True, fields=("geom_solref",), write=scale_softness(ball_geoms)),
    "ball_restitution": Term(
        "share of the impact speed with which the ball bounces off the ground; least 0.13", "absolute", "",
        (0.0, 0.9), 0.0, of_ball=True, fields=("geom_solref",), write=set_restitution(ball_geoms)),
    "ball_push_velocity": Term(
        "sudden change of the ball's horizontal velocity, each axis, at times of its own as far apart as "
        "push_interval says", "add", "m/s", (-10.0, 10.0), 0.0, when="push", size=lambda f: 2, of_ball=True),
}  # fmt: skip


def applicable(ball: bool) -> tuple[str, ...]:
    """The terms that exist in a task, with or without a ball."""
    return tuple(name for name, term in TERMS.items() if ball or not term.of_ball)


@cache
def scalar_terms(ball: bool) -> tuple[str, ...]:
    """The terms that are one number an episode, such as friction; a critic may see them."""
    return tuple(name for name in applicable(ball) if TERMS[name].when == "reset" and TERMS[name].size is _one)


def validate(ranges: Mapping[str, object]) -> dict[str, tuple[float, float]]:
    """The ranges as pairs of floats. Raises UserError for an unknown term or a range that makes no sense."""
    checked: dict[str, tuple[float, float]] = {}
    for name, value in ranges.items():
        if name not in TERMS:
            raise unknown("randomization term", name, list(TERMS))
        try:
            if isinstance(value, str):  # "12" would unpack into 1 and 2
                raise TypeError
            low, high = (float(x) for x in value)  # type: ignore[attr-defined]
            if math.isnan(low) or math.isnan(high):
                raise ValueError
        except (TypeError, ValueError):
            raise UserError(f"randomization {name}: {value!r} is no range; write {name}: [low, high]") from None
        term = TERMS[name]
        if not low <= high:
            raise UserError(f"randomization {name}: [{low}, {high}] is the wrong way round; write [low, high]")
        if not (term.bounds[0] <= low and high <= term.bounds[1]):
            raise UserError(
                f"randomization {name}: [{low}, {high}] leaves the bounds {list(term.bounds)} {term.unit}".rstrip()
            )
        checked[name] = (low, high)
    return checked
