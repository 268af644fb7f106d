"""Starting a training from the policy of another run, such as one trained without randomization.

A policy that balances is worth as much as its first updates leave of it. So the learner goes on where it stood, with
its learning rate, its optimizer's moments and the scale of its returns: begun anew, Adam's first steps are as long as
at the start of a training, in directions of a critic whose values mean something else.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from agents import checkpoint
from agents.networks import Normalizer, SymmetricMLP
from agents.ppo import TensorPPO
from configs.errors import UserError

STILL = 1e-6
"""Variance below which an input has never moved."""
MOST_SEEN = 200_000.0
"""Samples that a normalizer counts as seen; more would keep it from following new physics. Returns likewise."""


def start_from(ppo: TensorPPO, path: Path) -> None:
    """Puts another run's policy and its learner's state into a fresh learner of the same shape.

    Networks and normalizers are prepared for other physics than they saw. An input that never moved (a critic sees the
    drawn physics, and without randomization nothing is drawn) starts unscaled, since divided by the spread it had, the
    first values other than zero would be huge; and without weight, since its weights are those of chance.

    Raises:
        UserError: the checkpoint is damaged, or is another task's or of networks of another size.
    """
    content, policy = checkpoint.read(path), ppo.policy
    try:
        policy.load_state_dict(content["policy"])
        policy.optimizer.load_state_dict(content["optimizer"])
        ppo.continue_learning(content["learner"], MOST_SEEN)
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not fit this training's networks: {reason}") from error
    for normalizer, network in ((policy.normalizer, policy.actor), (policy.critic_normalizer, policy.critic)):
        _loosen(normalizer, _first_weights(network))


def _first_weights(network: nn.Module) -> Tensor:
    """(hidden, inputs) of the first layer."""
    layer = network.lift if isinstance(network, SymmetricMLP) else network[0]  # type: ignore[index]
    weight: Tensor = layer.weight
    return weight


@torch.no_grad()
def _loosen(normalizer: Normalizer, weights: Tensor) -> None:
    still = normalizer.variance < STILL
    normalizer.mean[still] = 0.0
    normalizer.variance[still] = 1.0
    normalizer.count.clamp_(max=MOST_SEEN)
    weights[:, still] = 0.0
