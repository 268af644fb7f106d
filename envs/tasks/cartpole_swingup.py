"""A cart swings its pole up from hanging and balances it, near the middle of the rail."""

import math

import torch
from torch import Tensor

from envs.state import State
from envs.tasks.task import Start, Task


def upright(s: State) -> Tensor:
    """(N,) 1 with the pole up, 0 hanging."""
    return (1.0 + s.joint_position[:, 1].cos()) / 2


def balanced(s: State) -> Tensor:
    """1 when the pole stands within about 15 degrees, slowly, with the cart near the middle."""
    angle = torch.atan2(s.joint_position[:, 1].sin(), s.joint_position[:, 1].cos())
    return torch.exp(-((angle / 0.4) ** 2) - (s.joint_position[:, 0] / 1.2) ** 2)


TASK = Task(
    name="cartpole-swingup",
    description=(
        "A cart on a rail of 3.6 m carries a pole that swings freely and starts hanging down. The action moves the "
        "cart's position target. Swing the pole up and keep it balanced near the middle of the rail. "
        "joint_position[:, 0] is the cart's position in meters, joint_position[:, 1] the pole's angle in radians, "
        "0 when upright."
    ),
    robot="cartpole",
    episode_length_s=10.0,
    observation=("cart_position", "pole_direction", "joint_velocity", "previous_action"),
    history=1,
    start=Start(joint_velocity=(-0.1, 0.1), joint_override={"hinge": (math.pi - 0.2, math.pi + 0.2)}),
    terminated=lambda s: torch.zeros_like(s.terminated),
    fitness_rate=balanced,
    fitness_threshold=0.7,
    human_reward="cartpole_swingup.py",
    sparse_reward="cartpole_sparse.py",
    measures={"upright": upright, "cart_distance": lambda s: s.joint_position[:, 0].abs()},
    measure_units={"upright": "", "cart_distance": "m"},
    randomization={
        "link_mass": (0.8, 1.2),
        "base_mass": (-0.2, 0.2),
        "motor_strength": (0.9, 1.1),
        "joint_damping": (0.5, 2.0),
        "action_delay": (0.0, 0.01),
        "joint_position_noise": (-0.005, 0.005),
        "joint_velocity_noise": (-0.05, 0.05),
    },
)
