"""The launchers that sweeps and searches are tried with, and what each needs installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from joblib import Parallel, delayed

from agents.design_jobs import run_job

LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"),
    "ray": ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.num_cpus=1",
            "+hydra.launcher.ray.init.include_dashboard=false"),
}  # fmt: skip
"""Overrides by launcher."""
_PLUGINS = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher", "ray": "hydra_ray_launcher"}


def two_at_once(jobs: Sequence[Path]) -> None:
    """Runs candidates' jobs as the joblib launcher does: in processes that stay, two at a time."""
    Parallel(n_jobs=2)(delayed(run_job)(path) for path in jobs)


def need(launcher: str) -> None:
    """Skips the test where the launcher is not installed."""
    if launcher in _PLUGINS and find_spec(f"hydra_plugins.{_PLUGINS[launcher]}") is None:
        pytest.skip(f"{_PLUGINS[launcher]} is not installed")
