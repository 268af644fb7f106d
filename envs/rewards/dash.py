"""Human-designed reward for the dash: run straight at the commanded velocity, on four feet, and stop when told to.

As in walking, what is wanted earns and how it is done costs a share of what is earned: total = earned *
exp(-0.6 * costs), which is never negative, so that falling never pays.
"""

import torch
from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    error = (s.command[:, :2] - s.base_linear_velocity_b[:, :2]).norm(dim=1)
    yaw_rate_error = (s.command[:, 2] - s.base_angular_velocity_b[:, 2]).square()
    moving = (s.command.abs().sum(1) > 0.1).float()
    on_ground = s.foot_contact.float()
    foot_speed = s.foot_velocity_w[..., :2].square().sum(-1).sqrt()
    deviation = s.joint_position - s.joint_home
    # After the finish the legs brake first; the home pose is asked for once the robot is slow.
    standing = (1.0 - moving) * torch.exp(-(s.base_linear_velocity_b[:, :2] / 0.3).square().sum(1))
    # From standing, 2 m/s is far away: a slope that reaches there, a hill around it and a peak on top.
    earned = {
        "alive": torch.full_like(error, 0.3),
        "pace": (1.0 - error / 2.0).clamp(min=0.0),
        "velocity": torch.exp(-error.square() / 0.3) + 0.7 * torch.exp(-error.square() / 0.03),
        "yaw_rate": 0.5 * torch.exp(-yaw_rate_error / 0.3) + 0.3 * torch.exp(-yaw_rate_error / 0.04),
    }
    costs = {
        "tilt": 5.0 * s.gravity_b[:, :2].square().sum(1),
        "height": 10.0 * (s.base_height - 0.29).square(),
        "bounce": 1.0 * s.base_linear_velocity_b[:, 2].square(),
        "roll_pitch_rate": 0.06 * s.base_angular_velocity_b[:, :2].square().sum(1),
        "pose": 0.03 * deviation.square().sum(1),
        "fidget": 0.3 * standing * deviation.abs().sum(1),
        "slip": 0.15 * (foot_speed * on_ground).sum(1),
        "clearance": 0.25 * moving * ((s.foot_height - 0.07).square() * foot_speed).sum(1),
        "action_rate": 0.015 * (s.action - s.previous_action).square().sum(1),
        "torque": 1e-4 * s.joint_torque.square().sum(1),
        "power": 2e-4 * s.joint_power.clamp(min=0.0).sum(1),
    }
    gain = sum(earned.values(), start=torch.zeros_like(error))
    cost = sum(costs.values(), start=torch.zeros_like(error))
    # Each cost is shown with its share of what all of them together take away.
    taken = gain * (torch.exp(-0.6 * cost) - 1.0) / cost.clamp(min=1e-6)
    # Steps of at least 0.2 s in the air; shorter ones cost.
    steps = 0.5 * moving * ((s.foot_air_time - 0.2).clamp(max=0.1) * s.foot_touchdown).sum(1)
    return {**earned, **{name: taken * value for name, value in costs.items()}, "steps": steps}
