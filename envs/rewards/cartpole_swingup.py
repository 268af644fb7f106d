"""Human-designed reward of cartpole-swingup: up, centered, calm."""

import torch
from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    cart, angle = s.joint_position[:, 0], s.joint_position[:, 1]
    upright = (1.0 + angle.cos()) / 2
    return {
        "upright": upright,
        "centered": 0.5 * upright * torch.exp(-((cart / 0.6) ** 2)),
        "spin": -0.01 * upright * s.joint_velocity[:, 1].square().clamp(max=50.0),
        "effort": -0.02 * s.action.square().sum(1),
        "edge": -(cart.abs() - 1.4).clamp(min=0.0),
    }
