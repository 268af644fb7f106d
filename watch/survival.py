"""The report's part on survival: falls and fitness against each physics parameter, and which shift hurts."""

from __future__ import annotations

from watch import episodes, shifts, words
from watch.run_reader import Run
from watch.section import Section

SHOWN = 12
"""Panels that are open; the rest is folded away."""


def section(run: Run) -> Section | None:
    """None where no episode is known."""
    known = shifts.known_shifts(run.task, run.evaluation.physics_hash)
    marks = {s.name: shifts.shifted(s, known[s.name]) for s in run.episodes if s.name in known}
    compared = [found for s in run.episodes if s.name in known and (found := shifts.comparison(s, known[s.name]))]
    panels = episodes.panels(run.episodes, run.ranges, marks)
    if not panels:
        return None
    for panel in panels:
        panel["unit"] = words.readable_unit(panel["unit"])
    data = {
        "panels": panels, "shown": SHOWN, "shifts": compared,
        "apart": any(curve["shifted"] for panel in panels for curve in panel["curves"]),
        "unknown": [s.label for s in run.episodes if s.name in ("select", "report") and s.name not in known],
    }  # fmt: skip
    return Section("survival", "Survival", "_survival.html.j2", data, "survival.js")
