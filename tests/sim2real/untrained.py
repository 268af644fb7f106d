"""Policies for tests that need one but not a good one: random weights, with an output gain that moves joints."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces

from agents.networks import ActorCritic, make_mirrors
from envs import robots, tasks
from envs.environment import Environment
from envs.observations import Observation
from envs.robots.spec import RobotSpec
from envs.tasks.task import Task
from sim2real.bundle import Bundle
from sim2real.export import export


@dataclass(frozen=True)
class Untrained:
    """What `agents.checkpoint.load_policy` returns, without a checkpoint."""

    task: Task
    robot: RobotSpec
    observation: Observation
    policy: ActorCritic
    run: Path
    config: dict[str, Any] = field(default_factory=dict)


def untrained(task_name: str, run: Path, gain: float = 0.3, hidden: tuple[int, ...] = (128, 128)) -> Untrained:
    """A policy of the shape that training makes, whose normalizer has seen some observations."""
    task = tasks.get(task_name)
    robot = robots.get(task.robot)
    env = Environment(task, 8, reward=lambda s: {"none": torch.zeros(8)}, num_threads=1)
    torch.manual_seed(0)
    mirrors = make_mirrors(env.observation, robot)
    policy = ActorCritic(
        spaces.Box(-float("inf"), float("inf"), (env.observation.size,)),
        spaces.Box(-1.0, 1.0, (env.num_actions,)),
        lambda _: 1e-3,
        critic_size=env.critic_size,
        actor_hidden=hidden,
        mirrors=mirrors,
    )
    observation, _ = env.reset()
    seen = []
    with torch.no_grad():
        for _ in range(20):
            seen.append(observation.clone())
            observation = env.step(torch.rand(8, env.num_actions) * 2 - 1).observation
        policy.normalizer.update(torch.cat(seen), mirrors.observation if mirrors else None)
        policy.actor.head.weight *= gain / 0.01  # training starts with a gain of 0.01
    policy.eval()
    return Untrained(task, robot, env.observation, policy, run)


@functools.cache
def exported(task_name: str) -> Bundle:
    """The bundle of such a policy; made once for all test files, so copy it before changing it."""
    folder = Path(tempfile.mkdtemp(prefix="gantry-test-bundle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return export(untrained(task_name, folder / "run"), num_sims=2)
