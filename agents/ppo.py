"""Proximal policy optimization on tensors: Stable-Baselines3's algorithm with a rollout path of its own.

What differs from the parent: observations, actions and rewards stay torch tensors and no Python runs per
simulation; the critic sees more than the actor; inputs are normalized inside the policy by statistics that stand
still from a rollout through its update; rewards are divided by the spread of returns; the learning rate follows
the divergence between old and new policy (Schulman et al. 2017, section 4; Rudin et al. 2022); and where the
robot is left-right symmetric, so are the networks, which rules out lame gaits and halves their cost.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.networks import ActorCritic, make_mirrors
from envs.environment import Environment
from envs.vec_env import SB3VecEnv


@dataclass
class Rollout:
    """T steps of N simulations."""

    observation: Tensor
    critic_observation: Tensor
    action: Tensor
    mean: Tensor
    log_prob: Tensor
    reward: Tensor
    """(T, N) raw."""
    rest: Tensor
    """(T, N) the critic's value of what a time limit cut off, in normalized units; 0 elsewhere."""
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
        final_kl: float | None = None,
        symmetry: bool = True,
        learning_threads: int = 1,
        value_clip: bool = True,
        min_std: float = 0.05,
        average_last: float = 0.0,
        policy_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.environment = env.environment
        self.kl_range, self.adaptive_rate = (target_kl, target_kl if final_kl is None else final_kl), learning_rate
        self.progress = 0.0
        """Share of the training that is done; the caller keeps it."""
        self.num_minibatches, self.learning_threads, self.value_clip = (
            num_minibatches,
            learning_threads,
            value_clip,
        )
        self.min_std, self.average_last = min_std, average_last
        self.average: list[Tensor] = []
        """Mean of the actor's parameters over the updates in the last share of the training; empty before."""
        self.averaged = 0
        environment = self.environment
        ball = environment.task.ball is not None
        mirrors = make_mirrors(environment.observation, environment.robot, ball) if symmetry else None
        policy_kwargs = {**(policy_kwargs or {}), "critic_size": environment.critic_size, "mirrors": mirrors}
        super().__init__(
            ActorCritic, env, learning_rate=learning_rate, n_steps=n_steps, n_epochs=n_epochs,
            batch_size=max(2, n_steps * env.num_envs // num_minibatches), rollout_buffer_class=_NoBuffer,
            device="cpu", policy_kwargs=policy_kwargs, **kwargs,
        )  # fmt: skip
        self.return_scale = ReturnScale(self.gamma, torch.zeros(env.num_envs))
        self.rollout = Rollout.empty(n_steps, environment)
        self._observations: tuple[Tensor, Tensor] | None = None
        self._no_callback = _NoCallback()
        self._no_callback.init_callback(self)
        torch.set_num_threads(1)
        self._threads = ThreadPoolExecutor(learning_threads, initializer=_prepare_thread)
        self.component_sums: dict[str, Tensor] = {}

    def start(self) -> None:
        """Resets the environment for the first rollout."""
        self._observations = self.environment.reset(stagger=True)

    def snapshot(self) -> dict[str, Any]:
        """What the learner remembers besides networks and optimizer, as tensors and numbers."""
        assert self._observations is not None
        scale = self.return_scale
        return {
            "observation": self._observations[0], "critic_observation": self._observations[1],
            "returns": scale.accumulated, "return_statistics": [scale.mean, scale.variance, scale.count],
            "learning_rate": self.adaptive_rate, "num_timesteps": self.num_timesteps, "n_updates": self._n_updates,
            "average": self.average, "averaged": self.averaged,
        }  # fmt: skip

    def restore(self, content: dict[str, Any]) -> None:
        """Continues from a snapshot; networks, optimizer and environment are restored apart."""
        self._observations = content["observation"], content["critic_observation"]
        scale = self.return_scale
        scale.accumulated = content["returns"]
        scale.mean, scale.variance, scale.count = content["return_statistics"]
        self.adaptive_rate = content["learning_rate"]
        self.num_timesteps, self._n_updates = content["num_timesteps"], content["n_updates"]
        self.average, self.averaged = list(content.get("average", [])), content.get("averaged", 0)

    def continue_learning(self, content: dict[str, Any], most_seen: float) -> None:
        """Takes over the learning rate and the scale of returns (of at most most_seen returns) of another learner."""
        scale = self.return_scale
        scale.mean, scale.variance, count = content["return_statistics"]
        scale.count = min(count, most_seen)
        self.adaptive_rate = content["learning_rate"]
        for group in self.policy.optimizer.param_groups:
            group["lr"] = self.adaptive_rate

    @torch.no_grad()
    def finish(self) -> None:
        """Ends the training: the actor becomes the mean of its last updates.

        Each update is drawn towards the episodes that it saw; their mean is better than any of them (Izmailov et
        al. 2018, "Averaging weights leads to wider optima and better generalization"). A second call does nothing.
        """
        for parameter, mean in zip(self.policy.actor.parameters(), self.average, strict=bool(self.average)):
            parameter.copy_(mean)
        self.average, self.averaged = [], 0

    @torch.no_grad()
    def _take_average(self) -> None:
        if self.progress < 1.0 - self.average_last:
            return
        parameters = list(self.policy.actor.parameters())
        if not self.average:
            self.average = [torch.zeros_like(parameter) for parameter in parameters]
        self.averaged += 1
        for mean, parameter in zip(self.average, parameters, strict=True):
            mean.lerp_(parameter, 1.0 / self.averaged)

    def iterate(self) -> None:
        """One rollout and the update from it."""
        assert self.env is not None
        torch.set_flush_denormal(True)
        try:
            self.collect_rollouts(self.env, self._no_callback, self.rollout_buffer, self.n_steps)
            self.train()
        finally:
            torch.set_flush_denormal(False)  # a setting of the whole thread, so not ours to keep

    @torch.no_grad()
    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fills `self.rollout` with n_rollout_steps of every simulation. False if the callback asked to stop."""
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
            done = (step.terminated | step.truncated).float()
            self.return_scale.add(step.reward, done)
            r.reward[t], r.done[t], r.rest[t] = step.reward, done, 0.0
            if len(step.ended):
                cut = step.truncated[step.ended]
                if cut.any():
                    r.rest[t, step.ended[cut]] = policy.value(step.final_critic_observation[cut])
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
        r, policy = self.rollout, self.policy
        assert self._observations is not None
        with torch.no_grad():
            values = policy.value(r.critic_observation.flatten(0, 1)).view_as(r.reward)
            last = policy.value(self._observations[1])
            self.return_scale.update()
            reward = r.reward / self.return_scale.scale + self.gamma * r.rest
            gain = advantages(reward, values, r.done, last, self.gamma, self.gae_lambda)
        returns, advantage = (gain + values).flatten(), gain.flatten()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        seen = r.observation.flatten(0, 1), r.critic_observation.flatten(0, 1)
        with torch.no_grad():
            data = [policy.normalizer(seen[0]), policy.critic_normalizer(seen[1])]
        data += [x.flatten(0, 1) for x in (r.action, r.mean, r.log_prob)]
        data += [returns, advantage, values.flatten()]
        old_std = policy.log_std.detach().exp()
        totals = torch.zeros(5)
        updates = 0
        for _ in range(self.n_epochs):
            order = torch.randperm(len(advantage))
            for part in order.chunk(self.num_minibatches):
                totals += self._update(data, part, old_std)
                updates += 1
        mirrors = policy.mirrors
        policy.normalizer.update(seen[0], mirrors.observation if mirrors else None)
        policy.critic_normalizer.update(seen[1], mirrors.critic if mirrors else None)
        self._n_updates += self.n_epochs
        if self.average_last > 0:
            self._take_average()
        self._log(totals / updates, values, returns)

    def _update(self, data: list[Tensor], part: Tensor, old_std: Tensor) -> Tensor:
        """One gradient step on the rows `part` of data; returns gain, value loss, divergence, entropy, clipping."""
        policy = self.policy
        parameters = [p for group in policy.optimizer.param_groups for p in group["params"]]

        def gradient(rows: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            loss, report = self._loss([x.index_select(0, rows) for x in data], old_std, len(part))
            return torch.autograd.grad(loss, parameters), report

        # Each thread takes its share of the rows: one meeting per step instead of one per operation, which
        # keeps its speed when other processes take a core away now and then.
        results = list(self._threads.map(gradient, part.chunk(self.learning_threads)))
        for i, parameter in enumerate(parameters):
            parameter.grad = sum((grads[i] for grads, _ in results[1:]), start=results[0][0][i])
        torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        policy.optimizer.step()
        with torch.no_grad():
            policy.log_std.clamp_(min=math.log(self.min_std))
        report = torch.stack([report for _, report in results]).sum(0)
        self._follow(float(report[2]))
        return report

    def _loss(self, rows: list[Tensor], old_std: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """These rows' share of the loss over `total` rows, and of what is reported. Inputs are normalized already."""
        observation, critic, action, old_mean, old_log_prob, returns, advantage, old_value = rows
        policy, clip = self.policy, float(self.clip_range(1.0))  # type: ignore[operator]
        mean = policy.actor(observation)
        ratio = (policy.log_prob(mean, action) - old_log_prob).exp()
        gain = torch.min(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip)).sum() / total
        value = policy.critic(critic)[:, 0]
        error = (value - returns).square()
        if self.value_clip:
            error = torch.max(error, (old_value + (value - old_value).clamp(-clip, clip) - returns).square())
        value_loss = error.sum() / total
        entropy = policy.entropy() * (len(returns) / total)
        loss = -gain + self.vf_coef * value_loss - self.ent_coef * entropy
        with torch.no_grad():
            kl = _divergence(old_mean, old_std, mean, policy.log_std.exp()).sum() / total
            clipped = ((ratio - 1).abs() > clip).float().sum() / total
            report = torch.stack([gain, value_loss, kl, entropy, clipped])
        return loss, report

    def _follow(self, kl: float) -> None:
        """Learning rate after divergence: down when the policy moves too far, up when it hardly moves."""
        first, last = self.kl_range
        target = first + (last - first) * self.progress
        if kl > 2 * target:
            self.adaptive_rate = max(self.adaptive_rate / 1.5, 1e-5)
        elif 0 < kl < target / 2:
            self.adaptive_rate = min(self.adaptive_rate * 1.5, 3e-3)
        for group in self.policy.optimizer.param_groups:
            group["lr"] = self.adaptive_rate

    def _log(self, means: Tensor, values: Tensor, returns: Tensor) -> None:
        names = ("policy_gain", "value_loss", "kl", "entropy", "clip_fraction")
        for name, value in zip(names, means.tolist(), strict=True):
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/learning_rate", self.adaptive_rate)
        self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))
        unexplained = (returns - values.flatten()).var() / returns.var()
        self.logger.record("train/explained_variance", float(1 - unexplained))

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: Any = None) -> None:
        """Episode statistics come from the environment's own counters."""


def _divergence(old_mean: Tensor, old_std: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(K,) Kullback-Leibler divergence of diagonal Gaussians, new from old."""
    moved = (old_std.square() + (old_mean - mean).square()) / (2 * std.square())
    return ((std / old_std).log() + moved - 0.5).sum(1)


class _NoCallback(BaseCallback):
    def _on_step(self) -> bool:
        return True


def _prepare_thread() -> None:
    """One core for each of our threads. Torch's own threads meet after every operation and spin while they wait,
    which takes cores away from the simulations and from the other threads here."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a setting of each thread; denormal numbers cost a factor of 3


class _NoBuffer(RolloutBuffer):
    """Stands in for the parent's NumPy buffer, which is not used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass
