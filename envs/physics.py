"""The physics sets that policies are judged on: nominal, randomized, and shifted in two halves.

`shifted` is held out: parameters at least 20 % of their training range's width outside it (towards zero: 20 % of the
bound that is passed), and effects that training never models. Each episode shifts a few of the parameters, drawn for
it; the others stay within training's ranges, as a robot differs from its model in some ways and not in all. (All at
once, 99 % of the episodes of a walking policy end in a fall, and such a set compares nothing.) The halves differ in
parameters and effects: `select` compares candidates, `report` is read by final tables only. The numbers are fixed
before the first comparison that they judge and are never tuned; `digest` identifies them in every result.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from configs.errors import unknown
from envs.environment import Environment
from envs.rewards import Reward
from envs.scene import Collision, SolverSettings, Terrain
from envs.state import State
from envs.tasks.task import Task

SETS = ("nominal", "randomized", "select", "report")

Range = tuple[float, float]


@dataclass(frozen=True)
class PhysicsSet:
    """What an episode's physics is drawn from, and effects of the simulation itself."""

    ranges: Mapping[str, Range] = field(default_factory=dict)
    shifts: Mapping[str, Range] = field(default_factory=dict)
    """Ranges that replace those of some terms in an episode."""
    at_once: int = 0
    """In how many terms each episode is shifted."""
    solver: SolverSettings = field(default_factory=SolverSettings)
    terrain: Terrain = "flat"
    stiction: float = 1.0
    """Static over sliding joint friction; 1 means none."""


_WALK = {
    "select": PhysicsSet(
        at_once=3,
        shifts={
            "friction": (1.8, 2.2),
            "base_mass": (3.9, 5.0),
            "motor_strength": (0.80, 0.85),
            "kp": (0.80, 0.85),
            "joint_friction": (2.4, 3.0),
            "action_delay": (0.024, 0.030),
            "angular_velocity_bias": (0.08, 0.12),
            "contact_softness": (2.0, 3.0),
        },
        solver=SolverSettings(physics_dt_s=0.0025, integrator="implicitfast", cone="elliptic", iterations=10,
                              line_search_iterations=20),
    ),
    "report": PhysicsSet(
        at_once=3,
        shifts={
            "friction": (0.20, 0.24),
            "base_mass": (-2.4, -1.9),
            "center_of_mass": (0.07, 0.08),
            "motor_strength": (1.15, 1.20),
            "kd": (0.80, 0.85),
            "armature": (1.10, 1.30),
            "action_delay": (0.026, 0.032),
            "motor_offset": (0.045, 0.055),
            "gravity_bias": (0.03, 0.04),
            "restitution": (0.4, 0.5),
        },
        solver=SolverSettings(physics_dt_s=0.002, integrator="implicitfast", cone="elliptic", iterations=10,
                              line_search_iterations=20, impratio=10.0),
        stiction=1.5,
    ),
}  # fmt: skip

_BALL = {
    "select": PhysicsSet(
        at_once=3,
        shifts={
            "friction": (1.8, 2.2),
            "base_mass": (3.9, 5.0),
            "motor_strength": (0.80, 0.85),
            "action_delay": (0.024, 0.030),
            "angular_velocity_bias": (0.08, 0.12),
            "contact_softness": (3.4, 4.5),
            "ball_mass": (3.4, 4.0),
            "ball_rolling_friction": (0.012, 0.015),
            "ball_drag": (1.2, 2.0),
        },
        solver=_WALK["select"].solver,
    ),
    "report": PhysicsSet(
        at_once=3,
        shifts={
            "friction": (0.20, 0.24),
            "base_mass": (-2.4, -1.9),
            "center_of_mass": (0.07, 0.08),
            "kd": (0.80, 0.85),
            "action_delay": (0.026, 0.032),
            "motor_offset": (0.045, 0.055),
            "gravity_bias": (0.03, 0.04),
            "ball_mass": (0.6, 0.8),
            "ball_friction": (0.20, 0.32),
            "ball_softness": (3.4, 4.5),
            "ball_restitution": (0.60, 0.70),
        },
        solver=_WALK["report"].solver,
        stiction=1.5,
    ),
}  # fmt: skip

_SHIFTED: dict[str, dict[str, PhysicsSet]] = {
    "go2-walk": _WALK,
    "go1-walk": _WALK,
    "go2-dash": _WALK,
    "go2-ball": _BALL,
    "cartpole-swingup": {
        "select": PhysicsSet(
            at_once=2,
            shifts={"link_mass": (1.3, 1.5), "motor_strength": (0.80, 0.85), "action_delay": (0.013, 0.016)},
            solver=SolverSettings(physics_dt_s=0.0025, integrator="implicitfast"),
        ),
        "report": PhysicsSet(
            at_once=2,
            shifts={"link_mass": (0.55, 0.70), "joint_damping": (2.4, 3.0), "base_mass": (0.3, 0.4),
                    "action_delay": (0.014, 0.018)},
            solver=SolverSettings(physics_dt_s=0.002, integrator="RK4"),
            stiction=1.5,
        ),
    },
}  # fmt: skip


def physics_set(task: Task, name: str) -> PhysicsSet:
    """The set of that name for the task. Raises UserError for an unknown name."""
    if name not in SETS:
        raise unknown("physics set", name, SETS)
    if name == "nominal":
        return PhysicsSet()
    if name == "randomized":
        return PhysicsSet(ranges=dict(task.randomization))
    shifted = _SHIFTED[task.name][name]
    return replace(shifted, ranges=dict(task.randomization))


def digest(task: Task) -> str:
    """Twelve hexadecimal digits that change when any number of the task's physics sets does."""
    content: dict[str, Any] = {name: asdict(physics_set(task, name)) for name in SETS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def no_reward(s: State) -> dict[str, torch.Tensor]:
    """For environments that only measure."""
    return {"none": torch.zeros_like(s.time_s)}


def build(
    task: Task,
    name: str,
    num_envs: int,
    seed: int,
    *,
    reward: Reward = no_reward,
    collision: Collision = "full",
    num_threads: int = 0,
) -> Environment:
    """An environment on that physics, with the robot's full collision geometry unless told otherwise."""
    chosen = physics_set(task, name)
    return Environment(
        task, num_envs, reward=reward, seed=seed, randomization=chosen.ranges, shifts=chosen.shifts,
        at_once=chosen.at_once, terrain=chosen.terrain, collision=collision, solver=chosen.solver,
        stiction=chosen.stiction, num_threads=num_threads,
    )  # fmt: skip
