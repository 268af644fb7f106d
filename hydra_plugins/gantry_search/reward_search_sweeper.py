"""The reward search as a Hydra sweeper: whichever launcher is configured executes the candidates.

Hydra imports this file whenever it starts, for `gantry train` too, so what is heavy is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hydra.core.config_store import ConfigStore

from hydra_plugins.gantry_search._job_sweeper import JobSweeper

# No dataclass: Hydra runs this file before the module has a name in sys.modules, which dataclasses look up.
ConfigStore.instance().store(
    group="hydra/sweeper", name="reward_search", provider="gantry",
    node={"_target_": "hydra_plugins.gantry_search.reward_search_sweeper.RewardSearchSweeper"},
)  # fmt: skip


class RewardSearchSweeper(JobSweeper):
    """Runs agents.reward_search.search."""

    def work(self) -> Callable[..., Path]:
        from agents import reward_search

        return reward_search.run_search
