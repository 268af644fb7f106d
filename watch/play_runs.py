"""The runs that can be played: read, checked, and those of the same robot found beside them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agents import run_folder
from agents.checkpoint import CHECKPOINT, LoadedPolicy, load_policy
from configs.errors import UserError
from envs import rewards, tasks
from envs.rewards import Reward
from watch import evaluation, files
from watch.run_reader import find_runs
from watch.values import text, visible

MAX_RUNS = 200
"""Of a folder, newest first, in the list to choose from."""


def load(run: Path) -> LoadedPolicy:
    """The policy of a run folder.

    Raises:
        UserError: the folder is no run, or the run is broken; its message names the folder and the reason.
    """
    try:
        return load_policy(run)
    except UserError as error:
        if str(run) in str(error):
            raise
        raise UserError(f"run {str(run)!r} cannot be played: {error}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"run {str(run)!r} cannot be played: {reason}") from error


@dataclass(frozen=True)
class Choice:
    """A run in the list: the name to show, unique there and fit to be shown, and the folder."""

    label: str
    run: Path


def name_of(run: Path) -> str:
    """The run's folder name, fit to be shown."""
    return text(run.resolve().name, 80) or "run"


def choices(run: Path, robot: str) -> list[Choice]:
    """Runs of the same robot in the folder that holds `run` (RUNS/TASK/NAME), newest first within their task."""
    found: list[Choice] = []
    labels: set[str] = set()
    for path in find_runs(run.resolve().parent.parent):
        if len(found) == MAX_RUNS:
            break
        if not (path / CHECKPOINT).is_file() or _robot(path) != robot:
            continue
        label = f"{visible(path.parent.name)}/{name_of(path)}{_fitness(path)}"[:120]
        while label in labels:
            label += "'"
        labels.add(label)
        found.append(Choice(label, path))
    return found


def _robot(run: Path) -> str | None:
    try:
        return tasks.get(run_folder.read_config(run)["task"]).robot
    except (UserError, TypeError, AttributeError, UnicodeError):
        return None


def _fitness(run: Path) -> str:
    try:
        best = evaluation.parse(files.read_json(run, "evaluation.json")).main
    except files.Unreadable:
        return ""
    return f" ({best.fitness.mean:.2f})" if best and best.fitness else ""


def stamp(run: Path) -> tuple[int, int] | None:
    """Changes when the run saves another checkpoint; None while there is none."""
    try:
        info = (run / CHECKPOINT).stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size


@cache
def _own_rewards() -> frozenset[str]:
    folder = Path(rewards.__file__).parent
    return frozenset(_digest(path) for path in folder.glob("*.py"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reward_of(run: Path, trusted: bool) -> tuple[Reward | None, str]:
    """The run's reward, and why there is none: its code runs only if it is the project's own or said to be trusted.

    A run may come from elsewhere, and its reward.py is a program.
    """
    try:
        path = files.regular(run, "reward.py")
        if not trusted and _digest(path) not in _own_rewards():
            return None, "The run brings a reward of its own; --trust-reward runs its code and shows it."
        return rewards.load(path), ""
    except files.Unreadable as error:
        return None, f"reward.py {error}."
    except (UserError, OSError) as error:
        return None, text(str(error)) or "reward.py cannot be used."
