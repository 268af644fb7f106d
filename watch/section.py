"""A part of a run's report that a module of its own makes: report.py lists the makers, the page does the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """What the report's page needs to show the part."""

    id: str
    """Of the <section> element; the data is in the element ID-data."""
    title: str
    """In the page's navigation."""
    template: str
    """In watch/templates; it gets this object as `section`, and escapes every text."""
    data: Any = None
    """JSON-ready, for the script: `JSON.parse(document.getElementById("ID-data").textContent)`."""
    script: str | None = None
    """In watch/static; it finds dom.js, charts.js and plotly."""
