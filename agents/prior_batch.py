"""Many physics at once: every (parameter, value, episode) is a simulation of one batch, with physics of its own.

The simulations of one value run the same episodes (starts, commands, directions of pushes) as those of any other, so
values are compared on equal terms, and a value's figures do not depend on which others are in the batch. What has
fallen, or whose success is decided, stands still, and its time goes to the others: fitness only grows, so an episode
that has reached the threshold is a success whatever comes, and one that cannot reach it any more is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from agents.evaluate import Act
from envs import draws
from envs.environment import Environment, Step
from envs.physics import no_reward
from envs.randomization import TERMS, validate
from envs.scene import Collision
from envs.tasks.task import Task

PUSH_EVERY_S, GRAVITY_EVERY_S = 2.0, 2.0
"""While testing, pushes come this often, and changed gravity alternates with the usual one this often."""
ROUNDING = 1e-4
"""Sums of shares round; an episode counts as lost only when it is that far from possible."""


@dataclass(frozen=True)
class Point:
    """One physics: a parameter set to a value while all others stay nominal. No term: all of them do."""

    term: str
    value: float


@dataclass(frozen=True)
class Trial:
    """How episodes are run."""

    task: Task
    """With the length of the trial's episodes."""
    episodes: int
    """Of each point."""
    seed: int
    threshold: float | None = None
    """Fitness that makes an episode a success, at which it may end; None: episodes run to their end."""
    threads: int = 0
    collision: Collision = "full"

    @staticmethod
    def of(task: Task, seconds: float, **options: Any) -> Trial:
        """Episodes of at most `seconds` [s] of a task; shorter ones stay as they are."""
        return Trial(replace(task, episode_length_s=min(seconds, task.episode_length_s)), **options)


@dataclass(frozen=True)
class PointResult:
    """A point's episodes, (episodes,) each."""

    fitness: np.ndarray
    """When it ended, or was decided."""
    fallen: np.ndarray
    diverged: np.ndarray
    """Before it was decided."""
    length_s: np.ndarray
    env_steps: int
    """Simulated, over all of them."""

    def successes(self, threshold: float) -> int:
        """Episodes whose fitness reaches the threshold; physics that broke down is no success."""
        return int(((self.fitness >= threshold) & ~self.diverged).sum())


class _Episodes:
    """Every simulation's first episode: what it is worth so far, and which still go on."""

    def __init__(self, environment: Environment, threshold: float | None) -> None:
        n = environment.num_envs
        self._environment, self._threshold = environment, threshold
        self.fitness, self.left, self.steps = torch.zeros(n), torch.ones(n), torch.zeros(n)
        self.fallen, self.diverged = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
        self.going = torch.ones(n, dtype=torch.bool)
        environment.sim.active = self.going.numpy()

    def measure(self) -> None:
        """What the step that was just made adds, as in `agents.evaluate.run_episodes`."""
        s, task = self._environment.state, self._environment.task
        whole = self._environment.episodes.max_steps
        share = self.going / whole if task.fitness_share is None else task.fitness_share(s) * self.going
        self.fitness += task.fitness_rate(s) * share * ~s.terminated
        self.left -= share
        self.steps += self.going

    def end(self, step: Step, last: bool) -> None:
        """Takes out what has ended or is decided. last: the time limit of all has come."""
        self.fallen |= self.going & step.terminated
        if not last:
            self.diverged |= self.going & step.truncated  # no time limit yet: the simulation diverged
        self.going &= ~(step.terminated | step.truncated)
        if self._threshold is not None:
            possible = self.fitness + self.left.clamp(min=0.0) >= self._threshold - ROUNDING
            self.going &= possible & (self.fitness < self._threshold)


