"""Inside the confined child: train a policy with reward code that a model wrote, up to a number of steps.

The child writes into its working folder (`train/` of the run folder) only: `checkpoint.pt`, from which it
continues, `progress.jsonl`, `components.jsonl` and, when it is through, `policy.pt`. Whatever it leaves or
returns was made where untrusted code ran: it serves as feedback, never as a measure of success.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents import run_folder
from agents.fine_tuning import start_from
from agents.reward_code import check, load
from agents.training import Training
from envs import randomization, rewards, tasks
from envs.rewards import Reward
from envs.state import State, field_docs

COMPONENTS, POLICY = "components.jsonl", "policy.pt"
COURSE_POINTS = 10
_EDGE = 0.01
"""A component counts as saturated where it is within this share of its range of its end."""
_EVERY = 4
"""Calls of the reward between two looks at its components."""


class ReachedTarget(Exception):
    """The training has come as far as this stage goes."""


class Watched:
    """A reward that keeps the statistics of its components between two calls of `take`."""

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self._calls = 0
        self._seen: list[dict[str, Tensor]] = []

    def __call__(self, s: State) -> dict[str, Tensor]:
        components = self._reward(s)
        self._calls += 1
        if self._calls % _EVERY == 0:
            self._seen.append({name: value.clone() for name, value in components.items()})
        return components

    def take(self) -> dict[str, dict[str, float]]:
        """Mean, standard deviation, range and the shares at its ends of each component since the last call."""
        names = list(dict.fromkeys(name for seen in self._seen for name in seen))
        result = {name: _spread(torch.cat([s[name] for s in self._seen if name in s])) for name in names}
        self._seen, self._calls = [], 0
        return result


def _spread(values: Tensor) -> dict[str, float]:
    low, high = float(values.min()), float(values.max())
    edge = _EDGE * (high - low)
    return {
        "mean": float(values.mean()), "std": float(values.std(correction=0)), "low": low, "high": high,
        "at_low": float((values <= low + edge).float().mean()),
        "at_high": float((values >= high - edge).float().mean()),
    }  # fmt: skip


class _Course:
    """Stands in for the progress display: writes components.jsonl and ends the training at its target."""

    def __init__(self, path: Path, watched: Watched, target: int, iteration: int) -> None:
        self._watched, self._target = watched, target
        lines = _whole_lines(path.read_text().splitlines()) if path.is_file() else []
        self.entries = [line for line in lines if line["iteration"] <= iteration]
        run_folder.write_atomically(path, "".join(json.dumps(line) + "\n" for line in self.entries))
        self._file = path.open("a", encoding="utf-8")

    def update(self, entry: dict[str, Any]) -> None:
        keys = ("iteration", "env_steps", "reward", "fitness", "falls_per_minute", "measures", "curriculum")
        line = {**{key: entry[key] for key in keys}, "components": self._watched.take()}
        self.entries.append(line)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if entry["env_steps"] >= self._target:
            raise ReachedTarget


def _whole_lines(lines: list[str]) -> list[dict[str, Any]]:
    """The entries of a log up to the one that a kill cut short."""
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def train_job(argument: Mapping[str, Any]) -> dict[str, Any]:
    """For `run_confined`: train until `target` environment steps, continuing from a checkpoint in the folder.

    Args:
        argument: ``source`` (reward code, checked here again), ``config`` (of the full training), ``ranges``,
            ``target`` [env steps]; optional ``initial``: the checkpoint of another run, from whose policy the
            training starts instead of from scratch.

    Returns:
        ``env_steps``, ``seconds`` [s] of training so far, ``diverged`` simulations, ``course``: up to
        `COURSE_POINTS` entries of components.jsonl, evenly spread.

    Raises:
        RewardCodeError, UserError: the reward fails, is not finite or has the wrong shape.
    """
    folder = Path.cwd()
    config = dict(argument["config"])
    task = tasks.get(config["task"])
    watched = Watched(load(check(argument["source"], field_docs())))
    ranges = randomization.validate(argument["ranges"])
    # The learner is built with a reward of ours; the environment then gets the checked one, never a file to run.
    training = Training(config, folder, rewards.path_of("sparse", task), ranges)
    training.environment.reward = watched
    if argument.get("initial"):
        start_from(training.ppo, Path(argument["initial"]))
    training.resume()
    course = _Course(folder / COMPONENTS, watched, argument["target"], training.iteration)
    if training.ppo.num_timesteps < argument["target"]:
        try:
            training.learn(course)  # type: ignore[arg-type]
        except ReachedTarget:
            training.save()
    buffer = io.BytesIO()
    torch.save(dict(training.ppo.policy.state_dict()), buffer)
    run_folder.write_atomically(folder / POLICY, buffer.getvalue())
    print(f"{training.ppo.num_timesteps} steps", file=sys.stderr)
    return {
        "env_steps": int(training.ppo.num_timesteps),
        "seconds": round(training.seconds, 3),
        "diverged": int(training.environment.diverged_count),
        "course": thinned(course.entries),
    }


def thinned(entries: list[Any]) -> list[Any]:
    """At most `COURSE_POINTS` of them, evenly spread, the last always among them."""
    if len(entries) <= COURSE_POINTS:
        return list(entries)
    last = len(entries) - 1
    return [entries[round(i * last / (COURSE_POINTS - 1))] for i in range(COURSE_POINTS)]
