"""Small real runs to play, and a gait that needs no training."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from watch.play_robot import PlayedRobot

SMALL = ("ppo.num_envs=4", "ppo.n_steps=8", "ppo.actor_hidden=[16,16]", "ppo.critic_hidden=[16,16]",
         "env_steps=32", "threads=1", "evaluate=false", "video=false")  # fmt: skip


def train_small(runs: Path, task: str) -> Path:
    """A real run folder whose policy has learned nothing yet."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from agents import train

    with initialize_config_module("configs", version_base="1.3"):
        config = compose("train", [f"task={task}", *SMALL, f"runs={runs}"])
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return train.train(resolved)  # type: ignore[arg-type]


class Trot:
    """An open-loop trot that follows the forward command, in place of a trained policy: the physics is real.

    Diagonal legs swing together at 2.5 Hz; at full command a Go2 walks about 0.3 m/s.
    """

    def __init__(self, robot: PlayedRobot) -> None:
        self._robot, self._time_s, self._size = robot, 0.0, 0.0

    def act(self, observation: torch.Tensor) -> torch.Tensor:
        self._time_s += self._robot.dt
        action = torch.zeros(len(observation), self._robot.environment.num_actions)
        wanted = float(self._robot.environment.episodes.command[0, 0]) > 0.1
        self._size = min(1.0, self._size + 0.04) if wanted else 0.0
        if wanted:
            for leg, phase in enumerate((0.0, math.pi, math.pi, 0.0)):
                turn = 2 * math.pi * 2.5 * self._time_s + phase
                lift = 0.4 * self._size * max(0.0, math.sin(turn))
                action[:, 3 * leg + 1] = 0.35 * self._size * math.cos(turn) + 0.5 * lift - 0.15 * self._size
                action[:, 3 * leg + 2] = 0.3 * self._size - lift
        return action


def trot(robot: PlayedRobot) -> PlayedRobot:
    robot.policy = SimpleNamespace(act=Trot(robot).act, task=robot.policy.task, robot=robot.policy.robot)  # type: ignore[assignment]
    return robot
