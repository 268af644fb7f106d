"""Human-designed reward for standing on a ball.

As with walking, what is wanted (being up there, over the middle, with the ball at rest) earns, and how the robot goes
about it costs a share of what it earns: total = earned * exp(-0.6 * costs). It is always positive: staying on pays.
"""

import torch
from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    # The ball below the base, by gravity's direction: so far down, and so far off to the side.
    below = (s.gravity_b * s.ball_position_b).sum(1)
    aside = (s.ball_position_b - below[:, None] * s.gravity_b).square().sum(1)
    rolling = s.ball_linear_velocity_b.square().sum(1)
    earned = {
        "alive": torch.full_like(below, 1.0),
        "centered": torch.exp(-aside / 0.02),
        "ball_still": torch.exp(-rolling / 0.1),
    }
    costs = {
        "tilt": 3.0 * s.gravity_b[:, :2].square().sum(1),
        "height": 10.0 * (below - 0.66).square(),
        "roll_pitch_rate": 0.02 * s.base_angular_velocity_b[:, :2].square().sum(1),
        "turning": 0.05 * s.base_angular_velocity_b[:, 2].square(),
        "ball_turning": 0.02 * s.ball_angular_velocity_b.square().sum(1),
        "feet_off": 0.1 * (1.0 - s.foot_contact.float()).sum(1),
        "pose": 0.1 * (s.joint_position - s.joint_home).square().sum(1),
        "joint_velocity": 3e-4 * s.joint_velocity.square().sum(1),
        "action_rate": 0.02 * (s.action - s.previous_action).square().sum(1),
        "torque": 5e-5 * s.joint_torque.square().sum(1),
    }
    gain = sum(earned.values(), start=torch.zeros_like(below))
    cost = sum(costs.values(), start=torch.zeros_like(below))
    # Each cost is shown with its share of what all of them together take away.
    taken = gain * (torch.exp(-0.6 * cost) - 1.0) / cost.clamp(min=1e-6)
    return {**earned, **{name: taken * value for name, value in costs.items()}}