def run_points(
    act: Act, points: Sequence[Point], trial: Trial, on_step: Callable[[Step], None] | None = None
) -> list[PointResult]:
    """Runs every point's episodes, all in one batch.

    Args:
        act: the policy, observation (N, ...) to action (N, A), for N = points times episodes, the episodes of a point
            side by side.
        points: what is tried.
        trial: how.
        on_step: called with each step, such as to show progress.

    Raises:
        UserError: a value lies outside its term's bounds.
    """
    torch.set_num_threads(1)
    environment = _environment(points, trial)
    changes = _Changes(environment, points, trial)
    episodes = _Episodes(environment, trial.threshold)
    environment.on_measured = episodes.measure
    with torch.no_grad():
        observation, _ = environment.reset()
        for index in range(environment.episodes.max_steps):
            changes()
            step = environment.step(act(observation))
            observation = step.observation
            episodes.end(step, last=index == environment.episodes.max_steps - 1)
            if on_step is not None:
                on_step(step)
            if not episodes.going.any():
                break
    length_s = (episodes.steps * environment.dt).numpy()
    steps = episodes.steps.numpy()
    columns = (episodes.fitness.numpy(), episodes.fallen.numpy(), episodes.diverged.numpy(), length_s, steps)
    parts = zip(*(np.split(column, len(points)) for column in columns), strict=True)
    return [PointResult(f, fell, diverged, length, int(taken.sum())) for f, fell, diverged, length, taken in parts]


def _environment(points: Sequence[Point], trial: Trial) -> Environment:
    """Nominal physics but for each point's own parameter."""
    rows = np.repeat(np.arange(len(points)), trial.episodes)
    for point in points:
        if point.term:
            validate({point.term: (point.value, point.value)})
    names = list(dict.fromkeys(p.term for p in points if p.term))
    at_reset = [name for name in names if TERMS[name].when == "reset"]
    environment = Environment(
        trial.task, len(rows), reward=no_reward, seed=trial.seed, collision=trial.collision,
        randomization={name: (TERMS[name].neutral,) * 2 for name in at_reset}, num_threads=trial.threads,
    )  # fmt: skip
    environment.episodes.identity[:] = np.tile(np.arange(trial.episodes), len(points))
    for name in names:
        values = np.array([p.value if p.term == name else np.nan for p in points])[rows]
        if TERMS[name].when == "reset":
            environment.randomizer.fix(name, values)
        elif TERMS[name].when == "step":
            environment.sensing.fix_noise(name.removesuffix("_noise"), np.nan_to_num(values))
    return environment


class _Changes:
    """What happens to simulations while they run: pushes, and gravity that comes and goes."""

    def __init__(self, environment: Environment, points: Sequence[Point], trial: Trial) -> None:
        rows = np.repeat(np.arange(len(points)), trial.episodes)
        value = np.array([p.value for p in points])[rows]
        term = np.array([p.term for p in points])[rows]
        self._environment, self._step = environment, 0
        dofs = {"push_velocity": 0, "ball_push_velocity": environment.sim.ball_dofs}
        self._pushes = [
            (rows, dof, value[rows], environment.episodes.identity[rows])
            for name, dof in dofs.items()
            if dof is not None and len(rows := np.flatnonzero(term == name))
        ]
        self._pulled = np.flatnonzero(term == "gravity")
        self._extra = value[self._pulled]
        self._key = draws.stream(trial.seed, "prior pushes")
        self._push_steps = max(1, round(PUSH_EVERY_S / environment.dt))
        self._gravity_steps = max(1, round(GRAVITY_EVERY_S / environment.dt))

    def __call__(self) -> None:
        """Before each step."""
        step, sim = self._step, self._environment.sim
        for pushed, dof, speed, identity in self._pushes if step and step % self._push_steps == 0 else ():
            count = np.full(len(identity), step // self._push_steps)
            angle = 2 * np.pi * draws.uniform(self._key, identity, count)[:, 0]
            sim.qvel[pushed, dof] += speed * np.cos(angle)
            sim.qvel[pushed, dof + 1] += speed * np.sin(angle)
        if len(self._pulled) and step and step % self._gravity_steps == 0:
            usual = float(sim.model.opt.gravity[2])
            changed = (step // self._gravity_steps) % 2 == 0
            gravity = self._environment.randomizer.fields["gravity"]
            gravity[self._pulled, 2] = usual - self._extra if changed else usual
        self._step += 1
