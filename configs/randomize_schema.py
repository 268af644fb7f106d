"""The settings of `gantry randomize`: those of a training (configs/schema.py) and those of the design of ranges."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from configs import asking_schema


@dataclass
class Randomize(asking_schema.Asking):
    """A design of randomization ranges.

    What it shares with `gantry train` describes the training without randomization that all begin from; there,
    `randomization` is what people chose: the human arm.
    """

    name: str = "randomize"
    """Goes into the design folder's name."""
    run: str = ""
    """A run that was trained with little or no randomization, to begin from. Empty: one is trained for env_steps."""
    base_randomization: Any = "none"
    """What the policy that all begin from is trained with: none; noise, the sensor noise among `randomization`
    (sensors are noisy wherever a robot is, and a policy that balances without noise survives little of it); or ranges,
    as there."""
    arms: tuple[str, ...] = ("designed", "none", "human")
    """What is compared, the main arm first. See agents/design_arms.py."""
    tune_env_steps: int = 1_000_000
    """How long the policy is trained further with each proposal of ranges, in steps of all simulations together."""
    choose_env_steps: int = 0
    """The same for proposals that are compared with others of their arm, which tells the better sooner; 0:
    tune_env_steps."""
    widen: float = 0.5
    """Share of such a further training over which its ranges grow from nothing to their width; 0: wide at once."""
    widen_falls_per_minute: float | None = None
    """They narrow again while robots fall more often than that, and so may not reach their width; null: never."""
    samples: int = 8
    """Proposals of each arm that proposes."""
    final_seeds: int = 3
    """With how many new seeds each arm's best ranges are trained again; the table's intervals are over these."""
    own_bases: bool = False
    """Each final seed begins from a policy of its own, trained without randomization; else all from the same."""
    episodes: int = 128
    """Episodes of each evaluation seed, when ranges are compared on the select physics."""
    evaluation_seeds: int = 3
    report_episodes: int = 256
    """The same for the table, on the report physics."""
    report_seeds: int = 3
    prior_terms: tuple[str, ...] = ()
    """Parameters of the physics prior; empty: all that apply to the task."""
    prior_values: int = 11
    prior_episodes: int = 32
    prior_seconds: float = 10.0
    """[s] longest episode of the prior."""
    prior_share: float = 0.5
    """Share of a value's episodes that must succeed for the value to count as survived."""
    success: float | None = None
    """Fitness from which an episode of the prior is a success; null: the task's own threshold."""


def register() -> None:
    """Makes the schema known to Hydra, under the name that configs/randomize.yaml builds on."""
    ConfigStore.instance().store(name="randomize_schema", node=Randomize)
