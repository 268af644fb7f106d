"""What the sweepers of Gantry have in common: long work that hands its jobs to whichever launcher is configured.

Hydra skips files whose names begin with an underscore when it looks for plugins.
"""

from __future__ import annotations

import copy
import logging
import signal
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class JobSweeper(Sweeper):
    """Runs work that proposes its own jobs; each round of them is one launch."""

    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None
        self._launched = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @abstractmethod
    def work(self) -> Callable[..., Path]:
        """run(config, launch, new_llm=...): does the work and returns its folder. Imports what is heavy."""

    def sweep(self, arguments: list[str]) -> str:
        """arguments: the overrides of the command line. Returns the work's folder."""
        from hydra.core.hydra_config import HydraConfig

        run = self.work()
        assert self.config is not None and self.hydra_context is not None
        for override in OverridesParser.create().parse_overrides(list(arguments)):
            if override.is_sweep_override():
                raise UserError(f"{override.input_line!r} is a sweep; start one command for each value")
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(arguments))
        HydraConfig.instance().set_config(self.config)  # tells count_threads which launcher there is
        with read_write(config), open_dict(config):
            config.pop("hydra", None)
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        assert isinstance(content, dict)
        # The model's settings are the only ones that may change on the way.
        new_llm = any(argument.lstrip("+~").startswith(("llm=", "llm.", "llm/")) for argument in arguments)
        with termination_interrupts():
            return str(run(content, self.launch, new_llm=new_llm))

    def launch(self, folder: SearchFolder) -> Launch:
        """A function that hands job files to the configured launcher, whose own files go below the work's folder."""
        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        config = copy.deepcopy(self.config)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(folder.path / "launcher")
        for name in ("hydra", "hydra_plugins"):  # launchers list every job; the work says itself what happens
            logging.getLogger(name).setLevel(logging.WARNING)
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=config
        )
        place = f"hydra.sweep.dir={quoted(folder.path / 'launcher')}"
        # Jobs read everything from their file, yet Hydra composes a configuration for each and wants no gaps in it.
        common = [place, f"task={folder.settings.task}", "llm=inbox"]

        def launch(jobs: Sequence[Path]) -> None:
            overrides = [[f"job={quoted(path)}", *common] for path in jobs]
            results: Sequence[Any] = launcher.launch(overrides, initial_job_idx=self._launched)
            self._launched += len(jobs)
            for result in results:
                _ = result.return_value  # raises what ended the job

        return launch


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Inside, SIGTERM ends like Ctrl-C: a launcher that merely dies leaves its workers to train on."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def quoted(path: Path) -> str:
    """For Hydra's grammar of overrides: quotes are escaped, and so is the beginning of an interpolation."""
    return '"' + str(path).replace('"', '\\"').replace("${", "\\${") + '"'
