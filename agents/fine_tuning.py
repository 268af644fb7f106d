"""Starting a training from the policy of another run, such as one trained without randomization."""

from __future__ import annotations

from pathlib import Path

import torch

from agents import checkpoint
from agents.networks import ActorCritic, Normalizer
from configs.errors import UserError

STILL = 1e-6
"""Variance below which an input has never moved."""
MOST_SEEN = 200_000.0
"""Samples that a normalizer counts as seen; more would keep it from following new physics."""


def start_from(policy: ActorCritic, path: Path) -> None:
    """Puts the weights of another run's checkpoint into a policy of the same shape.

    The normalizers are prepared for other physics than they saw. An input that never moved (a critic sees the drawn
    physics, and without randomization nothing is drawn) starts unscaled: divided by the spread it had, the first values
    other than zero would be huge.

    Raises:
        UserError: the checkpoint is damaged, or is another task's or of networks of another size.
    """
    weights = checkpoint.read(path)["policy"]
    try:
        policy.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not fit this training's networks: {reason}") from error
    for normalizer in (policy.normalizer, policy.critic_normalizer):
        _loosen(normalizer)


@torch.no_grad()
def _loosen(normalizer: Normalizer) -> None:
    still = normalizer.variance < STILL
    normalizer.mean[still] = 0.0
    normalizer.variance[still] = 1.0
    normalizer.count.clamp_(max=MOST_SEEN)
