"""The settings of a search, checked: what a full training is, its stages, and how candidates are judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from agents import train
from agents.confinement import require_confinement
from configs import schema, search_schema
from configs.errors import UserError, unknown
from envs import tasks
from envs.tasks.task import Task

PROPOSERS = ("model", "mutation")
ARMS = ("human", "sparse", "mutation")
FINAL_SEED_OFFSET = 1000
"""New seeds of finalists begin this far from the candidates' seed."""
SELECT_SEEDS, REPORT_SEEDS = 5000, 7000
"""First evaluation seeds on the select and the report physics."""


@dataclass(frozen=True)
class Settings:
    """A search's configuration in the form that its parts read."""

    config: dict[str, Any]
    """As resolved by Hydra; see configs/search_schema.py."""
    train: dict[str, Any]
    """The configuration of one full training, as `gantry train` would have it."""
    ranges: dict[str, tuple[float, float]]
    missing: list[str]
    """Kernel features that confinement lacks here (only under trust=unconfined)."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.config[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def definition(self) -> Task:
        return tasks.get(self.config["task"])

    @property
    def main_arm(self) -> str:
        return str(self.config["proposer"])

    @property
    def other_arms(self) -> list[str]:
        """What the main arm is compared with, in the order of the table."""
        return [arm for arm in ARMS if arm in self.config["arms"] and arm != self.main_arm]

    @property
    def targets(self) -> list[int]:
        """Environment steps after which each stage of a training ends; the last is a full training."""
        full = int(self.config["env_steps"])
        return [max(1, int(share * full)) for share in self.config["rungs"]] + [full]

    @property
    def final_seed_list(self) -> list[int]:
        return [(self.config["seed"] + FINAL_SEED_OFFSET + i) % 2**32 for i in range(self.config["final_seeds"])]

    def evaluation(self, physics_set: str) -> dict[str, Any]:
        """How a policy is measured on `select` or `report`."""
        first, kind = (SELECT_SEEDS, "evaluation") if physics_set == "select" else (REPORT_SEEDS, "report")
        episodes = self.config["episodes" if physics_set == "select" else "report_episodes"]
        return {"episodes": episodes, "seeds": [first + i for i in range(self.config[f"{kind}_seeds"])]}

    def kept(self, count: int) -> int:
        """How many of `count` candidates go on after a rung."""
        return min(count, max(1, math.ceil(count * self.config["keep"])))


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Raises UserError for what makes no sense, and where code cannot be confined and trust does not accept that."""
    content = dict(config)
    task = tasks.get(content["task"])
    schema.require_known(content, search_schema.Search)
    train.check(content)
    _check(content)
    missing = require_confinement(content["trust"])
    ranges = train.resolve_ranges(content["randomization"], task)
    content["threads"] = train.count_threads(content["threads"])
    names = [field.name for field in fields(schema.Train) if field.name != "resume"]
    single = {name: content[name] for name in names}
    single |= {"evaluate": False, "video": False, "reward": "reward.py", "runs": "."}
    return Settings(content, single, ranges, missing)


def _check(config: Mapping[str, Any]) -> None:
    if config["proposer"] not in PROPOSERS:
        raise unknown("proposer", config["proposer"], PROPOSERS)
    for arm in config["arms"]:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS)
    if config["approve"] not in ("auto", "ask"):
        raise unknown("approve", config["approve"], ("auto", "ask"))
    least = {"generations": 1, "samples": 1, "finalists": 1, "final_seeds": 1, "memory": 1, "episodes": 1,
             "evaluation_seeds": 1, "report_episodes": 1, "report_seeds": 1}  # fmt: skip
    for name, bound in least.items():
        if config[name] < bound:
            raise UserError(f"{name}={config[name]}; at least {bound} is needed")
    rungs = list(config["rungs"])
    if rungs != sorted(set(rungs)) or not all(0 < share < 1 for share in rungs):
        raise UserError(f"rungs={rungs}; valid: growing shares of a full training between 0 and 1, such as [0.2,0.45]")
    if not 0 < config["keep"] <= 1:
        raise UserError(f"keep={config['keep']}; valid: above 0, up to 1 (nobody is stopped)")
    if config["wall_s"] <= 0 or config["memory_gb"] <= 0:
        raise UserError(f"wall_s={config['wall_s']} and memory_gb={config['memory_gb']} must be positive")
