"""Human-designed reward of cartpole-swingup: up, balanced, centered, and no more swing than it takes.

A pole that spins all the way round is up half of the time, and learning settles there unless speed costs something
at every angle. What costs is energy beyond that of the pole at rest upright: for a uniform rod of length l, energy
over m g l / 2 is w^2 l / (3 g) + cos(angle), which is 1 there.
"""

import torch
from torch import Tensor

from envs.state import State

LENGTH_M, GRAVITY_M_S2 = 1.0, 9.81


def reward(s: State) -> dict[str, Tensor]:
    cart, angle, spin = s.joint_position[:, 0], s.joint_position[:, 1], s.joint_velocity[:, 1]
    upright = (1.0 + angle.cos()) / 2
    lean = torch.atan2(angle.sin(), angle.cos())
    surplus = spin.square() * LENGTH_M / (3.0 * GRAVITY_M_S2) + angle.cos() - 1.0
    return {
        "upright": upright,
        "balanced": torch.exp(-((lean / 0.5) ** 2) - (spin / 3.0) ** 2),
        "centered": 0.5 * upright * torch.exp(-((cart / 0.6) ** 2)),
        "spin": -0.5 * surplus.clamp(min=0.0, max=3.0),
        "effort": -0.02 * s.action.square().sum(1),
        "edge": -(cart.abs() - 1.4).clamp(min=0.0),
    }
