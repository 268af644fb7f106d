"""What a candidate's policy is worth, measured outside its process: fitness, and how it fails.

Only the policy's weights come from where untrusted code ran. Fitness is the task's; the reward plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.checkpoint import LoadedPolicy
from agents.evaluate import Episodes, run_episodes, summarize
from configs.errors import UserError
from envs import physics
from envs.environment import Environment

QUARTERS = 4


class _Watch:
    """A policy that notes, as it acts, how its actions change and how fitness develops over the episode."""

    def __init__(self, loaded: LoadedPolicy, environment: Environment) -> None:
        self._loaded, self._environment = loaded, environment
        self._before: Tensor | None = None
        self._step = 0
        self._change, self._count = 0.0, 0
        self.fitness = torch.zeros(QUARTERS)
        self._quarter_steps = [0] * QUARTERS

    def __call__(self, observation: Tensor) -> Tensor:
        action = self._loaded.act(observation)
        environment = self._environment
        # Rows that ended hold a new episode, whose clock is behind.
        first = torch.from_numpy(np.asarray(environment.episodes.step) == self._step)
        if self._before is not None and bool(first.any()):
            self._change += float((action - self._before)[first].abs().mean())
            self._count += 1
            quarter = min(QUARTERS - 1, QUARTERS * self._step // environment.episodes.max_steps)
            rate = environment.task.fitness_rate(environment.state)
            self.fitness[quarter] += float((rate * first).mean())
            self._quarter_steps[quarter] += 1
        self._before, self._step = action, self._step + 1
        return action

    @property
    def action_change(self) -> float:
        """Mean change of each action from step to step, of a range of 2."""
        return self._change / max(1, self._count)

    @property
    def fitness_by_quarter(self) -> list[float]:
        return [float(f) / max(1, n) for f, n in zip(self.fitness, self._quarter_steps, strict=True)]


def measure(
    loaded: LoadedPolicy, physics_set: str, *, episodes: int, seeds: Sequence[int], threads: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A policy's figures on one physics set, `episodes` episodes for each seed.

    Returns:
        What `agents.evaluate.evaluate` reports of a set, with the ``seeds``' own fitness means besides, and how
        it fails: ``fall_rate``, ``falls_by_quarter`` (share of episodes that end by a fall in each quarter of the
        episode), ``fitness_by_quarter``, ``action_change``, ``control_dt_s``.

    Raises:
        UserError: weights that are not finite, or every simulation diverged.
    """
    torch.set_num_threads(1)
    for name, weight in loaded.policy.state_dict().items():
        if not torch.isfinite(weight).all():
            raise UserError(f"the policy's {name} is not finite; the training diverged")
    batches: list[Episodes] = []
    watches: list[_Watch] = []
    mass_kg = 0.0
    for seed in seeds:
        environment = physics.build(loaded.task, physics_set, episodes, seed, num_threads=threads)
        mass_kg = float(environment.sim.model.body_mass.sum())
        watch = _Watch(loaded, environment)
        batches.append(run_episodes(watch, environment))
        watches.append(watch)
    report = summarize(loaded.task, batches, mass_kg)
    report["fitness_of_seeds"] = [float(b.fitness[~b.diverged].mean()) for b in batches]
    length_s = environment.episodes.max_steps * environment.dt
    fallen = np.concatenate([b.fallen & ~b.diverged for b in batches])
    when = np.concatenate([b.length_s for b in batches])
    quarter = np.clip((QUARTERS * when / length_s).astype(int), 0, QUARTERS - 1)
    failure = {
        "fall_rate": float(fallen.mean()),
        "falls_by_quarter": [float((fallen & (quarter == q)).mean()) for q in range(QUARTERS)],
        "fitness_by_quarter": [float(x) for x in np.mean([w.fitness_by_quarter for w in watches], axis=0)],
        "action_change": float(np.mean([w.action_change for w in watches])),
        "control_dt_s": environment.dt,
    }
    return report, failure
