"""The policy: actor and critic networks with their input normalizers inside, in Stable-Baselines3's form."""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from envs.observations import Mirror


class Normalizer(nn.Module):
    """Shifts and scales inputs by running mean and variance, which change only when `update` is called."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) * torch.rsqrt(self.variance + 1e-5)).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, x: Tensor, mirror: Mirror | None = None) -> None:
        """Takes the rows of x (K, size) into the running statistics (Chan et al. 1979, parallel variance).

        mirror makes the statistics those of x together with its mirror image.
        """
        mean, variance = x.mean(0), x.var(0, unbiased=False)
        if mirror:
            index = torch.tensor([i for i, _ in mirror])
            image = mean[index] * torch.tensor([sign for _, sign in mirror])
            middle = (mean + image) / 2
            variance = (variance + variance[index]) / 2 + ((mean - image) / 2) ** 2
            mean = middle
        new = float(len(x))
        total = float(self.count) + new
        delta = mean - self.mean
        self.mean += delta * (new / total)
        spread = self.variance * float(self.count) + variance * new + delta**2 * (float(self.count) * new / total)
        self.variance.copy_(spread / total)
        self.count += new


def mlp(inputs: int, hidden: Sequence[int], outputs: int, output_gain: float) -> nn.Sequential:
    """Linear layers with ELU between, orthogonal weights (Andrychowicz et al. 2021 for the small last layer)."""
    layers: list[nn.Module] = []
    sizes = [inputs, *hidden]
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ELU()]
    layers.append(nn.Linear(sizes[-1], outputs))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, output_gain if layer is layers[-1] else 2**0.5)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class ActorCritic(ActorCriticPolicy):
    """A Gaussian actor on the observation and a critic on its own, richer observation (asymmetric).

    Used through Stable-Baselines3's interface (`predict`, `forward` on plain observations) the critic's input
    is missing, so values are zero there; training uses `act`, `log_prob_entropy` and `value`.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *,
        critic_size: int = 1,
        actor_hidden: Sequence[int] = (128, 128),
        critic_hidden: Sequence[int] = (128, 128),
        initial_std: float = 0.4,
        use_sde: bool = False,
        **kwargs: Any,
    ) -> None:
        self._sizes = (critic_size, tuple(actor_hidden), tuple(critic_hidden), initial_std)
        super().__init__(observation_space, action_space, lr_schedule, use_sde=use_sde, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        critic_size, actor_hidden, critic_hidden, initial_std = self._sizes
        assert self.observation_space.shape is not None and self.action_space.shape is not None
        inputs, outputs = self.observation_space.shape[0], self.action_space.shape[0]
        self.normalizer = Normalizer(inputs)
        self.critic_normalizer = Normalizer(critic_size)
        self.actor = mlp(inputs, actor_hidden, outputs, 0.01)
        self.critic = mlp(critic_size, critic_hidden, 1, 1.0)
        self.log_std = nn.Parameter(torch.full((outputs,), initial_std).log())
        parameters = [*self.actor.parameters(), *self.critic.parameters(), self.log_std]
        self.optimizer = torch.optim.Adam(parameters, lr=lr_schedule(1), eps=1e-5, fused=True)

    def mean_action(self, observation: Tensor) -> Tensor:
        """(N, A) the action without exploration."""
        mean: Tensor = self.actor(self.normalizer(observation))
        return mean

    def act(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled action (N, A), its log probability (N,) and the Gaussian's mean (N, A)."""
        mean = self.mean_action(observation)
        noise = torch.randn_like(mean)
        log_prob = -(0.5 * noise.square() + self.log_std + 0.9189385332046727).sum(1)
        return mean + noise * self.log_std.exp(), log_prob, mean

    def log_prob(self, mean: Tensor, action: Tensor) -> Tensor:
        """(N,) log probability of actions under Gaussians about mean, both (N, A)."""
        z = (action - mean) * (-self.log_std).exp()
        return -(0.5 * z.square() + self.log_std + 0.9189385332046727).sum(1)

    def entropy(self) -> Tensor:
        """Scalar [nat]; it does not depend on the state."""
        return (self.log_std + 1.4189385332046727).sum()

    def value(self, critic_observation: Tensor) -> Tensor:
        """(N,) expected normalized return."""
        value: Tensor = self.critic(self.critic_normalizer(critic_observation))
        return value[:, 0]

    # Stable-Baselines3's interface, on observations alone.

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        action, log_prob, mean = self.act(obs)
        if deterministic:
            action, log_prob = mean, self.log_prob(mean, mean)
        return action, torch.zeros(len(obs), 1), log_prob

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:  # type: ignore[override]
        return self.forward(observation, deterministic)[0]
