"""The Stable-Baselines3 and Gymnasium faces of Environment."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from envs import rewards, tasks
from envs.environment import Environment


def make_environment(
    task: str, num_envs: int = 1, *, reward: str = "human", seed: int = 0, **options: Any
) -> Environment:
    """An Environment by names: a task, and `human`, `sparse` or a file for its reward. Options as Environment's."""
    found = tasks.get(task)
    return Environment(found, num_envs, reward=rewards.load(rewards.path_of(reward, found)), seed=seed, **options)


def observation_space(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def action_space(size: int) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (size,), np.float32)


def _spaces(env: Environment) -> tuple[spaces.Box, spaces.Box]:
    return observation_space(env.observation.size), action_space(env.num_actions)


class SB3VecEnv(VecEnv):
    """The batch as a Stable-Baselines3 VecEnv. TensorPPO steps `environment` itself and skips the copies here."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.render_mode: str | None = None
        super().__init__(environment.num_envs, *_spaces(environment))
        self._action = torch.zeros(environment.num_envs, environment.num_actions)

    def reset(self) -> np.ndarray:
        return self.environment.reset()[0].numpy().copy()

    def step_async(self, actions: np.ndarray) -> None:
        self._action = torch.as_tensor(actions, dtype=torch.float32)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:  # type: ignore[override]
        step = self.environment.step(self._action)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row, i in enumerate(step.ended.tolist()):
            infos[i] = {
                "terminal_observation": step.final_observation[row].numpy(),
                "TimeLimit.truncated": bool(step.truncated[i]),
            }
        done = (step.terminated | step.truncated).numpy()
        return step.observation.numpy().copy(), step.reward.numpy(), done, infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("the simulations are one object; call methods of `environment`")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(self._indices(indices))

    def _indices(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else [indices] if isinstance(indices, int) else indices


class GantryEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One simulation as a Gymnasium environment: a batch of one, without the automatic restart."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(self, task: str, render_mode: str | None = None, reward: str = "human", **options: Any) -> None:
        self.render_mode = render_mode
        self._make = lambda seed: make_environment(task, 1, reward=reward, seed=seed, num_threads=1, **options)
        self.environment = self._make(0)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.environment.dt)}
        self.observation_space, self.action_space = _spaces(self.environment)
        self._frames: Any = None
        self._next_start: np.ndarray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.environment = self._make(seed)
            self._frames = None
        elif self._next_start is not None:  # the batch has already begun the next episode
            start, self._next_start = self._next_start, None
            return start, {}
        self._next_start = None
        return self.environment.reset()[0][0].numpy().copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        step = self.environment.step(torch.as_tensor(action, dtype=torch.float32)[None])
        ended = len(step.ended) > 0
        last = step.final_observation if ended else step.observation
        self._next_start = step.observation[0].numpy().copy() if ended else None
        info = {f"reward/{name}": float(value[0]) for name, value in step.components.items()}
        return (
            last[0].numpy().copy(),
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            info,
        )

    def render(self) -> Any:
        if self.render_mode is None:
            return None
        from envs.rendering import Renderer  # GL is loaded only where pictures are wanted

        if self._frames is None:
            self._frames = Renderer(self.environment)
        return self._frames.frame(0)

    def close(self) -> None:
        if self._frames is not None:
            self._frames.close()
            self._frames = None


class GantryVectorEnv(VectorEnv):
    """The batch as a Gymnasium VectorEnv; episodes restart in the step that ends them (SAME_STEP)."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        reward: str = "human",
        render_mode: str | None = None,
        **options: Any,
    ):
        self.render_mode = render_mode
        self._make = lambda seed: make_environment(task, num_envs, reward=reward, seed=seed, **options)
        self.environment = self._make(0)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = _spaces(self.environment)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.environment = self._make(seed if isinstance(seed, int) else seed[0])
        return self.environment.reset()[0].numpy().copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        step = self.environment.step(torch.as_tensor(np.asarray(actions), dtype=torch.float32))
        info: dict[str, Any] = {}
        if len(step.ended):
            final = np.full(self.num_envs, None, dtype=object)
            for row, i in enumerate(step.ended.tolist()):
                final[i] = step.final_observation[row].numpy()
            mask = np.zeros(self.num_envs, dtype=bool)
            mask[step.ended.numpy()] = True
            info = {"final_obs": final, "_final_obs": mask}
        return (step.observation.numpy().copy(), step.reward.numpy(), step.terminated.numpy(),
                step.truncated.numpy(), info)  # fmt: skip
