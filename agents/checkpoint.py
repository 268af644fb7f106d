"""Checkpoints as data: tensors and JSON, read with `weights_only=True`. Nothing in a run folder is unpickled."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import run_folder
from agents.networks import ActorCritic, make_mirrors
from agents.ppo import TensorPPO
from configs.errors import UserError
from envs import robots, tasks
from envs.observations import Observation
from envs.robots.spec import RobotSpec
from envs.sensing import critic_size
from envs.tasks.task import Task
from envs.vec_env import action_space, observation_space

CHECKPOINT = "checkpoint.pt"
_CONTENT = {"policy", "optimizer", "environment", "learner", "torch_random", "extra"}


def save(path: Path, ppo: TensorPPO, extra: dict[str, Any]) -> None:
    """Everything that the training's future depends on, written so that a kill leaves the old file or the new."""
    environment = ppo.environment
    content = {
        "format": run_folder.FORMAT,
        "policy": ppo.policy.state_dict(),
        "optimizer": ppo.policy.optimizer.state_dict(),
        "environment": _tensors(environment.snapshot()),
        "learner": ppo.snapshot(),
        "torch_random": torch.get_rng_state(),
        "extra": json.dumps(extra),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    run_folder.write_atomically(path, buffer.getvalue())


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Raises UserError where it is missing, damaged or not plain data."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # compares the checksums, which torch.load does not
        if damaged is not None:
            raise ValueError(f"wrong checksum of {damaged}")
        content = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; the run has saved no checkpoint yet") from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0][:120]
        raise UserError(
            f"checkpoint {path} is damaged or no plain data ({reason}); train again or use a copy"
        ) from error
    if not isinstance(content, dict) or content.get("format") != run_folder.FORMAT:
        raise UserError(f"checkpoint {path} is not of format {run_folder.FORMAT}; it is from another version of Gantry")
    missing = sorted(_CONTENT - content.keys())
    if missing:
        raise UserError(f"checkpoint {path} lacks {', '.join(missing)}; train again or use a copy")
    return content


def restore(path: Path, ppo: TensorPPO) -> dict[str, Any]:
    """Puts a fresh learner and its environment where `save` left them; returns what was saved as extra."""
    content = read(path)
    _load_weights(ppo.policy, content["policy"], path)
    try:
        ppo.policy.optimizer.load_state_dict(content["optimizer"])
        ppo.environment.restore({name: value.numpy() for name, value in content["environment"].items()})
        ppo.restore(content["learner"])
        torch.set_rng_state(content["torch_random"])
        extra: dict[str, Any] = json.loads(content["extra"])
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise _misfit(path, error) from error
    return extra


@dataclass(frozen=True)
class LoadedPolicy:
    """A trained policy with what it needs to act."""

    run: Path
    config: dict[str, Any]
    task: Task
    robot: RobotSpec
    observation: Observation
    policy: ActorCritic

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """(N, A) action without exploration, for observations (N, observation size)."""
        return self.policy.mean_action(observation)


def load_policy(run: Path) -> LoadedPolicy:
    """The policy of a run folder. Raises UserError where the run is incomplete or damaged."""
    run_folder.require(run, "config.yaml", CHECKPOINT)
    config = run_folder.read_config(run)
    task = tasks.get(config["task"])
    robot = robots.get(task.robot)
    observation, ball = Observation(robot, task.observation, task.history), task.ball is not None
    try:
        ppo = config["ppo"]
        networks = {name: ppo[name] for name in ("actor_hidden", "critic_hidden")}
        symmetric = ppo["symmetry"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{run / 'config.yaml'} holds no configuration of a run: {error} is missing") from error
    policy = ActorCritic(
        observation_space(observation.size), action_space(robot.num_actions), lambda _: 0.0,
        critic_size=critic_size(observation, robot, ball),
        mirrors=make_mirrors(observation, robot, ball) if symmetric else None, **networks,
    )  # fmt: skip
    _load_weights(policy, read(run / CHECKPOINT)["policy"], run / CHECKPOINT)
    policy.set_training_mode(False)
    return LoadedPolicy(run, config, task, robot, observation, policy)


def _load_weights(policy: ActorCritic, weights: dict[str, Tensor], path: Path) -> None:
    try:
        policy.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise _misfit(path, error) from error


def _misfit(path: Path, error: Exception) -> UserError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(f"checkpoint {path} does not fit the run's configuration: {reason}")


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
