"""Sparse reward of the dash: 1 while the robot goes straight at about the commanded velocity, else nothing."""

from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    velocity_error = (s.command[:, :2] - s.base_linear_velocity_b[:, :2]).norm(dim=1)
    yaw_rate_error = (s.command[:, 2] - s.base_angular_velocity_b[:, 2]).abs()
    return {"on_pace": ((velocity_error < 0.3) & (yaw_rate_error < 0.5)).float()}
