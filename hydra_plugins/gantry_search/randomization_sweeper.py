"""The design of randomization ranges as a Hydra sweeper: whichever launcher is configured executes the trainings.

Hydra imports this file whenever it starts, for `gantry train` too, so what is heavy is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hydra.core.config_store import ConfigStore

from hydra_plugins.gantry_search._job_sweeper import JobSweeper

ConfigStore.instance().store(
    group="hydra/sweeper", name="randomization", provider="gantry",
    node={"_target_": "hydra_plugins.gantry_search.randomization_sweeper.RandomizationSweeper"},
)  # fmt: skip


class RandomizationSweeper(JobSweeper):
    """Runs agents.randomization_design.run_design."""

    def work(self) -> Callable[..., Path]:
        from agents import randomization_design

        return randomization_design.run_design
