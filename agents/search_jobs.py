"""The jobs of a search: written as files, handed to whichever launcher is configured, read back from run folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents import run_folder
from agents.candidate import CHECK, REPORT, rung_file
from agents.search_folder import SearchFolder
from agents.search_progress import watching
from configs.errors import UserError

Launch = Callable[[Sequence[Path]], None]
"""Runs job files, in any order or side by side, and returns when all are done (agents.candidate.run_job)."""
Job = dict[str, Any]


class Jobs:
    """Makes jobs and runs them. A job whose result stands on disk is not run again."""

    command = "gantry search"
    """What goes on where it was stopped."""

    def __init__(self, folder: SearchFolder, states: Path, launch: Launch) -> None:
        self._folder, self._states, self._launch = folder, states, launch
        self._settings = folder.settings

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """One launch of those that have no result yet; returns all results in order.

        Raises:
            UserError: a job left no result; the search can be resumed.
        """
        waiting = []
        for job in jobs:
            if not self._result(job).is_file():
                stem = f"{Path(job['folder']).name.removeprefix(self._folder.id + '-')}.{Path(job['result']).stem}"
                path = self._folder.path / "jobs" / f"{stem}.json"
                path.parent.mkdir(exist_ok=True)
                run_folder.write_atomically(path, json.dumps(job) + "\n")
                waiting.append(path)
        if waiting:
            with watching([self._result(job) for job in jobs], _title(jobs[0])):
                self._launch(waiting)
        results = []
        for job in jobs:
            path = self._result(job)
            if not path.is_file():
                raise UserError(
                    f"the job for {path} ended without a result; the launcher's log says why. Continue with: "
                    f"{self.command} resume={self._folder.path}"
                )
            results.append(run_folder.read_json(path))
        return results

    @staticmethod
    def _result(job: Job) -> Path:
        return Path(job["folder"]) / job["result"]

    def check(self, name: str, arm: str, answer: str, author: str, cost_usd: float | None) -> Job:
        """Check and dry-run an answer."""
        return {
            **self._common("check", self._folder.candidate(name), CHECK), "run_kind": "candidate",
            "candidate": name, "arm": arm, "answer": answer, "author": author, "states": str(self._states),
            "model_cost_usd": cost_usd, "config": self._config(name), "trust": self._settings.trust,
        }  # fmt: skip

    def train(self, name: str, source: str, rung: int) -> Job:
        """Train a candidate until the end of a rung."""
        return {
            **self._training(self._folder.candidate(name), rung_file(rung), name, source, self._config(name)),
            "target": self._settings.targets[rung],
        }

    def final(self, name: str, arm: str, source: str, reward: str, seed: int) -> Job:
        """Train a finalist in full with a new seed. reward: the text of its reward.py."""
        run = f"{name}-seed{seed}"
        config = {**self._config(run), "seed": seed}
        return {
            **self._training(self._folder.candidate(run), rung_file(0), name, source, config),
            "run_kind": "finalist", "arm": arm, "reward": reward, "target": self._settings.targets[-1],
        }  # fmt: skip

    def report(self, run: str) -> Job:
        """Measure a finalist's policy on the report physics."""
        return {
            **self._common("report", self._folder.candidate(run), REPORT),
            "evaluation": self._settings.evaluation("report"), "threads": self._settings.threads,
        }  # fmt: skip

    def _common(self, kind: str, folder: Path, result: str) -> Job:
        ranges = {term: list(bounds) for term, bounds in self._settings.ranges.items()}
        return {
            "kind": kind, "folder": str(folder), "result": result, "search": self._folder.id, "ranges": ranges,
        }  # fmt: skip

    def _training(self, folder: Path, result: str, name: str, source: str, config: dict[str, Any]) -> Job:
        return {
            **self._common("train", folder, result), "run_kind": "candidate", "candidate": name,
            "source": source, "config": config, "wall_s": self._settings.wall_s,
            "memory_gb": self._settings.memory_gb, "trust": self._settings.trust,
            "evaluation": self._settings.evaluation("select"),
        }  # fmt: skip

    def _config(self, name: str) -> dict[str, Any]:
        return {**self._settings.train, "name": f"{self._settings.name}-{name}"}


def _title(job: Job) -> str:
    """What a round of such jobs does, for the progress display."""
    if job["kind"] == "train":
        return f"training to {job['target']:,} steps"
    titles = {"check": "checking code", "report": "measuring on report physics", "prior": "measuring the physics prior"}
    return titles[job["kind"]]
