"""Human-designed reward for walking on four feet after velocity commands.

What is wanted (following the command, staying up) earns; how the robot goes about it (slipping, jerking, tilting)
costs a share of what it earns: total = earned * exp(-0.6 * costs). So the total stays positive, and ending an
episode by a fall never pays, not even on ice, where little can be earned and costs are high.
"""

import torch
from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    velocity_error = (s.command[:, :2] - s.base_linear_velocity_b[:, :2]).square().sum(1)
    yaw_rate_error = (s.command[:, 2] - s.base_angular_velocity_b[:, 2]).square()
    moving = (s.command.abs().sum(1) > 0.1).float()
    on_ground = s.foot_contact.float()
    foot_speed = s.foot_velocity_w[..., :2].square().sum(-1).sqrt()
    deviation = s.joint_position - s.joint_home
    # A wide hill that can be found and a narrow one that makes the last bit worth it.
    earned = {
        "alive": torch.full_like(velocity_error, 0.3),
        "velocity": torch.exp(-velocity_error / 0.3) + 0.7 * torch.exp(-velocity_error / 0.03),
        "yaw_rate": 0.5 * torch.exp(-yaw_rate_error / 0.3) + 0.3 * torch.exp(-yaw_rate_error / 0.04),
    }
    costs = {
        "tilt": 5.0 * s.gravity_b[:, :2].square().sum(1),
        "height": 10.0 * (s.base_height - 0.29).square(),
        "bounce": 0.5 * s.base_linear_velocity_b[:, 2].square(),
        "roll_pitch_rate": 0.02 * s.base_angular_velocity_b[:, :2].square().sum(1),
        "pose": 0.05 * deviation.square().sum(1),
        "fidget": 0.3 * (1.0 - moving) * deviation.abs().sum(1),
        "slip": 0.3 * (foot_speed * on_ground).sum(1),
        "clearance": 1.0 * moving * ((s.foot_height - 0.08).square() * foot_speed).sum(1),
        "action_rate": 0.02 * (s.action - s.previous_action).square().sum(1),
        "torque": 2e-4 * s.joint_torque.square().sum(1),
        "power": 5e-4 * s.joint_power.clamp(min=0.0).sum(1),
    }
    gain = sum(earned.values(), start=torch.zeros_like(velocity_error))
    cost = sum(costs.values(), start=torch.zeros_like(velocity_error))
    # Each cost is shown with its share of what all of them together take away.
    taken = gain * (torch.exp(-0.6 * cost) - 1.0) / cost.clamp(min=1e-6)
    # Steps of at least 0.25 s in the air; shorter ones cost.
    steps = 0.5 * moving * ((s.foot_air_time - 0.25).clamp(max=0.1) * s.foot_touchdown).sum(1)
    return {**earned, **{name: taken * value for name, value in costs.items()}, "steps": steps}
