"""The whole way from a task to a bundle as a Hydra sweeper: whichever launcher is configured executes the trainings.

Hydra imports this file whenever it starts, for `gantry train` too, so what is heavy is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hydra.core.config_store import ConfigStore

from hydra_plugins.gantry_search._job_sweeper import JobSweeper

ConfigStore.instance().store(
    group="hydra/sweeper", name="transfer", provider="gantry",
    node={"_target_": "hydra_plugins.gantry_search.transfer_sweeper.TransferSweeper"},
)  # fmt: skip


class TransferSweeper(JobSweeper):
    """Runs sim2real.transfer.run_transfer."""

    def work(self) -> Callable[..., Path]:
        from sim2real import transfer

        return transfer.run_transfer
