"""States made by hand, for rewards, fitness and measures whose values are worked out beside them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from envs.state import State

HOME = torch.tensor([0.0, 0.9, -1.8] * 4)


def walking(n: int = 1, **given: Any) -> State:
    """A Go2 that stands still at home on all feet, height 0.29 m, told to stand; given fields replace these."""
    values: dict[str, Tensor] = {f.name: torch.zeros(n) for f in fields(State)}
    for name, width in (("base_position_w", 3), ("base_linear_velocity_w", 3), ("base_linear_velocity_b", 3),
                        ("base_angular_velocity_b", 3), ("joint_velocity", 12), ("joint_acceleration", 12),
                        ("joint_torque", 12), ("joint_power", 12), ("joint_target", 12), ("action", 12),
                        ("previous_action", 12), ("command", 3), ("foot_contact_force", 4), ("foot_shear_force", 4),
                        ("foot_air_time", 4),
                        ("foot_contact_time", 4), ("foot_height", 4)):  # fmt: skip
        values[name] = torch.zeros(n, width)
    values |= {
        "base_quaternion_w": torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(n, 1),
        "gravity_b": torch.tensor([[0.0, 0.0, -1.0]]).repeat(n, 1),
        "base_height": torch.full((n,), 0.29),
        "joint_position": HOME.repeat(n, 1),
        "joint_home": HOME,
        "joint_lower": torch.full((12,), -3.0),
        "joint_upper": torch.full((12,), 3.0),
        "foot_contact": torch.ones(n, 4, dtype=torch.bool),
        "foot_touchdown": torch.zeros(n, 4, dtype=torch.bool),
        "foot_position_b": torch.zeros(n, 4, 3),
        "foot_velocity_w": torch.zeros(n, 4, 3),
        "illegal_contact": torch.zeros(n, dtype=torch.bool),
        "terminated": torch.zeros(n, dtype=torch.bool),
    }
    for name, value in given.items():
        values[name] = torch.as_tensor(value).expand_as(values[name]).clone()
    return State(**values)
