"""progress.jsonl: the learning curves of a training, one JSON object an iteration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watch import files
from watch.values import number, text

SCALARS = ("env_steps", "seconds", "env_steps_per_s", "reward", "fitness", "falls_per_minute")
GROUPS = ("components", "measures", "curriculum", "train")
MAX_NAMES = 60
"""Curves of one group; a file with more names is damaged or made to do harm."""

Column = list[float | None]


@dataclass
class Progress:
    """Columns of equal length, one entry an iteration; None where an iteration lacks the number."""

    iteration: list[int] = field(default_factory=list)
    scalars: dict[str, Column] = field(default_factory=dict)
    groups: dict[str, dict[str, Column]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What was wrong with the file, in words."""

    def __len__(self) -> int:
        return len(self.iteration)

    def last(self, name: str) -> float | None:
        """The newest value of a scalar."""
        return next((v for v in reversed(self.scalars.get(name, [])) if v is not None), None)

    def thinned(self, points: int) -> Progress:
        """At most about `points` iterations, evenly spread, the last one among them."""
        count = len(self)
        if count <= points:
            return self
        keep = sorted({round(i * (count - 1) / (points - 1)) for i in range(points)})
        pick = lambda column: [column[i] for i in keep]  # noqa: E731
        return Progress(
            pick(self.iteration),
            {name: pick(column) for name, column in self.scalars.items()},
            {g: {name: pick(column) for name, column in group.items()} for g, group in self.groups.items()},
            self.notes,
        )


def read(path: Path, points: int | None = None, groups: Sequence[str] = GROUPS) -> Progress:
    """The curves in the file. Lines that are damaged are left out and counted in `notes`.

    A training that was killed and resumed writes some iterations twice: the later ones count. With `points`,
    only about so many lines, evenly spread, are parsed, the last two among them; `groups` says which to keep.
    """
    rows: list[dict[str, Any]] = []
    lines = list(files.lines(path))
    total = sum(map(len, lines))
    if points is not None and len(lines) > points:
        keep = {round(i * (len(lines) - 1) / (points - 1)) for i in range(points)} | {len(lines) - 2}
        lines = [lines[i] for i in sorted(keep)]
    bad, cut = 0, False
    for line in lines:
        cut = not line.endswith(b"\n")
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            iteration = number(row.get("iteration")) if isinstance(row, dict) else None
            if iteration is None or abs(iteration) > 2**53:
                raise ValueError
        except (ValueError, RecursionError):
            bad += 1
            continue
        cut = False
        row["iteration"] = int(iteration)
        while rows and rows[-1]["iteration"] >= row["iteration"]:
            rows.pop()
        rows.append(row)
    result = _columns(rows, groups)
    if cut and bad:
        bad -= 1
        result.notes.append("its last line is cut off: the training was killed, or is writing it right now")
    if bad:
        result.notes.append(f"{bad} damaged {'line' if bad == 1 else 'lines'} left out")
    if total >= files.PROGRESS_LIMIT:
        result.notes.append(f"only the first {files.PROGRESS_LIMIT // files.MIB} MiB are shown")
    return result


def _columns(rows: list[dict[str, Any]], groups: Sequence[str]) -> Progress:
    result = Progress(iteration=[row["iteration"] for row in rows])
    for name in SCALARS:
        column = [number(row.get(name)) for row in rows]
        if any(value is not None for value in column):
            result.scalars[name] = column
    for group in groups:
        cells = [cell if isinstance(cell := row.get(group), dict) else {} for row in rows]
        names = list(dict.fromkeys(name for cell in cells for name in cell))
        if len(names) > MAX_NAMES:
            result.notes.append(f"{len(names)} {group}; the first {MAX_NAMES} are shown")
        columns = {text(name) or "?": [number(cell.get(name)) for cell in cells] for name in names[:MAX_NAMES]}
        result.groups[group] = {n: c for n, c in columns.items() if any(v is not None for v in c)}
    return result
