"""The finals: the best candidates of each arm are trained again with new seeds, and the winner reads `report`.

Selection looks at the select physics only, over all new seeds; the winners' figures come from the report physics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.candidate_record import Candidate, ranked
from agents.search_folder import SearchFolder
from agents.search_jobs import Jobs
from envs import rewards


@dataclass(frozen=True)
class Finalist:
    """Code that is trained again."""

    name: str
    arm: str
    source: str
    reward: str
    """Text of its reward.py."""


@dataclass(frozen=True)
class Winner:
    """An arm's best finalist, with its figures on the report physics."""

    finalist: Finalist
    select: float
    """Mean fitness over the seeds on select."""
    fitness: list[float]
    """On report, one number a seed; 0 where the training failed."""
    measures: dict[str, Any]
    fall_rate: float
    failed: int
    """Seeds whose training failed."""


class Finals:
    """Trains finalists, picks winners and reports on them. What is on disk is not done again."""

    def __init__(self, folder: SearchFolder, jobs: Jobs, say: Callable[[str], None]) -> None:
        self._folder, self._jobs, self._say = folder, jobs, say
        self._settings, self._ledger = folder.settings, folder.ledger

    def run(self, arms: Mapping[str, Sequence[Candidate]]) -> dict[str, Winner]:
        """arms: every candidate of the arms that searched. Human and sparse rewards join as the settings say."""
        finalists = [f for arm, candidates in arms.items() for f in self._of_arm(arm, candidates)]
        for arm in self._settings.other_arms:
            if arm in ("human", "sparse"):
                finalists += self._given(arm)
        seeds = self._settings.final_seed_list
        pairs = [(finalist, seed) for finalist in finalists for seed in seeds]
        self._say(f"finals: {len(finalists)} rewards with {len(seeds)} new seeds each")
        results = self._jobs.run([self._jobs.final(f.name, f.arm, f.source, f.reward, seed) for f, seed in pairs])
        select: dict[str, dict[int, float]] = {f.name: {} for f in finalists}
        failed: set[str] = set()
        for (finalist, seed), result in zip(pairs, results, strict=True):
            run = f"{finalist.name}-seed{seed}"
            figures = result["select"]
            self._ledger.add(
                "final", run, candidate=finalist.name, arm=finalist.arm, seed=seed, ok=result["ok"],
                folder=self._folder.relative(self._folder.candidate(run)), env_steps=result["env_steps"],
                fitness=figures and figures["fitness"], problem=result["problem"],
            )  # fmt: skip
            select[finalist.name][seed] = figures["fitness"]["mean"] if result["ok"] else 0.0
            if not result["ok"]:
                failed.add(run)
        return self._winners(finalists, select, failed)

    def _of_arm(self, arm: str, candidates: Sequence[Candidate]) -> list[Finalist]:
        chosen: list[Finalist] = []
        for candidate in ranked(list(candidates)):
            # The same code twice would be one finalist with twice the chance.
            if len(chosen) < self._settings.finalists and candidate.source not in [f.source for f in chosen]:
                reward = (self._folder.candidate(candidate.name) / "reward.py").read_text(encoding="utf-8")
                chosen.append(Finalist(candidate.name, arm, candidate.source or "", reward))
        if not chosen:
            self._say(f"{arm}: no candidate was trained in full")
        return chosen

    def _given(self, arm: str) -> list[Finalist]:
        """A reward of the task's own, which goes the same way as any candidate."""
        path = rewards.path_of(arm, self._settings.definition)
        text = path.read_text(encoding="utf-8")
        [result] = self._jobs.run([self._jobs.check(arm, arm, f"```python\n{text}\n```", "people", None)])
        if not result["ok"]:
            self._say(f"{arm}: {'; '.join(result['problems'])}")
            return []
        return [Finalist(arm, arm, result["source"], text)]

    def _winners(
        self, finalists: Sequence[Finalist], select: Mapping[str, Mapping[int, float]], failed: set[str]
    ) -> dict[str, Winner]:
        mean = {name: sum(values.values()) / len(values) for name, values in select.items()}
        chosen: dict[str, Finalist] = {}
        for finalist in finalists:  # in order of the ranking, so an earlier one wins among equals
            best = chosen.get(finalist.arm)
            if best is None or mean[finalist.name] > mean[best.name]:
                chosen[finalist.arm] = finalist
        for arm, finalist in chosen.items():
            of_arm = {f.name: mean[f.name] for f in finalists if f.arm == arm}
            self._ledger.add("winner", arm, candidate=finalist.name, select=of_arm)
        seeds = self._settings.final_seed_list
        good = [run for f in chosen.values() for seed in seeds if (run := f"{f.name}-seed{seed}") not in failed]
        results = dict(zip(good, self._jobs.run([self._jobs.report(run) for run in good]), strict=True))
        return {arm: self._winner(f, mean[f.name], results) for arm, f in chosen.items()}

    def _winner(self, finalist: Finalist, select: float, results: Mapping[str, Mapping[str, Any]]) -> Winner:
        """results: report.json of every good run, by its name."""
        runs = {seed: f"{finalist.name}-seed{seed}" for seed in self._settings.final_seed_list}
        fitness, falls, measures = [], [], []
        for seed, run in runs.items():
            report = results[run]["report"] if run in results else None
            fitness.append(report["fitness"]["mean"] if report else 0.0)
            if report is None:
                continue
            falls.append(report["fall_rate"]["mean"])
            measures.append(report["measures"])
            self._ledger.add(
                "reported", run, candidate=finalist.name, arm=finalist.arm, seed=seed,
                folder=self._folder.relative(self._folder.candidate(run)), fitness=report["fitness"],
                fall_rate=report["fall_rate"]["mean"],
                measures={name: value["mean"] for name, value in report["measures"].items()},
            )  # fmt: skip
        means = {
            name: {"mean": sum(m[name]["mean"] for m in measures) / len(measures), "unit": value["unit"]}
            for name, value in (measures[0].items() if measures else ())
        }
        fall_rate = sum(falls) / len(falls) if falls else 0.0
        return Winner(finalist, select, fitness, means, fall_rate, sum(run not in results for run in runs.values()))
