"""episodes.json: every evaluated episode with the physics that it drew, so that survival can be plotted against it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents import run_folder
from configs.errors import UserError
from envs.environment import Environment
from envs.randomization import TERMS

FILE = "episodes.json"
FORMAT = 1
_AXES = ("x", "y", "z")


def drawn_physics(environment: Environment) -> dict[str, dict[str, Any]]:
    """What each simulation drew for its first episode, one column of N numbers a quantity, JSON-ready.

    A term with three elements gives a column an axis, `center_of_mass.x`; one with more (an element a joint)
    the mean over its elements. `elements` says over how many numbers a column is the mean.
    """
    n = environment.num_envs
    rows = [environment.randomizer.describe(i, 0) for i in range(n)]
    columns: dict[str, dict[str, Any]] = {}
    for term in rows[0] if rows else ():
        values = np.array([row[term] for row in rows])  # (N, elements)
        if values.shape[1] == len(_AXES):
            parts = {f"{term}.{axis}": (values[:, k], 1) for k, axis in enumerate(_AXES)}
        else:
            parts = {term: (values.mean(1), values.shape[1])}
        for name, (column, elements) in parts.items():
            columns[name] = {"unit": TERMS[term].unit, "elements": elements, "values": _short(column)}
    return columns


class EpisodeTable:
    """Gathers batches of episodes, set by set, as `evaluate` runs them."""

    def __init__(self) -> None:
        self.sets: dict[str, dict[str, Any]] = {}

    def add(self, name: str, environment: Environment, episodes: Any) -> None:
        """One batch of the physics set `name`; `episodes` is an evaluate.Episodes of that environment."""
        batch = {
            "fitness": _short(episodes.fitness),
            "fallen": episodes.fallen.astype(int).tolist(),
            "diverged": episodes.diverged.astype(int).tolist(),
            "length_s": _short(episodes.length_s),
        }
        physics = drawn_physics(environment)
        known = self.sets.get(name)
        if known is None:
            self.sets[name] = {**batch, "physics": physics}
            return
        for key, values in batch.items():
            known[key] += values
        for key, column in physics.items():
            known["physics"][key]["values"] += column["values"]

    def write(self, run: Path, report: Mapping[str, Any]) -> Path:
        """Writes RUN/episodes.json; sets that were measured before stay if they compare with `report`."""
        about = {key: report[key] for key in ("task", "physics_hash", "episodes", "seeds")}
        sets = self.sets
        path = run / FILE
        try:
            before = run_folder.read_json(path)
        except UserError:  # none, or damaged: the evaluation that has just been made does not depend on it
            before = {}
        if all(before.get(key) == value for key, value in about.items()):
            sets = {**before.get("sets", {}), **sets}
        content = json.dumps({"format": FORMAT, **about, "sets": sets}, separators=(",", ":"))
        run_folder.write_atomically(path, content + "\n")
        return path


def _short(values: np.ndarray) -> list[float]:
    """Four significant digits: enough for a plot, and half the bytes. NaN, as of a diverged episode, becomes 0."""
    return [float(f"{v:.4g}") for v in np.nan_to_num(np.asarray(values, dtype=float))]
