"""Rewards as files: `def reward(s: State) -> dict[str, Tensor]`, weighted components whose sum is the reward."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from configs.errors import UserError
from envs.state import State
from envs.tasks.task import Task

Reward = Callable[[State], dict[str, Tensor]]


def path_of(choice: str, task: Task) -> Path:
    """The file that `human`, `sparse` or a path stands for. Raises UserError where there is none."""
    named = {"human": task.human_reward, "sparse": task.sparse_reward}
    path = Path(__file__).parent / named[choice] if choice in named else Path(choice)
    if not path.is_file():
        raise UserError(f"reward {choice!r} is no file; valid: human, sparse or the path of a Python file")
    return path


def load(path: Path) -> Reward:
    """The `reward` function of a file, which is executed: only for code that its user trusts."""
    module_spec = importlib.util.spec_from_file_location(f"gantry_reward_{path.stem}", path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"reward {path}: {type(error).__name__}: {error}") from error
    reward = getattr(module, "reward", None)
    if not callable(reward):
        raise UserError(f"reward {path} defines no function `reward(s)`")
    return reward  # type: ignore[no-any-return]
