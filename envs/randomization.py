"""Domain randomization as data: each term says once what it changes, how, in which unit and when it is drawn.

A set of ranges maps term names to [low, high], drawn uniformly. Draws are keyed by (seed, term, simulation,
episode), so they depend on neither batch size nor order. Model fields start from stored defaults at every
draw: nothing accumulates.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import mujoco
import numpy as np

from configs.errors import UserError, unknown
from envs import draws
from envs.ball import BALL, Ball
from envs.robots.spec import RobotSpec

if TYPE_CHECKING:
    from envs.simulation import Simulation

Ranges = Mapping[str, tuple[float, float]]

# Positions in MuJoCo's gainprm of a dcmotor (engine_forward.c, dcmotorVoltage).
_RESISTANCE, _KP, _KD = 0, 4, 6
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
Geoms = Callable[[Fields], np.ndarray]


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
    """write(fields, ids, values (K, size)) changes rows that hold defaults (or what earlier terms left)."""
    derived_constants: bool = False
    """Whether MuJoCo must recompute constants that depend on the fields (mj_setConst)."""
    of_ball: bool = False
    """Whether it is about the ball, and so exists in tasks with one only."""


def _robot(f: Fields) -> np.ndarray:
    return f.touching


def _ball(f: Fields) -> np.ndarray:
    return f.ball_geom


def _scale_links(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["body_mass"][ids[:, None], f.links] *= value
    f["body_inertia"][ids[:, None], f.links] *= value[:, :, None]


def _add_base_mass(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    mass = f["body_mass"]
    before = mass[ids, f.base]
    mass[ids, f.base] = np.maximum(before + value[:, 0], 0.1 * before)
    f["body_inertia"][ids, f.base] *= (mass[ids, f.base] / before)[:, None]


def _add_center_of_mass(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["body_ipos"][ids, f.base] += value


def _set_friction(pick: Geoms, column: int) -> Write:
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


def _set_restitution(pick: Geoms) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        ratio, solref, geoms = restitution_to_damping_ratio(value), f["geom_solref"], pick(f)
        # The contact's stiffness grows as 1 / (time constant x ratio)^2. Where the physics step cannot follow, it
        # would add energy (a bounce at 28 times the impact speed for e = 0.9 at 5 ms): soften it instead.
        slowest = f.model.opt.timestep / (0.6 * ratio)
        solref[ids[:, None], geoms, 0] = np.maximum(solref[ids[:, None], geoms, 0], slowest)
        solref[ids[:, None], geoms, 1] = ratio

    return write


def _scale_softness(pick: Geoms) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        f["geom_solref"][ids[:, None], pick(f), 0] *= value

    return write


def _scale_motor_strength(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    gain = f["actuator_gainprm"]
    gain[ids, :, _KP] *= value
    gain[ids, :, _KD] *= value
    gain[ids, :, _RESISTANCE] /= value  # stall torque = K / R per volt
    f["actuator_forcerange"][ids] *= value[:, :, None]


def _scale_gain(index: int) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        f["actuator_gainprm"][ids, :, index] *= value

    return write


def _scale_dofs(field: str) -> Write:
    def write(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
        f[field][ids[:, None], f.dofs] *= value

    return write


def _scale_friction(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["dof_frictionloss"][ids[:, None], f.dofs] *= value
    # Joints that stick have their friction in the motor instead (scene.py, stiction).
    f["actuator_biasprm"][ids, :, _LUGRE] *= value[:, f.robot.driven_index, None]


def _set_delay(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["actuator_delay"][ids] = value


def _add_gravity(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["gravity"][ids, 2] -= value[:, 0]


def _set_ball_mass(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    mass = f["body_mass"]
    f["body_inertia"][ids, f.ball] *= value / mass[ids, f.ball, None]
    mass[ids, f.ball] = value[:, 0]


def _set_ball_drag(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    assert f.sim.ball_dofs is not None
    f["dof_damping"][ids, f.sim.ball_dofs : f.sim.ball_dofs + 3] = value


def _joints(f: Fields) -> int:
    return f.robot.num_joints


def _motors(f: Fields) -> int:
    return f.robot.num_actions


def _three(f: Fields) -> int:
    return 3


TERMS: dict[str, Term] = {
    "friction": Term(
        "sliding friction coefficient between the robot and the ground", "absolute", "", (0.0, 5.0), 0.8,
        fields=("geom_friction",), write=_set_friction(_robot, 0)),
    "contact_softness": Term(
        "time constant of ground contact; above 1 the ground gives more", "scale", "", (0.5, 10.0), 1.0,
        fields=("geom_solref",), write=_scale_softness(_robot)),
    "restitution": Term(
        "share of the impact speed with which a foot bounces off the ground; least 0.13", "absolute", "",
        (0.0, 0.9), 0.0,
        fields=("geom_solref",), write=_set_restitution(_robot)),
    "base_mass": Term(
        "mass added to the base, such as a payload", "add", "kg", (-5.0, 20.0), 0.0,
        fields=("body_mass", "body_inertia"), write=_add_base_mass, derived_constants=True),
    "link_mass": Term(
        "mass and inertia of each other link", "scale", "", (0.3, 3.0), 1.0, size=lambda f: len(f.links),
        fields=("body_mass", "body_inertia"), write=_scale_links, derived_constants=True),
    "center_of_mass": Term(
        "shift of the base's center of mass along each axis", "add", "m", (-0.3, 0.3), 0.0, size=_three,
        fields=("body_ipos",), write=_add_center_of_mass, derived_constants=True),
    "motor_strength": Term(
        "torque that each motor gives, of what it is asked for, and its limits", "scale", "", (0.1, 3.0), 1.0,
        size=_motors, fields=("actuator_gainprm", "actuator_forcerange"), write=_scale_motor_strength),
    "motor_offset": Term(
        "error of each joint encoder's zero", "add", "rad", (-0.5, 0.5), 0.0, size=_motors),
    "kp": Term(
        "position gain of each joint", "scale", "", (0.1, 5.0), 1.0,
        size=_motors, fields=("actuator_gainprm",), write=_scale_gain(_KP)),
    "kd": Term(
        "velocity gain of each joint", "scale", "", (0.0, 5.0), 1.0,
        size=_motors, fields=("actuator_gainprm",), write=_scale_gain(_KD)),
    "joint_friction": Term(
        "dry friction of each joint", "scale", "", (0.0, 10.0), 1.0,
        size=_joints, fields=("dof_frictionloss", "actuator_biasprm"), write=_scale_friction),
    "joint_damping": Term(
        "viscous damping of each joint", "scale", "", (0.0, 10.0), 1.0,
        size=_joints, fields=("dof_damping",), write=_scale_dofs("dof_damping")),
    "joint_stiffness": Term(
        "spring that pulls each joint towards its zero, as a cable would", "add", "N·m/rad", (0.0, 50.0), 0.0,
        size=_joints, fields=("jnt_stiffness",), write=lambda f, ids, v: _add_stiffness(f, ids, v)),
    "armature": Term(
        "rotor inertia of each joint, reflected through its gears", "scale", "", (0.1, 10.0), 1.0,
        size=_joints, fields=("dof_armature",), write=_scale_dofs("dof_armature"), derived_constants=True),
    "action_delay": Term(
        "time from an action to its effect at the motors", "absolute", "s", (0.0, 0.06), 0.0,
        fields=("actuator_delay",), write=_set_delay),
    "gravity": Term(
        "strength of gravity added to 9.81", "add", "m/s^2", (-9.0, 20.0), 0.0,
        fields=("gravity",), write=_add_gravity),
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
        fields=("body_mass", "body_inertia"), write=_set_ball_mass, derived_constants=True),
    "ball_friction": Term(
        "sliding friction coefficient between the ball and the ground", "absolute", "", (0.0, 5.0), Ball.friction,
        of_ball=True, fields=("geom_friction",), write=_set_friction(_ball, 0)),
    "ball_rolling_friction": Term(
        "rolling friction of the ball on the ground: torque against rolling for each newton of load", "absolute", "m",
        (0.0, 0.1), Ball.rolling_friction_m, of_ball=True, fields=("geom_friction",), write=_set_friction(_ball, 2)),
    "ball_drag": Term(
        "force against the motion of the ball's center for each m/s, as of air or a soft floor", "absolute", "N·s/m",
        (0.0, 1000.0), 0.0, of_ball=True, fields=("dof_damping",), write=_set_ball_drag),
    "ball_softness": Term(
        "time constant of contact between ball and ground; above 1 the ball gives more", "scale", "", (0.5, 10.0), 1.0,
        of_ball=True, fields=("geom_solref",), write=_scale_softness(_ball)),
    "ball_restitution": Term(
        "share of the impact speed with which the ball bounces off the ground; least 0.13", "absolute", "",
        (0.0, 0.9), 0.0, of_ball=True, fields=("geom_solref",), write=_set_restitution(_ball)),
    "ball_push_velocity": Term(
        "sudden change of the ball's horizontal velocity, each axis, at times of its own as far apart as "
        "push_interval says", "add", "m/s", (-10.0, 10.0), 0.0, when="push", size=lambda f: 2, of_ball=True),
}  # fmt: skip


def _add_stiffness(f: Fields, ids: np.ndarray, value: np.ndarray) -> None:
    f["jnt_stiffness"][ids[:, None], f.sim.joint_ids] += value


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


class Randomizer:
    """Draws and applies a set of ranges to the simulations that are being reset."""

    def __init__(
        self, sim: "Simulation", ranges: Ranges, seed: int, shifts: Ranges | None = None, at_once: int = 0
    ) -> None:
        """shifts: ranges that replace those of `at_once` terms in each episode, drawn among them."""
        shifts = validate(shifts or {})
        # A term that is only ever shifted is neutral otherwise.
        self.ranges = {name: (TERMS[name].neutral,) * 2 for name in shifts} | validate(ranges)
        self._at_once, self._shift_key = at_once, draws.stream(seed, "shifts")
        self.fields = Fields(sim)
        has_ball = self.fields.ball is not None
        for name in self.ranges:
            if TERMS[name].of_ball and not has_ball:
                raise UserError(f"randomization {name}: there is no ball in this task; leave {name} out")
        self._sim = sim
        self._row_key = draws.stream(seed, "randomization")
        at_reset = [(name, term) for name, term in TERMS.items() if name in self.ranges and term.when == "reset"]
        self._at_reset: list[tuple[str, Term, slice]] = []
        elements: list[np.ndarray] = []
        low: list[float] = []
        span: list[float] = []
        for name, term in at_reset:
            self.fields.use(term.fields)
            size = term.size(self.fields)
            self._at_reset.append((name, term, slice(len(low), len(low) + size)))
            elements.append(draws.element_keys(name, size))
            low += [self.ranges[name][0]] * size
            span += [self.ranges[name][1] - self.ranges[name][0]] * size
            if term.write is None:
                self.fields.values[name] = np.full((sim.num_sims, size), term.neutral, dtype=np.float32)
        self._elements = np.concatenate(elements) if elements else np.zeros(0, dtype=np.uint64)
        self._low, self._span = np.array(low), np.array(span)
        self._parts = parts = {name: part for name, _, part in self._at_reset}
        self._shifts = [(parts[name], span[0], span[1] - span[0]) for name, span in shifts.items()]
        self.needs_constants = any(term.derived_constants for _, term in at_reset)

        known = scalar_terms(has_ball)
        scalars = {name: part.start for name, _, part in self._at_reset if name in known}
        self._scalar_columns = list(scalars.values())
        self._scalar_places = [known.index(name) for name in scalars]
        low_high = np.array([self.ranges[name] for name in scalars]).reshape(-1, 2)
        self._scalar_middle = low_high.mean(1)
        self._scalar_half = np.maximum(np.diff(low_high)[:, 0] / 2, 1e-9)
        self.scalars = np.zeros((sim.num_sims, len(known)), dtype=np.float32)
        """(N, scalar terms) each episode's draws, -1 to 1 across their range; 0 for terms that are not drawn."""
        self._fixed: dict[str, np.ndarray] = {}

    @property
    def values(self) -> dict[str, np.ndarray]:
        """(N, size) float32 draws of the reset terms that have no model field, by term."""
        return self.fields.values

    def reset(self, ids: np.ndarray, episode: np.ndarray) -> None:
        """New draws for simulations ids (K,), whose episode numbers are episode (K,)."""
        if not self._at_reset:
            return
        self.fields.restore(ids)
        drawn = self._drawn(ids, episode)
        for name, term, part in self._at_reset:
            if term.write is None:
                self.fields.values[name][ids] = drawn[:, part]
            elif name not in self._fixed:
                term.write(self.fields, ids, drawn[:, part])
            elif len(rows := np.flatnonzero(~np.isnan(self._fixed[name][ids]))):
                term.write(self.fields, ids[rows], drawn[rows, part])
        if self._scalar_columns:
            across = (drawn[:, self._scalar_columns] - self._scalar_middle) / self._scalar_half
            self.scalars[ids[:, None], self._scalar_places] = across
        if self.needs_constants:
            self._sim.set_const(ids)

    def fix(self, name: str, values: np.ndarray) -> None:
        """Gives each simulation a value of its own, (N,), instead of draws; every element of the term gets it.

        NaN leaves a simulation's model as it is. For terms of the ranges that are drawn at resets; takes effect there.
        """
        if name not in (known := [term for term, _, _ in self._at_reset]):
            raise unknown("term drawn at resets", name, known)
        self._fixed[name] = np.asarray(values, dtype=np.float64)

    def redraw(self, name: str, span: tuple[float, float]) -> None:
        """Draws a term from another range at resets from now on; critics go on seeing it across its first one."""
        part = self._parts[name]
        self._low[part], self._span[part] = span[0], span[1] - span[0]

    def describe(self, i: int, episode: int) -> dict[str, np.ndarray]:
        """(size,) what simulation i draws for an episode at its reset, by term, in each term's unit."""
        if not self._at_reset:
            return {}
        drawn = self._drawn(np.array([i]), np.array([episode]))[0]
        return {name: drawn[part] for name, _, part in self._at_reset}

    def _drawn(self, ids: np.ndarray, episode: np.ndarray) -> np.ndarray:
        """(K, elements of all reset terms)"""
        u = draws.uniform_elements(self._row_key, self._elements, ids, episode)
        drawn: np.ndarray = self._low + self._span * u
        if self._shifts:
            chosen = shifted(self._shift_key, len(self._shifts), self._at_once, ids, episode)
            for (part, low, span), rows in zip(self._shifts, chosen.T, strict=True):
                drawn[rows, part] = low + span * u[rows, part]
        for name, _, part in self._at_reset if self._fixed else ():
            if name in self._fixed:
                values = self._fixed[name][ids, None]
                drawn[:, part] = np.where(np.isnan(values), TERMS[name].neutral, values)
        return drawn


def shifted(key: np.uint64, terms: int, at_once: int, ids: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """(K, terms) bool: which terms are shifted in these episodes, at_once of them in each."""
    order = draws.uniform(key, ids, episode, size=terms).argsort(1).argsort(1)
    chosen: np.ndarray = order < at_once
    return chosen
