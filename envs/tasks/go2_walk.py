"""Go2 follows velocity commands on its feet and stands still when asked to."""

import torch
from torch import Tensor

from envs.state import State
from envs.tasks.task import Command, Start, Task

STANDING_M_S = 0.1
"""Commands smaller than this mean: stand."""


def velocity_error(s: State) -> Tensor:
    """(N,) [m/s] size of the horizontal velocity's difference from the command."""
    return (s.command[:, :2] - s.base_linear_velocity_b[:, :2]).norm(dim=1)


def yaw_rate_error(s: State) -> Tensor:
    """(N,) [rad/s]"""
    return (s.command[:, 2] - s.base_angular_velocity_b[:, 2]).abs()


def fallen(s: State) -> Tensor:
    """Tilt over 60 degrees, the base near the ground, or anything but feet and calves on it."""
    return (s.gravity_b[:, 2] > -0.5) | (s.base_height < 0.13) | s.illegal_contact


def tracking(s: State) -> Tensor:
    """1 when the command is followed exactly, about 0.8 at errors of 0.15 m/s and 0.2 rad/s together."""
    return torch.exp(-((velocity_error(s) / 0.5) ** 2) - (yaw_rate_error(s) / 0.6) ** 2)


def foot_slip(s: State) -> Tensor:
    """(N,) [m/s] mean horizontal speed of the feet on the ground."""
    on_ground = s.foot_contact.float()
    speed = s.foot_velocity_w[..., :2].norm(dim=-1)
    return (speed * on_ground).sum(1) / on_ground.sum(1).clamp(min=1.0)


TASK = Task(
    name="go2-walk",
    description=(
        "A four-legged robot (Unitree Go2, 15 kg) walks on flat ground and follows a velocity command: forward "
        "(-0.5 to 1.5 m/s), sideways (up to 0.5 m/s) and yaw rate (up to 1 rad/s), drawn anew every 5 seconds. "
        "At zero command it stands still. It must not fall, and it should walk so that a real robot could."
    ),
    robot="go2",
    episode_length_s=20.0,
    observation=("angular_velocity", "gravity", "walk_command", "joint_position", "joint_velocity",
                 "previous_action"),
    history=3,
    start=Start(joint_position=(-0.1, 0.1), joint_velocity=(-0.3, 0.3), base_height_m=(0.02, 0.06),
                base_velocity=(-0.3, 0.3)),
    command=Command(low=(-0.5, -0.5, -1.0), high=(1.5, 0.5, 1.0), units=("m/s", "m/s", "rad/s")),
    terminated=fallen,
    fitness_rate=tracking,
    fitness_threshold=0.75,
    human_reward="walk.py",
    sparse_reward="walk_sparse.py",
    measures={
        "velocity_error": velocity_error,
        "yaw_rate_error": yaw_rate_error,
        "tilt": lambda s: torch.rad2deg(torch.acos((-s.gravity_b[:, 2]).clamp(-1.0, 1.0))),
        "foot_slip": foot_slip,
        "power": lambda s: s.joint_power.clamp(min=0.0).sum(1),
        "speed": lambda s: s.base_linear_velocity_b[:, :2].norm(dim=1),
        "action_rate": lambda s: (s.action - s.previous_action).square().sum(1),
        "joint_acceleration": lambda s: s.joint_acceleration.square().mean(1).sqrt(),
        "base_height": lambda s: s.base_height,
    },
    measure_units={
        "velocity_error": "m/s", "yaw_rate_error": "rad/s", "tilt": "deg", "foot_slip": "m/s", "power": "W",
        "speed": "m/s", "action_rate": "", "joint_acceleration": "rad/s^2", "base_height": "m",
    },
    randomization={
        "friction": (0.3, 1.5),
        "restitution": (0.0, 0.3),
        "base_mass": (-1.0, 3.0),
        "link_mass": (0.8, 1.2),
        "center_of_mass": (-0.05, 0.05),
        "motor_strength": (0.9, 1.1),
        "motor_offset": (-0.03, 0.03),
        "kp": (0.9, 1.1),
        "kd": (0.9, 1.1),
        "joint_friction": (0.5, 2.0),
        "joint_damping": (0.5, 2.0),
        "armature": (1.0, 1.05),
        "action_delay": (0.0, 0.02),
        "gravity": (-1.0, 1.0),
        "push_velocity": (-0.5, 0.5),
        "push_interval": (5.0, 15.0),
        "joint_position_noise": (-0.02, 0.02),
        "joint_velocity_noise": (-1.5, 1.5),
        "angular_velocity_noise": (-0.2, 0.2),
        "gravity_noise": (-0.05, 0.05),
        "angular_velocity_bias": (-0.05, 0.05),
        "gravity_bias": (-0.02, 0.02),
    },
)  # fmt: skip
