"""episodes.json: single episodes with the physics that each drew, binned into falls and fitness per parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents.shares import wilson
from watch import files
from watch.evaluation import SET_NAMES
from watch.files import MIB, Unreadable
from watch.values import mapping, number, text

LIMIT = 16 * MIB
MAX_EPISODES, MAX_COLUMNS, MAX_SETS = 20_000, 80, 6
MOST_BINS, EPISODES_A_BIN = 8, 40
_Z = 1.959964
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Column:
    """One physical quantity of every episode."""

    name: str
    unit: str
    elements: int
    """Over how many numbers, such as one a joint, it is the mean."""
    values: np.ndarray


@dataclass(frozen=True)
class EpisodeSet:
    """The episodes of one physics set; those whose simulation diverged are left out."""

    name: str
    fitness: np.ndarray
    fallen: np.ndarray
    columns: dict[str, Column] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return SET_NAMES.get(self.name, (self.name, ""))[0]


def read(run: Path, name: str = "episodes.json") -> list[EpisodeSet]:
    """The sets in the file; those of another form are left out. Raises Unreadable."""
    content = files.parse_json(files.read_text(run, name, LIMIT))
    found = []
    for set_name, raw in list(mapping(content.get("sets")).items())[:MAX_SETS]:
        batch = mapping(raw)
        fitness, fallen = _numbers(batch.get("fitness")), _numbers(batch.get("fallen"))
        diverged = _numbers(batch.get("diverged"))
        if fitness is None or fallen is None or len(fallen) != len(fitness) or not len(fitness):
            continue
        kept = np.ones(len(fitness), bool) if diverged is None or len(diverged) != len(fitness) else diverged == 0
        columns = {}
        for column_name, column in list(mapping(batch.get("physics")).items())[:MAX_COLUMNS]:
            about = mapping(column)
            values = _numbers(about.get("values"))
            if values is not None and len(values) == len(fitness):
                unit, elements = text(about.get("unit"), 20) or "", int(number(about.get("elements")) or 1)
                columns[column_name] = Column(column_name, unit, elements, values[kept])
        found.append(EpisodeSet(set_name, fitness[kept], fallen[kept] > 0, columns))
    if not found:
        raise Unreadable("holds no episodes")
    return found


def _numbers(value: Any) -> np.ndarray | None:
    if not isinstance(value, list) or len(value) > MAX_EPISODES:
        return None
    result = [number(v) for v in value]
    return None if any(v is None for v in result) else np.array(result, np.float64)


def panels(
    sets: list[EpisodeSet],
    ranges: dict[str, tuple[float, float]],
    marks: dict[str, dict[str, np.ndarray]] | None = None,
) -> list[dict[str, Any]]:
    """One panel a quantity that was drawn, JSON-ready, those first on which fitness depends most.

    Each holds per physics set the bins of the quantity, with falls and fitness and their 95 % intervals; `train` is
    the range of the training, where the quantity is one of its terms.

    Args:
        sets: the episodes.
        ranges: of the training, by term.
        marks: the episodes in which a term was shifted stand apart in its panel, in `shifted`: in each of them one
            less of the others is shifted, so they do not continue the curve.
    """
    names = list(dict.fromkeys(name for s in sets for name in s.columns))
    made = []
    for name in names:
        curves, strength, term = [], 0.0, name.partition(".")[0]
        for s in sets:
            column = s.columns.get(name)
            if column is None or not len(column.values) or not np.ptp(column.values) > 0:
                continue
            apart = (marks or {}).get(s.name, {}).get(term, np.zeros(len(column.values), bool))
            bins, effect = _bins(column.values[~apart], s.fitness[~apart], s.fallen[~apart])
            beyond = _bin(column.values[apart], s.fitness[apart], s.fallen[apart]) if apart.any() else None
            strength = max(strength, effect)
            curves.append({"set": s.label, "bins": bins, "shifted": beyond})
        if not curves:
            continue
        known = next(s.columns[name] for s in sets if name in s.columns)
        made.append({
            "name": name.replace(".", " "), "unit": known.unit, "elements": known.elements,
            "train": list(ranges[term]) if term in ranges and known.elements == 1 else None,
            "strength": strength, "curves": curves,
        })  # fmt: skip
    return sorted(made, key=lambda panel: -panel["strength"])


def _bins(values: np.ndarray, fitness: np.ndarray, fallen: np.ndarray) -> tuple[list[dict[str, Any]], float]:
    """Bins of equally many episodes, and how strongly fitness differs between them (the F statistic)."""
    if not len(values):
        return [], 0.0
    count = max(1, min(MOST_BINS, len(values) // EPISODES_A_BIN)) if np.ptp(values) > 0 else 1
    parts = np.array_split(np.argsort(values, kind="stable"), count)
    bins = [_bin(values[part], fitness[part], fallen[part]) for part in parts]
    between = sum(len(part) * float(fitness[part].mean() - fitness.mean()) ** 2 for part in parts)
    within = sum(len(part) * float(fitness[part].var()) for part in parts)
    if count < 2 or within <= 0:
        return bins, 0.0
    return bins, (between / (count - 1)) / (within / (len(values) - count))


def _bin(values: np.ndarray, fitness: np.ndarray, fallen: np.ndarray) -> dict[str, Any]:
    n = len(values)
    share, low, high = wilson(int(fallen.sum()), n)
    middle = float(fitness.mean())
    half = _Z * (float(fitness.std(ddof=1)) if n > 1 else 0.0) / math.sqrt(n)
    return {
        "x": _short(values.mean()), "from": _short(values.min()), "to": _short(values.max()), "n": n,
        "falls": [_short(share), _short(low), _short(high)],
        "fitness": [_short(middle), _short(middle - half), _short(middle + half)],
    }  # fmt: skip


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")
