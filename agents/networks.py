"""The policy: actor and critic networks with their input normalizers inside, in Stable-Baselines3's form."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from envs.observations import Mirror, Observation, action_mirror
from envs.robots.spec import RobotSpec
from envs.sensing import critic_mirror


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
            image = mean[index] * torch.tensor([sign for _, sign in mirror], dtype=torch.float32)
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


class MirrorMap(nn.Module):
    """The left-right mirror on rows (..., size): a permutation with signs that undoes itself."""

    index: Tensor
    sign: Tensor

    def __init__(self, mirror: Mirror) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor([i for i, _ in mirror]))
        self.register_buffer("sign", torch.tensor([s for _, s in mirror], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.index] * self.sign


class SymmetricMLP(nn.Module):
    """A multilayer perceptron that commutes with the left-right mirror: f(mirror x) = mirror f(x), exactly.

    Hidden units come in pairs (u, v) that the mirror swaps. A linear map that commutes with the swap is one map
    of the sums u + v and another of the differences u - v: two half-width products where a plain layer of the
    same width needs one of full width, so the symmetry also halves the cost (Cohen and Welling 2016 for the
    principle). output_mirror None makes f invariant: f(mirror x) = f(x).
    """

    def __init__(
        self,
        input_mirror: Mirror,
        hidden: Sequence[int],
        output_mirror: Mirror | None,
        outputs: int,
        gain: float,
    ) -> None:
        super().__init__()
        self.input_mirror = MirrorMap(input_mirror)
        self.width = hidden[0] // 2
        self.output_mirror = MirrorMap(output_mirror) if output_mirror is not None else nn.Identity()
        half = [size // 2 for size in hidden]
        self.lift = nn.Linear(len(input_mirror), half[0])
        pairs = list(pairwise(half))
        self.sums = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.differences = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)
        self.head = nn.Linear(half[-1], outputs)
        for layer in (self.lift, *self.sums, *self.differences):
            _initialize(layer, 2**0.5)
        _initialize(self.head, gain / 2**0.5)

    def forward(self, x: Tensor) -> Tensor:
        # lift(mirror x), by mirroring the few weights instead of the many inputs.
        weight = torch.cat([self.lift.weight, self.input_mirror(self.lift.weight)])
        lifted = _activate(nn.functional.linear(x, weight, self.lift.bias.repeat(2)))
        u, v = lifted.split(self.width, 1)
        for sums, differences in zip(self.sums, self.differences, strict=True):
            even, odd = sums(0.5 * (u + v)), differences(0.5 * (u - v))
            u, v = _activate(even + odd), _activate(even - odd)
        result: Tensor = self.head(u) + self.output_mirror(self.head(v))
        return result


# SiLU learns like ELU here and costs 40 % of it on a CPU.
_activate = nn.functional.silu


def _initialize(layer: nn.Module, gain: float) -> None:
    """Orthogonal weights, zero bias (Andrychowicz et al. 2021, who also advise the small last layer)."""
    assert isinstance(layer, nn.Linear)
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def mlp(inputs: int, hidden: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    """A plain multilayer perceptron with SiLU."""
    layers: list[nn.Module] = []
    sizes = [inputs, *hidden]
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.SiLU()]
        _initialize(layers[-2], 2**0.5)
    layers.append(nn.Linear(sizes[-1], outputs))
    _initialize(layers[-1], gain)
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class Mirrors:
    """How the mirror maps the actor's input, the critic's input and the action."""

    observation: Mirror
    critic: Mirror
    action: Mirror


def make_mirrors(observation: Observation, robot: RobotSpec, ball: bool = False) -> Mirrors | None:
    """The mirrors of a robot's networks, whose critic may see a ball; None without left-right symmetry."""
    if not robot.mirror_joints:
        return None
    return Mirrors(observation.mirror, critic_mirror(observation, robot, ball), action_mirror(robot))


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
        mirrors: Mirrors | None = None,
        initial_std: float = 0.4,
        use_sde: bool = False,
        **kwargs: Any,
    ) -> None:
        self._sizes = (critic_size, tuple(actor_hidden), tuple(critic_hidden), mirrors, initial_std)
        super().__init__(observation_space, action_space, lr_schedule, use_sde=use_sde, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        critic_size, actor_hidden, critic_hidden, mirrors, initial_std = self._sizes
        assert self.observation_space.shape is not None and self.action_space.shape is not None
        inputs, outputs = self.observation_space.shape[0], self.action_space.shape[0]
        self.normalizer = Normalizer(inputs)
        self.critic_normalizer = Normalizer(critic_size)
        self.mirrors = mirrors
        if mirrors is None:
            self.actor: nn.Module = mlp(inputs, actor_hidden, outputs, 0.01)
            self.critic: nn.Module = mlp(critic_size, critic_hidden, 1, 1.0)
        else:
            self.actor = SymmetricMLP(mirrors.observation, actor_hidden, mirrors.action, outputs, 0.01)
            self.critic = SymmetricMLP(mirrors.critic, critic_hidden, None, 1, 1.0)
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
