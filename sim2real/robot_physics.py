"""The simulated robot's physics: a MuJoCo model with one draw of a set of `envs.physics` written into it.

This is deliberately not the physics of training: full collision, 1 ms steps, implicit integration, elliptic
friction cones and a converged solver; the motors' law, stiction, sensors and delays are the robot's own
(`robot_motors`, `robot_sensors`, `robot_channel`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import mujoco
import numpy as np
from numpy.typing import NDArray

from configs.errors import unknown
from envs import draws, robots, tasks
from envs.model_fields import Fields
from envs.physics import digest, physics_set
from envs.randomization import TERMS, validate
from envs.randomizer import shifted
from envs.robots.spec import RobotSpec
from envs.scene import SolverSettings, build_model
from sim2real.links.unitree_commands import motor_indices

Array = NDArray[np.float64]
Values = dict[str, Array]
"""A drawn value (size,) by randomization term; for noise, which is new in every message, its (low, high)."""

TICK_S = 0.002
"""The robot's own period."""
SOLVER = SolverSettings(0.001, "implicitfast", "elliptic", iterations=30, line_search_iterations=20, impratio=10.0)
"""Where a physics set has training's; a set with settings of its own keeps them, but for the step."""
STICTION = 1.2
"""Static over sliding friction of the joints, at least (assumed)."""
TASK = "go2-walk"
"""The task whose physics sets these are."""
_OWN = {"motor_strength", "kp", "kd", "action_delay"}
"""Terms that training writes into MuJoCo's motors; this robot's own motors and channel take them instead."""


def draw_physics(set_name: str, seed: int, at_once: int | None = None) -> Values:
    """One draw, keyed by (seed, term): a term's value does not depend on which others the set has.

    `at_once` says how many of the set's terms are shifted, instead of the set itself.  Pushes are left out:
    nobody kicks the robot unless the console does.  Raises UserError for an unknown set or a range outside its
    term's bounds.
    """
    task = tasks.get(TASK)
    chosen = physics_set(task, set_name)
    ranges, shifts = validate(chosen.ranges), validate(chosen.shifts)
    robot = robots.get(task.robot)
    fields = Fields(cast(Any, _OneModel(build_model(robot, collision="full"), robot)))
    values: Values = {}
    zero = np.zeros(1, np.int64)
    many = chosen.at_once if at_once is None else at_once
    which = shifted(draws.stream(seed, "robot shifts"), len(shifts), many, zero, zero)[0]
    ranges |= {name: span for (name, span), now in zip(shifts.items(), which, strict=True) if now}
    for name, (low, high) in ranges.items():
        term = TERMS[name]
        if term.when == "reset":
            u = draws.uniform(draws.stream(seed, f"robot {name}"), zero, size=term.size(fields))[0]
            values[name] = low + (high - low) * u
        elif term.when == "step":
            values[name] = np.array([low, high])
    return values


@dataclass(frozen=True)
class RobotPhysics:
    """One robot.  Arrays over joints are (12,), in the order of the motors' indices."""

    set_name: str
    seed: int
    robot: RobotSpec
    model: mujoco.MjModel
    """With the draw written into it and MuJoCo's own motors switched off."""
    values: Values
    """The draw itself."""
    motors: NDArray[np.intp]
    """(12,) motor index of each joint in policy order."""
    stiction: float
    command_delay_s: float

    @property
    def substeps(self) -> int:
        """Physics steps in a tick of the robot."""
        return round(TICK_S / self.model.opt.timestep)

    def by_motor(self, name: str) -> Array:
        """(12,) the term's value for each motor; neutral if it was not drawn."""
        values = np.full(12, TERMS[name].neutral)
        if name in self.values:
            values[self.motors] = self.values[name]
        return values

    def spec_by_motor(self, per_joint: Array) -> Array:
        """(12,) a RobotSpec's array in motor order."""
        values = np.empty(12)
        values[self.motors] = per_joint
        return values

    def vector(self, name: str) -> Array:
        """(3,) the term's value; neutral if it was not drawn."""
        return self.values.get(name, np.full(3, TERMS[name].neutral))

    def record(self) -> dict[str, Any]:
        """JSON-ready: what was drawn, and from what."""
        return {
            "physics": self.set_name,
            "physics_digest": digest(tasks.get(TASK)),
            "seed": self.seed,
            "values": {name: np.round(value, 6).tolist() for name, value in self.values.items()},
            "total_mass_kg": round(float(self.model.body_mass.sum()), 4),
            "timestep_s": self.model.opt.timestep,
            "stiction": self.stiction,
            "command_delay_s": self.command_delay_s,
        }


def make_physics(robot_name: str, set_name: str, seed: int, at_once: int | None = None) -> RobotPhysics:
    """Build the model of `robot_name` with a draw of `set_name` (see `draw_physics`).

    Raises UserError for unknown names.
    """
    task = tasks.get(TASK)
    if robot_name != task.robot:
        raise unknown("robot behind the Unitree protocol", robot_name, [task.robot])
    robot = robots.get(robot_name)
    values = draw_physics(set_name, seed, at_once)
    chosen = physics_set(task, set_name)
    solver = SOLVER if chosen.solver == SolverSettings() else replace(chosen.solver, physics_dt_s=0.001)
    model = build_model(robot, collision="full", terrain=chosen.terrain, solver=solver)
    _write(model, robot, values)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
    return RobotPhysics(
        set_name=set_name,
        seed=seed,
        robot=robot,
        model=model,
        values=values,
        motors=motor_indices(robot.joint_names),
        stiction=max(chosen.stiction, STICTION),
        command_delay_s=float(values["action_delay"][0]) if "action_delay" in values else 0.0,
    )


class _OneModel:
    """A single model in the place of a batch of one: `expand` gives views of the model's own arrays."""

    def __init__(self, model: mujoco.MjModel, robot: RobotSpec) -> None:
        self.model, self.robot, self.num_sims = model, robot, 1
        joints = [model.joint(name) for name in robot.joint_names]
        self.joint_ids = np.array([joint.id for joint in joints])
        self.joint_dofs = np.array([int(joint.dofadr[0]) for joint in joints])

    def expand(self, name: str) -> NDArray[Any]:
        live: NDArray[Any] = getattr(self.model.opt if name == "gravity" else self.model, name)
        return live[None]


def _write(model: mujoco.MjModel, robot: RobotSpec, values: Values) -> None:
    """Write the draw with the same writers, in the same order, as training does."""
    fields = Fields(cast(Any, _OneModel(model, robot)))
    ids = np.zeros(1, np.int64)
    for name, term in TERMS.items():
        if name in values and term.write is not None and name not in _OWN:
            fields.use(term.fields)
            term.write(fields, ids, values[name][None])
    mujoco.mj_setConst(model, mujoco.MjData(model))
