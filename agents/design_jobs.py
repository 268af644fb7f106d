"""The jobs of a design of ranges: as files, run by whichever launcher is configured, read back from run folders."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents import candidate, physics_prior, run_folder
from agents.candidate import REPORT, rung_file
from agents.candidate_data import number
from agents.checkpoint import CHECKPOINT, load_policy
from agents.confinement_data import open_plain_file
from agents.curriculum import NEUTRAL
from agents.design_settings import base_ranges, prior_settings
from agents.search_jobs import Job, Jobs

Ranges = Mapping[str, tuple[float, float]]
_MAX_CHECKPOINT_BYTES = 2**30


def run_job(path: Path) -> None:
    """Runs the job that a file describes: the prior here, all else as the jobs of a search."""
    job = run_folder.read_json(path)
    if job.get("kind") != "prior":
        candidate.run_job(path)
        return
    folder, run = Path(job["folder"]), Path(job["run"])
    with candidate.run_folder_lock(run):
        if not (folder / job["result"]).is_file():
            settings = {**job["settings"], "terms": tuple(job["settings"]["terms"])}
            content = physics_prior.measure(load_policy(run), physics_prior.Settings(**settings))
            if not (run / physics_prior.FILE).is_file():  # for its report; what someone else has measured stays
                physics_prior.write(run, content)
            physics_prior.write(folder, content)


class DesignJobs(Jobs):
    """Makes them."""

    command = "gantry randomize"

    def check_reward(self, text: str) -> Job:
        """Check the reward, which a model may have written, before anything is trained with it."""
        return self.check("reward", "reward", f"```python\n{text}\n```", "people or a model", None)

    def base(self, name: str, source: str, reward: str, seed: int) -> Job:
        """Train what all begin from, as a rule without randomization."""
        config = {**self._config(name), "seed": seed}
        ranges = base_ranges(self._settings.config, self._settings.definition)
        return self._run(name, "base", source, reward, config, ranges, None)

    def prior(self, run: Path) -> Job:
        """Measure which physics a base policy survives."""
        return {
            "kind": "prior", "folder": str(self._folder.path), "run": str(run), "result": physics_prior.FILE,
            "settings": asdict(prior_settings(self._settings.config)),
        }  # fmt: skip

    def tune(
        self, name: str, arm: str, source: str, reward: str, ranges: Ranges, text: str, base: Path, seed: int,
        env_steps: int,
    ) -> Job:  # fmt: skip
        """Train a base policy further with ranges. text: the ranges as a file, with comments."""
        # `curriculum` is the base's: whatever continues from it has been through that already.
        s = self._settings
        widening = {"until": s.widen, "start": NEUTRAL, "falls_per_minute": s.widen_falls_per_minute}
        config = {**self._config(name), "seed": seed, "env_steps": env_steps}
        config["curriculum"] = widening if s.widen else None
        job = self._run(name, arm, source, reward, config, ranges, _learner_of(base))
        return job | {"randomization": text}

    def figures(self, name: str) -> Job:
        """Measure a policy on the report physics."""
        return {
            "kind": "report", "folder": str(self._folder.candidate(name)), "result": REPORT,
            "evaluation": self._settings.evaluation("report"), "threads": self._settings.threads,
        }  # fmt: skip

    def _run(
        self, name: str, arm: str, source: str, reward: str, config: dict[str, Any], ranges: Ranges,
        initial: Path | None,
    ) -> Job:  # fmt: skip
        job = self._training(self._folder.candidate(name), rung_file(0), name, source, config)
        return job | {
            "run_kind": "design", "arm": arm, "reward": reward, "target": config["env_steps"],
            "ranges": {term: list(span) for term, span in ranges.items()},
            "initial": None if initial is None else str(initial),
        }  # fmt: skip


def _learner_of(base: Path) -> Path:
    """The checkpoint that the training of a base left, with its learner's state.

    The confined child's own, where it was confined: the run's has the policy alone. It was written where code of a
    model ran, so it must be no link to elsewhere, and only what is confined itself reads it.
    """
    if not (base / "train").is_dir():
        return base / CHECKPOINT
    os.close(open_plain_file(base, f"train/{CHECKPOINT}", _MAX_CHECKPOINT_BYTES))
    return base / "train" / CHECKPOINT


def result_of(run: Path) -> dict[str, Any]:
    """What a training's job left: whether it is good, and its figures on select."""
    return dict(json.loads((run / rung_file(0)).read_text()))


def width_of(result: Mapping[str, Any]) -> float | None:
    """How wide a training's ranges were at its end, as a share of their width; None where it does not say."""
    latest = result["course"][-1] if result["course"] else None
    phases = latest.get("curriculum") if isinstance(latest, Mapping) else None
    return number(phases.get("curriculum", 1.0)) if isinstance(phases, Mapping) else None
