"""Proximal policy optimization on tensors: Stable-Baselines3's algorithm with a rollout path of its own.

What differs from the parent: observations, actions and rewards stay torch tensors and no Python runs per
simulation; the critic sees more than the actor; inputs are normalized inside the policy by statistics that stand
still from a rollout through its update; rewards are divided by the spread of returns; the learning rate follows
the divergence between old and new policy (Schulman et al. 2017, section 4; Rudin et al. 2022); and batches are
doubled by their left-right mirror images where the robot has that symmetry (Mittal et al. 2024).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.networks import ActorCritic
from envs.environment import Environment
from envs.observations import Mirror
from envs.vec_env import SB3VecEnv


@dataclass
class Rollout:
    """T steps of N simulations."""

    observation: Tensor
    critic_observation: Tensor
    action: Tensor
    mean: Tensor
    log_prob: Tensor
    value: Tensor
    reward: Tensor
    """(T, N) raw; with the value of what a time limit cut off added, in raw units."""
    done: Tensor

    @classmethod
    def empty(cls, steps: int, env: Environment) -> "Rollout":
        n = env.num_envs
        sizes = {"observation": (env.observation.size,), "critic_observation": (env.critic_size,),
                 "action": (env.num_actions,), "mean": (env.num_actions,)}  # fmt: skip
        return cls(**{name: torch.zeros(steps, n, *sizes.get(name, ())) for name in cls.__dataclass_fields__})


def advantages(
    reward: Tensor, value: Tensor, done: Tensor, last_value: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalized advantage estimates (T, N), Schulman et al. 2016, eq. 16. done (T, N) is 1 where an episode ended."""
    result = torch.zeros_like(reward)
    running = torch.zeros_like(last_value)
    following = last_value
    for t in range(len(reward) - 1, -1, -1):
        alive = 1.0 - done[t]
        delta = reward[t] + gamma * following * alive - value[t]
        running = delta + gamma * gae_lambda * alive * running
        result[t] = running
        following = value[t]
    return result


def mirrored(x: Tensor, mirror: Mirror) -> Tensor:
    """The left-right mirror images of rows (..., size)."""
    index, sign = _mirror_tensors(mirror)
    return x[..., index] * sign


_mirrors: dict[int, tuple[Mirror, tuple[Tensor, Tensor]]] = {}


def _mirror_tensors(mirror: Mirror) -> tuple[Tensor, Tensor]:
    if id(mirror) not in _mirrors:
        pair = torch.tensor([i for i, _ in mirror]), torch.tensor([s for _, s in mirror])
        _mirrors[id(mirror)] = (mirror, pair)
    return _mirrors[id(mirror)][1]


@dataclass
class ReturnScale:
    """Running spread of discounted returns, by which rewards are divided so that their scale does not matter."""

    gamma: float
    accumulated: Tensor
    mean: float = 0.0
    variance: float = 1.0
    count: float = 0.0
    _seen: list[Tensor] = field(default_factory=list)

    def add(self, reward: Tensor, done: Tensor) -> None:
        """One step's rewards and episode ends, (N,) each."""
        self.accumulated = self.accumulated * self.gamma + reward
        self._seen.append(self.accumulated)
        self.accumulated = self.accumulated * (1.0 - done)

    def update(self) -> None:
        """Takes what was added since the last call into the statistics."""
        batch = torch.stack(self._seen).double()
        self._seen = []
        mean, variance, new = float(batch.mean()), float(batch.var(unbiased=False)), float(batch.numel())
        total, delta = self.count + new, mean - self.mean
        spread = variance * new + delta**2 * self.count * new / total
        self.variance = (spread + (self.variance * self.count if self.count else 0.0)) / total
        self.mean += delta * new / total
        self.count = total

    @property
    def scale(self) -> float:
        return max(self.variance, 1e-12) ** 0.5


