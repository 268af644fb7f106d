"""The report's part on the physics prior: which physics a policy survives (agents/physics_prior.py has the file)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from watch import files, words
from watch.files import Unreadable
from watch.run_reader import Run
from watch.section import Section
from watch.values import mapping, number, text

FILE = "physics_prior.json"
MAX_TERMS, MAX_VALUES = 60, 200


def section(run: Run) -> Section | None:
    """None for runs whose prior was never measured, or cannot be read."""
    data = read(run.path)
    return None if data is None else Section("prior", "Physics prior", "_prior.html.j2", data, "prior.js")


def read(folder: Path) -> dict[str, Any] | None:
    """A curve a parameter, JSON-ready, and what success means; values of another form are left out."""
    try:
        content = files.read_json(folder, FILE)
    except Unreadable:
        return None
    terms = [
        found for name, raw in list(mapping(content.get("terms")).items())[:MAX_TERMS] if (found := _term(name, raw))
    ]
    if not terms:
        return None
    named = {name: number(content.get(name)) for name in
             ("fitness_threshold", "needed_share", "episodes", "episode_s", "scan_seconds", "bisection_seconds",
              "simulations", "push_every_s", "gravity_every_s")}  # fmt: skip
    return {"terms": terms, "digest": text(content.get("digest"), 40), **named}


def _term(name: str, raw: Any) -> dict[str, Any] | None:
    term = mapping(raw)
    points = []
    values = term.get("values")
    for entry in values[:MAX_VALUES] if isinstance(values, list) else ():
        point = [number(mapping(entry).get(key)) for key in ("value", "share", "low", "high")]
        if None not in point:
            points.append(point)
    neutral = number(term.get("neutral"))
    if not points or neutral is None:
        return None
    limited = term.get("limited")
    flags = [flag is True for flag in limited] if isinstance(limited, list) and len(limited) == 2 else [True, True]
    return {
        "name": name, "unit": words.readable_unit(text(term.get("unit"), 20) or ""),
        "meaning": text(term.get("meaning")), "neutral": neutral, "range": _pair(term.get("range")), "limited": flags,
        "symmetric": term.get("symmetric") is True, "points": sorted(points),
    }  # fmt: skip


def _pair(value: Any) -> list[float] | None:
    ends = [number(v) for v in value] if isinstance(value, list) and len(value) == 2 else []
    return [ends[0], ends[1]] if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None
