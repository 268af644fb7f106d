"""The reward search as a Hydra sweeper: whichever launcher is configured executes the candidates.

Hydra imports this file whenever it starts, for `gantry train` too, so what is heavy is imported where it is used.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from configs.errors import UserError

if TYPE_CHECKING:
    from agents.search_folder import SearchFolder
    from agents.search_jobs import Launch


# No dataclass: Hydra runs this file before the module has a name in sys.modules, which dataclasses look up.
ConfigStore.instance().store(
    group="hydra/sweeper", name="reward_search", provider="gantry",
    node={"_target_": "hydra_plugins.gantry_search.reward_search_sweeper.RewardSearchSweeper"},
)  # fmt: skip


class RewardSearchSweeper(Sweeper):
    """Runs agents.reward_search.search; each round of jobs is one launch."""

    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None
        self._launched = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> str:
        """arguments: the overrides of the command line. Returns the search's folder."""
        from hydra.core.hydra_config import HydraConfig

        from agents import reward_search

        assert self.config is not None and self.hydra_context is not None
        for override in OverridesParser.create().parse_overrides(list(arguments)):
            if override.is_sweep_override():
                raise UserError(f"{override.input_line!r} is a sweep; start a search for each value")
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(arguments))
        HydraConfig.instance().set_config(self.config)  # tells count_threads which launcher there is
        with read_write(config), open_dict(config):
            config.pop("hydra", None)
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        assert isinstance(content, dict)
        # The model's settings are the only ones that may change on the way.
        new_llm = any(argument.lstrip("+~").startswith(("llm=", "llm.", "llm/")) for argument in arguments)
        return str(reward_search.run_search(content, self._launch, new_llm=new_llm))  # type: ignore[arg-type]

    def _launch(self, folder: SearchFolder) -> Launch:
        """A function that hands job files to the configured launcher, whose own files go below the search's folder."""
        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        config = copy.deepcopy(self.config)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(folder.path / "launcher")
        for name in ("hydra", "hydra_plugins"):  # launchers list every job; the search says itself what happens
            logging.getLogger(name).setLevel(logging.WARNING)
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=config
        )
        place = f"hydra.sweep.dir={_quoted(folder.path / 'launcher')}"
        # Jobs read everything from their file, yet Hydra composes a configuration for each and wants no gaps in it.
        common = [place, f"task={folder.settings.task}", "llm=inbox"]

        def launch(jobs: Sequence[Path]) -> None:
            overrides = [[f"job={_quoted(path)}", *common] for path in jobs]
            results = launcher.launch(overrides, initial_job_idx=self._launched)
            self._launched += len(jobs)
            for result in results:
                _ = result.return_value  # raises what ended the job

        return launch


def _quoted(path: Path) -> str:
    """For Hydra's grammar of overrides: quotes are escaped, and so is the beginning of an interpolation."""
    return '"' + str(path).replace('"', '\\"').replace("${", "\\${") + '"'
