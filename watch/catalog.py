"""All runs and searches below a folder as the data of the board; what has not changed is not read again."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from watch import search_tree
from watch.run_reader import Run, find_runs, read_run
from watch.search_tree import Searches
from watch.values import Interval, number

CURVE_POINTS = 120
"""Of each curve of a run; a thousand runs have to open at once."""
COMPONENT_POINTS = 40
"""Of the curve of each reward component."""
MAX_COMPONENTS = 24
REWARD_LIMIT = 60_000
"""Characters of reward code that the board keeps for differences."""
_FILES = (
    "run.json", "config.yaml", "reward.py", "randomization.yaml", "progress.jsonl", "evaluation.json", "video.mp4",
    "report.html", "stages.json",
)  # fmt: skip

_SHOWN_ELSEWHERE = ("task", "name", "runs")
"""Overrides that other columns show, or that say where the folder lies."""

Stamp = tuple[tuple[int, int] | None, ...]


class Catalog:
    """The runs below a folder, kept up to date by `refresh`."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.rows: dict[str, dict[str, Any]] = {}
        """What the table shows of each run, by its id, TASK/NAME; newest first."""
        self.details: dict[str, dict[str, Any]] = {}
        """What a comparison needs: curves, configuration, ranges."""
        self.rewards: dict[str, str] = {}
        """Reward code by digest: many runs share one."""
        self.searches = Searches(runs)
        self._stamps: dict[str, Stamp] = {}

    def refresh(self) -> set[str]:
        """Reads what has changed since the last call; returns the ids of changed, new and vanished runs and searches.

        A search's id is its folder's, sweeps/NAME.
        """
        changed = {f"sweeps/{name}" for name in self.searches.refresh()}
        rows = {}
        for path in find_runs(self.runs):
            key = os.fsencode(path.relative_to(self.runs)).decode("utf-8", "backslashreplace")
            stamp = _stamp(path)
            known = self.rows.get(key)
            # Whether a running run has gone silent changes with time alone.
            if known is None or stamp != self._stamps[key] or known["state"] == "running":
                run = read_run(path, points=CURVE_POINTS)
                row, details = self._row(key, run), self._details(run)
                if row != known or details != self.details.get(key):
                    changed.add(key)
                known, self.details[key], self._stamps[key] = row, details, stamp
            rows[key] = known
        for gone in self.rows.keys() - rows.keys():
            changed.add(gone)
            del self.details[gone], self._stamps[gone]
        self.rows = dict(sorted(rows.items(), key=lambda item: item[1]["name"], reverse=True))
        return changed

    def data(self, ids: set[str] | None = None) -> dict[str, Any]:
        """JSON-ready: every row, and the details of the runs and searches in `ids` (of all by default).

        A run's configuration is given as its difference from `base`, the first one of its task.
        """
        base: dict[str, dict[str, str]] = {}
        details = {}
        for key in self.rows:
            if ids is None or key in ids:
                entry = self.details[key]
                first = base.setdefault(self.rows[key]["task"], entry["config"]) or {}
                differs: dict[str, str | None] = {k: v for k, v in entry["config"].items() if first.get(k) != v}
                differs |= {k: None for k in first.keys() - entry["config"].keys()}
                details[key] = {**entry, "config": differs}
        used = {entry["reward"]: self.rewards[entry["reward"]] for entry in details.values() if entry["reward"]}
        found = self.searches.found
        trees = {s.id: search_tree.details(s, used) for n, s in found.items() if ids is None or f"sweeps/{n}" in ids}
        return {
            "updated": time.strftime("%Y-%m-%d %H:%M:%S"),
            "rows": list(self.rows.values()),
            "searches": [search_tree.summary(s) for s in found.values()],
            "details": {"base": base, "runs": details, "searches": trees, "rewards": used},
        }  # fmt: skip

    def _row(self, key: str, run: Run) -> dict[str, Any]:
        best = run.evaluation.main
        fitness = best.fitness if best else None
        last = run.progress.last("fitness")
        return {
            "id": key,
            "task": run.task,
            "name": run.name,
            "state": run.state,
            "reason": run.reason,
            "reward": run.reward_name or ("?" if run.reward_source is None else "reward.py"),
            "ranges": _ranges_label(run),
            "overrides": " ".join(o for o in run.overrides if o.partition("=")[0] not in _SHOWN_ELSEWHERE)[:200],
            "fitness": _short(fitness.mean if fitness else last),
            "low": _short(fitness.low) if fitness else None,
            "high": _short(fitness.high) if fitness else None,
            "judged": best.label if best and fitness else None,
            "falls": _short(best.fall_rate.mean * 100) if best and best.fall_rate else None,
            "minutes": _short(run.seconds / 60) if run.seconds else None,
            "steps": run.env_steps,
            "cost": number(run.record.get("model_cost_usd")),
            "stages": [
                [stage.env_steps, _short(stage.fitness), _address(run.path, self.runs, stage.video)]
                for stage in run.stages
            ],
            "video": _address(run.path, self.runs, "video.mp4") if run.video else None,
            "report": _address(run.path, self.runs, "report.html") if _is_file(run.path / "report.html") else None,
        }

    def _details(self, run: Run) -> dict[str, Any]:
        scalars = run.progress.thinned(CURVE_POINTS).scalars
        names = ("env_steps", "seconds", "fitness", "falls_per_minute", "reward")
        few = run.progress.thinned(COMPONENT_POINTS)
        digest = None
        if run.reward_source is not None:
            source = run.reward_source[:REWARD_LIMIT]
            digest = hashlib.sha256(source.encode()).hexdigest()[:16]
            self.rewards[digest] = source
        return {
            "curves": {name: [_short(v) for v in scalars[name]] for name in names if name in scalars},
            "components": {
                "env_steps": [_short(v) for v in few.scalars.get("env_steps", [])],
                "seconds": [_short(v) for v in few.scalars.get("seconds", [])],
                "columns": {
                    name: [_short(v) for v in column]
                    for name, column in list(few.groups.get("components", {}).items())[:MAX_COMPONENTS]
                },
            },
            "config": run.config,
            "ranges": {term: f"{low:g} to {high:g}" for term, (low, high) in run.ranges.items()},
            "reward": digest,
            "physics": run.evaluation.physics_hash,
            "sets": {s.label: [_interval(s.fitness), _interval(s.fall_rate)] for s in run.evaluation.sets.values()},
        }


def _interval(value: Interval | None) -> list[float | None] | None:
    if value is None:
        return None
    share = value.as_share
    return [_short(share.mean), _short(share.low), _short(share.high)]


def _ranges_label(run: Run) -> str | None:
    """How the ranges were chosen (task, none, a file) and how many terms they have."""
    chosen = run.config.get("randomization", "")
    chosen = chosen.rsplit("/", 1)[-1] if chosen else ("inline" if run.ranges else "")
    return f"{chosen} ({len(run.ranges)})" if run.ranges else chosen or None


def _stamp(path: Path) -> Stamp:
    return tuple(_size_and_time(path / name) for name in _FILES)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        info = path.stat()
    except (OSError, ValueError):
        return None
    return info.st_size, info.st_mtime_ns


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _address(run: Path, runs: Path, name: str) -> str:
    """The file's address relative to the board's page, whatever characters the folders' names have."""
    return "/".join(quote(os.fsencode(part), safe="") for part in (*run.relative_to(runs).parts, *name.split("/")))


def _short(value: float | None) -> float | None:
    """Four significant digits are enough for a table and a curve, and a third of the bytes."""
    return None if value is None else float(f"{value:.4g}")
