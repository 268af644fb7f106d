"""States to try reward code on: recorded from the task itself, with random actions of every size."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from agents import run_folder
from envs.environment import Environment
from envs.physics import no_reward
from envs.state import State
from envs.tasks.task import Task

CONSTANTS = ("joint_home", "joint_lower", "joint_upper")
"""Fields that belong to the robot and have no batch dimension."""
_SIMULATIONS, _STEPS, _EVERY = 32, 120, 8


def record(path: Path, task: Task, seed: int = 0) -> Path:
    """Saves recorded states as a dict of tensors, (M, ...) each, unless the file is there.

    The first eighth of the simulations does nothing, the others act smoothly at random, from gently to wildly, so
    that rest, motion and failures are among the states.
    """
    if not path.is_file():
        buffer = io.BytesIO()
        torch.save(_record(task, seed), buffer)
        run_folder.write_atomically(path, buffer.getvalue())
    return path


@torch.no_grad()
def _record(task: Task, seed: int) -> dict[str, Tensor]:
    environment = Environment(task, _SIMULATIONS, reward=no_reward, seed=seed, num_threads=1)
    generator = torch.Generator().manual_seed(seed)
    size = torch.linspace(0.0, 1.0, _SIMULATIONS)[:, None]
    size[: _SIMULATIONS // 8] = 0.0
    action = torch.zeros(_SIMULATIONS, environment.num_actions)
    names = [field.name for field in fields(State)]
    kept: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep() -> None:
        for name in names:
            kept[name].append(getattr(environment.state, name).clone())

    environment.reset()
    for step in range(_STEPS):
        noise = torch.randn(action.shape, generator=generator)
        action = (0.8 * action + 0.6 * size * noise).clamp(-1.0, 1.0)
        # Once measured, before any episode restarts: failures are to be seen as such.
        environment.on_measured = keep if step % _EVERY == 0 else None
        environment.step(action)
    return {name: kept[name][0] if name in CONSTANTS else torch.cat(values) for name, values in kept.items()}
