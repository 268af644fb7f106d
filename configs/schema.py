"""Every setting with its default, once. Hydra checks overrides against these types.

Not frozen: OmegaConf makes frozen dataclasses read-only, also for the choices in YAML that Hydra merges in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from configs.errors import unknown


@dataclass
class PPO:
    """The learner. See agents/ppo.py."""

    num_envs: int = 512
    """Simulations side by side."""
    n_steps: int = 16
    """Steps of each simulation between updates."""
    n_epochs: int = 4
    """Passes over the collected steps an update."""
    num_minibatches: int = 4
    """Gradient steps a pass."""
    learning_rate: float = 1e-3
    """Where the adaptive learning rate starts."""
    target_kl: float = 0.03
    """[nat] divergence an update that the learning rate aims at."""
    final_kl: float = 0.01
    """[nat] the same at the end of the training; it falls linearly, so that the policy settles."""
    gamma: float = 0.97
    """Discount a step."""
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.002
    vf_coef: float = 1.0
    max_grad_norm: float = 1.0
    initial_std: float = 0.4
    """Exploration at the start, in units of the action, which spans -1 to 1."""
    min_std: float = 0.05
    average_last: float = 0.2
    """The finished actor is the mean of its updates over this last share of the training; 0: the last update."""
    actor_hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    symmetry: bool = True
    """Networks that treat left and right alike, for robots that are left-right symmetric."""


@dataclass
class Train:
    """One training run: `gantry train task=go2-walk seed=1 ppo.n_epochs=5`."""

    task: str = MISSING
    """A task of envs/tasks; choose it by `task=NAME`."""
    reward: str = "human"
    """human, sparse, or the path of a file with `def reward(s)`."""
    randomization: Any = "task"
    """task: the task's own ranges; none; the path of a YAML file; or ranges inline: {friction: [0.5, 1.0]}."""
    curriculum: Any = None
    """{until: share of the training, start: {term: [low, high]}}: those ranges move to the training's own ones. Or
    several of such phases, each with a name; docs/training.md."""
    termination_penalty: float = 0.0
    """What a failure costs, in units of the reward."""
    terrain: str = "flat"
    """flat or rough."""
    collision: str = "feet"
    """What may touch the ground while training: feet (fastest), ground (every part) or full (parts also each other)."""
    seed: int = 0
    env_steps: int = 3_000_000
    """Length of the training, in steps of all simulations together."""
    threads: int = 0
    """Cores for physics and learning. 0 means all, or 1 in each job of a parallel launcher."""
    name: str = "train"
    """Goes into the run folder's name."""
    runs: str = "runs"
    """Where run folders are made."""
    resume: Any = False
    """A run folder to continue, or true for the newest unfinished run with this configuration."""
    checkpoint_every_s: float = 30.0
    evaluate: bool = True
    """Measure the policy on the physics sets when the training ends."""
    video: bool = True
    """Film it when the training ends."""
    film_every: float = 0.25
    """Least share of the training between short films of it as it learns; 0 for none. They cost at most 3 %."""
    ppo: PPO = field(default_factory=PPO)


def require_known(config: Mapping[str, Any], settings: type, parent: str = "") -> None:
    """Raises UserError for what is no setting of that dataclass: Hydra's `+NAME=VALUE` adds any name."""
    known = {field.name: field.type for field in fields(settings)}
    for name, value in config.items():
        if name not in known:
            raise unknown("setting", parent + name, [parent + valid for valid in known])
        kind = known[name]
        if isinstance(kind, type) and is_dataclass(kind):
            require_known(value, kind, f"{parent}{name}.")


def register() -> None:
    """Makes the schema known to Hydra, under the name that configs/train.yaml builds on."""
    ConfigStore.instance().store(name="train_schema", node=Train)
