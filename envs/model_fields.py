"""How the terms of randomization change MuJoCo's model, field by field, each simulation's own."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from envs.ball import BALL
from envs.robots.spec import RobotSpec

if TYPE_CHECKING:
    from envs.simulation import Simulation

# Positions in MuJoCo's gainprm of a dcmotor (engine_forward.c, dcmotorVoltage).
_RESISTANCE, KP, KD = 0, 4, 6
_LUGRE = slice(3, 5)  # sliding and static friction, in its biasprm


class Fields:
    """What terms write: live per-simulation model fields, by name, and values that MuJoCo has no field for."""

    def __init__(self, sim: "Simulation") -> None:
        self.sim = sim
        self.robot: RobotSpec = sim.robot
        self.model: mujoco.MjModel = sim.model
        self.base = self.model.body(self.robot.base_body).id
        ball = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, BALL)
        self.ball = ball if ball >= 0 else None
        """Body of the ball, where the robot stands on one."""
        self.ball_geom = np.flatnonzero(self.model.geom_bodyid == ball) if ball >= 0 else np.zeros(0, np.int64)
        self.links = np.array([b for b in range(1, self.model.nbody) if b not in (self.base, ball)])
        """The robot's bodies but its base."""
        touching = (self.model.geom_conaffinity > 0) & (self.model.geom_bodyid > 0) & (self.model.geom_bodyid != ball)
        self.touching = np.flatnonzero(touching)
        """The robot's geoms that may touch the ground, or the ball."""
        self.dofs = sim.joint_dofs
        self.values: dict[str, np.ndarray] = {}
        """(N, size) per term without a model field: sensor biases, motor offset."""
        self.live: dict[str, np.ndarray] = {}
        """(N, ...) per-simulation model fields that some term writes."""
        self._defaults: dict[str, np.ndarray] = {}

    def __getitem__(self, field: str) -> np.ndarray:
        return self.live[field]

    def use(self, fields: tuple[str, ...]) -> None:
        for field in fields:
            if field not in self.live:
                source = self.model.opt if field == "gravity" else self.model
                self._defaults[field] = np.array(getattr(source, field), dtype=np.float64)
                self.live[field] = self.sim.expand(field)

    def restore(self, ids: np.ndarray) -> None:
        for field, live in self.live.items():
            live[ids] = self._defaults[field]


Write = Callable[[Fields, np.ndarray, np.ndarray], None]
"""write(fields, ids, values (K, size)) changes rows that hold defaults (or what earlier terms left)."""
Geoms = Callable[[Fields], np.ndarray]


def robot_geoms(f: Fields) -> np.ndarray:
    return f.touching


def ball_geoms(f: Fields) -> np.ndarray:
    return f.ball_geom


def scale_links(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["body_mass"][ids[:, None], f.links] *= value
    f["body_inertia"][ids[:, None], f.links] *= value[:, :, None]


def add_base_mass(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    mass = f["body_mass"]
    before = mass[ids, f.base]
    mass[ids, f.base] = np.maximum(before + value[:, 0], 0.1 * before)
    f["body_inertia"][ids, f.base] *= (mass[ids, f.base] / before)[:, None]


def add_center_of_mass(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["body_ipos"][ids, f.base] += value


def set_friction(pick: Geoms, column: int) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        f["geom_friction"][ids[:, None], pick(f), column] = value

    return write


_BOUNCE_ANGLE = np.linspace(math.pi / 2, 1e-8, 1000)


def restitution_to_damping_ratio(restitution: np.ndarray) -> np.ndarray:
    """Damping ratio of the linear contact spring that returns this share of the impact speed.

    The ground pushes and never pulls, so contact ends when the force does, before the spring is back at its
    length: e = exp(-2 a / tan(a)) with cos(a) the damping ratio (Schwager and Poeschel 2007, "Coefficient of
    restitution and linear-dashpot model revisited"). Critical damping, e = 0.135, is the least there is.
    """
    log = -np.log(np.maximum(restitution, 1e-6))
    ratio: np.ndarray = np.interp(log / 2, _BOUNCE_ANGLE / np.tan(_BOUNCE_ANGLE), np.cos(_BOUNCE_ANGLE))
    return ratio


def set_restitution(pick: Geoms) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        ratio, solref, geoms = restitution_to_damping_ratio(value), f["geom_solref"], pick(f)
        # The contact's stiffness grows as 1 / (time constant x ratio)^2. Where the physics step cannot follow, it
        # would add energy (a bounce at 28 times the impact speed for e = 0.9 at 5 ms): soften it instead.
        slowest = f.model.opt.timestep / (0.6 * ratio)
        solref[ids[:, None], geoms, 0] = np.maximum(solref[ids[:, None], geoms, 0], slowest)
        solref[ids[:, None], geoms, 1] = ratio

    return write


def scale_softness(pick: Geoms) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        f["geom_solref"][ids[:, None], pick(f), 0] *= value

    return write


def scale_motor_strength(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    gain = f["actuator_gainprm"]
    gain[ids, :, KP] *= value
    gain[ids, :, KD] *= value
    gain[ids, :, _RESISTANCE] /= value  # stall torque = K / R per volt
    f["actuator_forcerange"][ids] *= value[:, :, None]


def scale_gain(index: int) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        f["actuator_gainprm"][ids, :, index] *= value

    return write


def scale_dofs(field: str) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        f[field][ids[:, None], f.dofs] *= value

    return write


def scale_friction(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["dof_frictionloss"][ids[:, None], f.dofs] *= value
    # Joints that stick have their friction in the motor instead (scene.py, stiction).
    f["actuator_biasprm"][ids, :, _LUGRE] *= value[:, f.robot.driven_index, None]


def set_delay(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["actuator_delay"][ids] = value


def add_gravity(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["gravity"][ids, 2] -= value[:, 0]


def set_ball_mass(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    mass = f["body_mass"]
    f["body_inertia"][ids, f.ball] *= value / mass[ids, f.ball, None]
    mass[ids, f.ball] = value[:, 0]


def set_ball_drag(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    assert f.sim.ball_dofs is not None
    f["dof_damping"][ids, f.sim.ball_dofs : f.sim.ball_dofs + 3] = value


def add_stiffness(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["jnt_stiffness"][ids[:, None], f.sim.joint_ids] += value
