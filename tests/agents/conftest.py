"""Small trainings that take about a second."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SMALL = ("task=cartpole-swingup", "ppo.num_envs=16", "ppo.n_steps=8", "ppo.actor_hidden=[16,16]",
         "ppo.critic_hidden=[16,16]", "env_steps=640", "threads=1", "evaluate=false", "video=false")  # fmt: skip
"""Overrides of a run of five iterations."""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray's sockets lie below it, and a socket's path may not be longer than 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    return SMALL


@pytest.fixture(scope="session")
def configure() -> Callable[..., dict[str, Any]]:
    """configure(runs, *overrides): the resolved configuration of a small run, as `gantry train` would make it."""

    def make(runs: Path, *overrides: str) -> dict[str, Any]:
        from hydra import compose, initialize_config_module
        from omegaconf import OmegaConf

        import agents.train  # noqa: F401  registers the schema

        with initialize_config_module("configs", version_base="1.3"):
            config = compose("train", [*SMALL, f"runs={runs}", *overrides])
        resolved = OmegaConf.to_container(config, resolve=True)
        assert isinstance(resolved, dict)
        return resolved  # type: ignore[return-value]

    return make


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, configure: Callable[..., dict[str, Any]]) -> Path:
    """The folder of a finished small run. Tests copy it before they change it."""
    from agents import train

    return train.train(configure(tmp_path_factory.mktemp("finished")))
