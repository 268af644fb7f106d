"""What a bundle must show before it is written: the torch policy and the exported one on the same readings.

On recorded, noisy readings of a randomized simulation they are compared tick by tick, each side carrying its own
memory; in fitness over separately simulated episodes, because tiny differences grow in a closed loop and only
what they amount to counts there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.environment import Environment
from envs.physics import build
from envs.state import State
from envs.tasks.task import Task
from sim2real.deployed_policy import DeployedPolicy, LoadedPolicy
from sim2real.policy import Policy


@dataclass(frozen=True)
class Recording:
    """T consecutive ticks of one randomized simulation under the torch policy."""

    readings: dict[str, np.ndarray]
    """(T, size) float32 each, with sensor noise and biases."""
    joint_target: np.ndarray
    """(T, A) what the environment computed; NaN at the last tick of an episode."""
    fresh: np.ndarray
    """(T,) bool: the first tick of an episode."""


def record(loaded: LoadedPolicy, ticks: int, seed: int) -> Recording:
    """Drive the task's randomized simulation with the torch policy and keep what it was given."""
    env = environment(loaded, 1, seed)
    names = loaded.observation.readings
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    targets, fresh, starts = [], [], True
    observation, _ = env.reset()
    with torch.no_grad():
        for _ in range(ticks):
            for name, value in _readings(env).items():
                if name in rows:
                    rows[name].append(value[0].numpy().copy())
            step = env.step(loaded.policy.mean_action(observation))
            fresh.append(starts)
            starts = len(step.ended) > 0
            targets.append(np.full(env.num_actions, np.nan) if starts else env.state.joint_target[0].numpy().copy())
            observation = step.observation
    return Recording({n: np.stack(r) for n, r in rows.items()}, np.stack(targets), np.array(fresh))


def parity(module: DeployedPolicy, policy: Policy, recording: Recording) -> tuple[float, float]:
    """Largest differences [rad] of onnxruntime's targets, over all ticks of a recording.

    From the torch module, both running through without a restart; and from the targets that the training
    environment computed, with the memory cleared where an episode began.  Infinite where one is not finite.
    """
    ticks = len(recording.fresh)
    names = list(module.reading_names)
    memory, through = module.first_memory(), []
    policy.reset()
    with torch.no_grad():
        for t in range(ticks):
            row = {name: recording.readings[name][t] for name in names}
            target, *memory = module(*(torch.from_numpy(row[name])[None] for name in names), *memory)
            through.append(np.abs(policy(row) - target[0].numpy()))
    policy.reset()
    restarted = []
    for t in range(ticks):
        if recording.fresh[t]:
            policy.reset()
        target32 = policy({name: recording.readings[name][t] for name in names})
        if not np.isnan(recording.joint_target[t]).any():
            restarted.append(np.abs(target32 - recording.joint_target[t]))
    return _largest(through), _largest(restarted)


@dataclass(frozen=True)
class Rollouts:
    """One episode in each of N simulations."""

    fitness: np.ndarray
    """(N,) in 0..1; what is cut off by a failure counts 0."""
    target_rate: np.ndarray
    """(A,) [rad/s] fastest change of each target from one tick to the next."""


def rollouts(loaded: LoadedPolicy, num_sims: int, seed: int, policies: Sequence[Policy] | None = None) -> Rollouts:
    """Episodes on the task's randomized physics, driven by torch, or by `policies`, one a simulation."""
    env = environment(loaded, num_sims, seed)
    robot, rate = loaded.robot, np.zeros(loaded.robot.num_actions)
    home = torch.tensor(robot.home_target, dtype=torch.float32)
    scale = torch.tensor(robot.action_scale, dtype=torch.float32)
    alive, total = torch.ones(num_sims), torch.zeros(num_sims)
    before: Tensor | None = None
    score = _Score(env.task)
    env.reward = score
    observation, _ = env.reset()
    with torch.no_grad():
        for _ in range(env.episodes.max_steps):
            if policies:
                rows = {name: value.numpy() for name, value in _readings(env).items()}
                target = torch.from_numpy(
                    np.stack([p({n: r[i] for n, r in rows.items()}) for i, p in enumerate(policies)])
                )
                action = (target - home) / scale  # what the environment turns into the same target
            else:
                action = loaded.policy.mean_action(observation)
                target = home + scale * action.clamp(-1.0, 1.0)
            if before is not None:
                moved = ((target - before).abs() * alive[:, None]).max(0).values.numpy()
                rate = np.maximum(rate, moved / robot.control_dt_s)
            before = target
            step = env.step(action)
            alive = alive * (~score.terminated).float()
            total += score.rate * alive
            alive[step.ended] = 0.0
            if not alive.any():
                break
            observation = step.observation
    return Rollouts((total / env.episodes.max_steps).numpy(), rate)


class _Score:
    """Stands where a reward does, to read the state after the physics and before restarts; rewards nothing."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, s: State) -> dict[str, Tensor]:
        self.rate, self.terminated = self._task.fitness_rate(s), s.terminated
        return {"none": torch.zeros_like(self.rate)}


def environment(loaded: LoadedPolicy, num_sims: int, seed: int) -> Environment:
    """The task's randomized simulations."""
    return build(loaded.task, "randomized", num_sims, seed, num_threads=1)


def _readings(env: Environment) -> dict[str, Tensor]:
    """(N, size) each: what the latest observation was made of, noise included (its draws are keyed)."""
    s, episodes = env.state, env.episodes
    exact = torch.cat([s.joint_position, s.joint_velocity, s.base_angular_velocity_b, s.gravity_b], 1)
    return env.sensing.readings(env.sensing.noisy(exact, episodes.episode, episodes.step), s.command)


def _largest(differences: list[np.ndarray]) -> float:
    largest = float(np.max(differences)) if differences else float("inf")
    return largest if np.isfinite(largest) else float("inf")
