"""Which shift of the physics hurts: the terms of a shifted physics set against each other.

In each episode of a shifted set, m of its K terms are shifted and the others are not. So the terms compete for
places: an episode in which a harmless term is shifted has m - 1 others shifted, one in which it is not has m, and
"with minus without" makes the harmless term look protective. With effects e_i that add up, the expectation of "with
minus without" is K/(K-1) (e_i - mean of e): it measures the term against the average term, and only that can be
learned from such a set. That is what `comparison` gives, times (K-1)/K.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from watch.episodes import EpisodeSet

Ranges = dict[str, tuple[float, float]]
_Z = 1.959964
"""97.5 % quantile of the normal distribution."""
FEWEST = 5
"""Episodes with and without a term, below which it is not compared."""


def known_shifts(task: str, physics_hash: str | None) -> dict[str, Ranges]:
    """By physics set, the range that each of its terms is shifted to; only for sets of the very numbers that are ours.

    Empty where the task or the numbers are unknown: a run may come from another version.
    """
    try:
        from configs.errors import UserError
        from envs import physics, tasks
    except ImportError:  # reading a run needs no physics engine
        return {}
    try:
        found = tasks.get(task)
    except UserError:
        return {}
    if physics_hash != physics.digest(found):
        return {}
    sets = ((name, physics.physics_set(found, name)) for name in physics.SETS)
    return {name: dict(s.shifts) for name, s in sets if s.shifts}


def shifted(s: EpisodeSet, shifts: Ranges) -> dict[str, np.ndarray]:
    """(N,) by term: whether it was shifted in each episode. Ranges of shifts lie outside those of training."""
    found: dict[str, np.ndarray] = {}
    for term, (low, high) in shifts.items():
        slack = 0.002 * max(abs(low), abs(high))  # values are stored with four digits
        for name, column in s.columns.items():
            if name.partition(".")[0] == term:
                inside = (column.values >= low - slack) & (column.values <= high + slack)
                found[term] = found.get(term, np.ones(len(inside), bool)) & inside
    return found


def comparison(s: EpisodeSet, shifts: Ranges) -> dict[str, Any] | None:
    """Each term's effect on falls and fitness against that of the set's average term, JSON-ready, the worst first.

    `falls` and `fitness` are (effect, low, high) with 95 % intervals (Welch); falls as a share. None where it cannot
    be told what was shifted.
    """
    marks = shifted(s, shifts)
    count = len(marks)
    if count < 2 or len(marks) < len(shifts):
        return None
    at_once = np.sum(list(marks.values()), axis=0)
    if not (at_once == at_once[0]).all() or not 0 < at_once[0] < count:
        return None  # not a set in which terms compete as described above
    rows: list[dict[str, Any]] = []
    for term, mark in marks.items():
        if min(mark.sum(), (~mark).sum()) < FEWEST:
            continue
        scale = (count - 1) / count
        rows.append({
            "name": term, "n": int(mark.sum()),
            "falls": _difference(s.fallen.astype(float), mark, scale),
            "fitness": _difference(s.fitness, mark, scale),
        })  # fmt: skip
    rows.sort(key=lambda row: row["fitness"][0])
    return {"set": s.label, "at_once": int(at_once[0]), "of": count, "rows": rows} if rows else None


def _difference(values: np.ndarray, mark: np.ndarray, scale: float) -> list[float]:
    a, b = values[mark], values[~mark]
    middle = scale * float(a.mean() - b.mean())
    half = scale * _Z * math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return [float(f"{v:.4g}") for v in (middle, middle - half, middle + half)]