class TensorPPO(PPO):
    """PPO on an Environment. See the module's docstring for what differs from the parent."""

    policy: ActorCritic

    def __init__(
        self,
        env: SB3VecEnv,
        *,
        n_steps: int = 24,
        num_minibatches: int = 4,
        n_epochs: int = 4,
        learning_rate: float = 1e-3,
        target_kl: float = 0.01,
        symmetry: bool = True,
        learning_threads: int = 1,
        value_clip: bool = True,
        min_std: float = 0.05,
        **kwargs: Any,
    ) -> None:
        self.environment = env.environment
        self.kl_target, self.adaptive_rate = target_kl, learning_rate
        self.num_minibatches, self.learning_threads, self.value_clip = num_minibatches, learning_threads, value_clip
        self.min_std = min_std
        environment = self.environment
        self.symmetry = symmetry and bool(environment.action_mirror)
        self._action_mirror, self._critic_mirror = environment.action_mirror, environment.critic_mirror
        self._mirror = environment.observation.mirror
        super().__init__(
            ActorCritic, env, learning_rate=learning_rate, n_steps=n_steps, n_epochs=n_epochs,
            batch_size=max(2, n_steps * env.num_envs // num_minibatches), rollout_buffer_class=_NoBuffer,
            device="cpu", **kwargs,
        )  # fmt: skip
        self.return_scale = ReturnScale(self.gamma, torch.zeros(env.num_envs))
        self.rollout = Rollout.empty(n_steps, environment)
        self._observations: tuple[Tensor, Tensor] | None = None
        self.component_sums: dict[str, Tensor] = {}

    def start(self) -> None:
        """Resets the environment for the first rollout."""
        self._observations = self.environment.reset()

    @torch.no_grad()
    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fills `self.rollout` with n_rollout_steps of every simulation. False if the callback asked to stop."""
        torch.set_num_threads(1)  # the simulations keep every core busy; a second torch thread only waits
        r, policy = self.rollout, self.policy
        if self._observations is None:
            self.start()
        assert self._observations is not None
        observation, critic = self._observations
        self.component_sums = {}
        callback.on_rollout_start()
        for t in range(n_rollout_steps):
            action, r.log_prob[t], r.mean[t] = policy.act(observation)
            r.observation[t], r.critic_observation[t], r.action[t] = observation, critic, action
            step = self.environment.step(action)
            reward = step.reward
            done = (step.terminated | step.truncated).float()
            self.return_scale.add(reward, done)
            if len(step.ended):
                cut = step.truncated[step.ended]
                if cut.any():
                    rest = policy.value(step.final_critic_observation[cut]) * self.return_scale.scale
                    reward = reward.index_add(0, step.ended[cut], self.gamma * rest)
            r.reward[t], r.done[t] = reward, done
            for name, value in step.components.items():
                self.component_sums[name] = self.component_sums.get(name, 0.0) + value.mean()
            observation, critic = step.observation, step.critic_observation
            self.num_timesteps += self.environment.num_envs
            callback.update_locals({"step": step})
            if not callback.on_step():
                return False
        self._observations = observation, critic
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Updates actor and critic from `self.rollout`, then takes its inputs into the normalizers."""
        torch.set_num_threads(self.learning_threads)
        r, policy = self.rollout, self.policy
        assert self._observations is not None
        with torch.no_grad():
            values = policy.value(r.critic_observation.flatten(0, 1)).view_as(r.reward)
            last = policy.value(self._observations[1])
            self.return_scale.update()
            gain = advantages(
                r.reward / self.return_scale.scale, values, r.done, last, self.gamma, self.gae_lambda
            )
        returns, advantage = (gain + values).flatten(), gain.flatten()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        data = [x.flatten(0, 1) for x in (r.observation, r.critic_observation, r.action, r.mean, r.log_prob)]
        data += [returns, advantage, values.flatten()]
        old_std = policy.log_std.detach().exp().clone()
        totals = torch.zeros(5)
        updates = 0
        for _ in range(self.n_epochs):
            order = torch.randperm(len(advantage))
            for part in order.chunk(self.num_minibatches):
                losses = self._update([x[part] for x in data], old_std)
                totals += losses
                updates += 1
                self._follow(float(losses[2]))
        policy.normalizer.update(r.observation.flatten(0, 1), self._mirror if self.symmetry else None)
        policy.critic_normalizer.update(
            r.critic_observation.flatten(0, 1), self._critic_mirror if self.symmetry else None
        )
        self._n_updates += self.n_epochs
        self._log(totals / updates, values, returns)

    def _update(self, batch: list[Tensor], old_std: Tensor) -> Tensor:
        observation, critic, action, old_mean, old_log_prob, returns, advantage, old_value = batch
        if self.symmetry:
            observation = torch.cat([observation, mirrored(observation, self._mirror)])
            critic = torch.cat([critic, mirrored(critic, self._critic_mirror)])
            action = torch.cat([action, mirrored(action, self._action_mirror)])
            returns, advantage, old_value, old_log_prob = (
                torch.cat([x, x]) for x in (returns, advantage, old_value, old_log_prob)
            )
        policy, clip = self.policy, float(self.clip_range(1.0))  # type: ignore[operator]
        mean = policy.mean_action(observation)
        ratio = (policy.log_prob(mean, action) - old_log_prob).exp()
        gain = torch.min(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
        value = policy.value(critic)
        error = (value - returns).square()
        if self.value_clip:
            error = torch.max(error, (old_value + (value - old_value).clamp(-clip, clip) - returns).square())
        value_loss = error.mean()
        entropy = policy.entropy()
        loss = -gain + self.vf_coef * value_loss - self.ent_coef * entropy
        policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in policy.optimizer.param_groups for p in g["params"]],
                                       self.max_grad_norm)  # fmt: skip
        policy.optimizer.step()
        with torch.no_grad():
            policy.log_std.clamp_(min=torch.tensor(self.min_std).log())
            std = policy.log_std.exp()
            kl = (
                (std / old_std).log()
                + (old_std.square() + (old_mean - mean[: len(old_mean)]).square()) / (2 * std.square())
                - 0.5
            ).sum(1).mean()
            clipped = ((ratio - 1).abs() > clip).float().mean()
        return torch.stack([gain.detach(), value_loss.detach(), kl, entropy.detach(), clipped])

    def _follow(self, kl: float) -> None:
        """Learning rate after divergence: down when the policy moves too far, up when it hardly moves."""
        if kl > 2 * self.kl_target:
            self.adaptive_rate = max(self.adaptive_rate / 1.5, 1e-5)
        elif 0 < kl < self.kl_target / 2:
            self.adaptive_rate = min(self.adaptive_rate * 1.5, 1e-2)
        for group in self.policy.optimizer.param_groups:
            group["lr"] = self.adaptive_rate

    def _log(self, means: Tensor, values: Tensor, returns: Tensor) -> None:
        names = ("policy_gain", "value_loss", "kl", "entropy", "clip_fraction")
        for name, value in zip(names, means.tolist(), strict=True):
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/learning_rate", self.adaptive_rate)
        self.logger.record("train/std", float(self.policy.log_std.exp().mean()))
        unexplained = (returns - values.flatten()).var() / returns.var()
        self.logger.record("train/explained_variance", float(1 - unexplained))

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: Any = None) -> None:
        """Episode statistics come from the environment's own counters."""


class _NoBuffer(RolloutBuffer):
    """Stands in for the parent's NumPy buffer, which is not used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass
