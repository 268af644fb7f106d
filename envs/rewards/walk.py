"""Human-designed reward for walking on four feet after velocity commands.

Tracking is worth most; the rest makes the gait one that a real robot can walk: level, with all four feet used,
lifted and put down without slipping, with smooth actions. Weights are per control step.
"""

import torch
from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    velocity_error = (s.command[:, :2] - s.base_linear_velocity_b[:, :2]).square().sum(1)
    yaw_rate_error = (s.command[:, 2] - s.base_angular_velocity_b[:, 2]).square()
    moving = (s.command.abs().sum(1) > 0.1).float()
    on_ground = s.foot_contact.float()
    foot_speed = s.foot_velocity_w[..., :2].square().sum(-1)
    deviation = s.joint_position - s.joint_home
    return {
        # A wide hill that can be found and a narrow one that makes the last bit worth it.
        "velocity": torch.exp(-velocity_error / 0.3) + 0.7 * torch.exp(-velocity_error / 0.03),
        "yaw_rate": 0.5 * torch.exp(-yaw_rate_error / 0.3) + 0.3 * torch.exp(-yaw_rate_error / 0.04),
        "upright": -2.0 * s.gravity_b[:, :2].square().sum(1),
        "height": -10.0 * (s.base_height - 0.29).square(),
        "bounce": -0.5 * s.base_linear_velocity_b[:, 2].square(),
        "roll_pitch_rate": -0.02 * s.base_angular_velocity_b[:, :2].square().sum(1),
        "pose": -0.05 * deviation.square().sum(1),
        "stand_still": -0.4 * (1.0 - moving) * deviation.abs().sum(1),
        "air_time": 0.5 * moving * ((s.foot_air_time - 0.25).clamp(max=0.1) * s.foot_touchdown).sum(1),
        "slip": -0.15 * (foot_speed.sqrt() * on_ground).sum(1),
        "clearance": -0.5 * moving * ((s.foot_height - 0.07).square() * foot_speed.sqrt()).sum(1),
        "action_rate": -0.02 * (s.action - s.previous_action).square().sum(1),
        "torque": -1e-4 * s.joint_torque.square().sum(1),
        "power": -5e-4 * s.joint_power.clamp(min=0.0).sum(1),
    }
