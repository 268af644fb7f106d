"""Sparse reward of standing on a ball: 1 in each step while the base is higher than the ball, else nothing."""

from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    return {"on_top": (~s.terminated & (s.base_height > 0.9)).float()}
