"""Transfers and designs of ranges as something to show, whatever state they are in.

agents/randomization_design.py and sim2real/transfer.py have the formats. Much of it comes from a model or from somebody
else: values are checked, texts bounded, paths kept inside.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watch import files
from watch.files import Unreadable
from watch.values import Interval, mapping, number, text

TRANSFER, DESIGN = "transfer.jsonl", "randomize.jsonl"
"""The ledgers by which such folders are known."""
STAGES = {"search": "Reward", "ranges": "Ranges", "export": "Bundle", "tour": "Tour", "report": "Report"}
MAX_PROPOSALS, MAX_TERMS, MAX_LINES, MAX_TOURS = 400, 60, 40, 100


@dataclass
class Proposal:
    """Ranges that were trained with."""

    name: str
    arm: str = ""
    model: str | None = None
    replayed: bool = False
    ranges: list[tuple[str, float, float, str]] = field(default_factory=list)
    """(term, low, high, reason)"""
    note: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    usable: bool = True
    fitness: float | None = None
    """On select, after its training."""
    fall_rate: float | None = None
    chosen: bool = False


@dataclass
class Design:
    """One design of ranges."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)
    prior_run: str | None = None
    bases: list[str] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    arms: list[dict[str, Any]] = field(default_factory=list)
    """The table's rows: arm, proposal, fitness, difference, fall_rate, select, measures."""
    seeds: int | None = None
    finals: int = 0
    best_run: str | None = None


@dataclass
class Transfer:
    """One transfer."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each finished stage said, by name."""
    tours: list[dict[str, Any]] = field(default_factory=list)


def events(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Those of a ledger; lines that are cut short are skipped. Nothing where there is no such file."""
    try:
        source = files.read_text(folder, name, 16 * files.MIB)
    except Unreadable:
        return
    for line in source.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


def read_transfer(folder: Path) -> Transfer:
    """Whatever stands in the folder."""
    found = Transfer(folder)
    for event in events(folder, TRANSFER):
        if event["event"] == "transfer":
            found.about = mapping(event)
        elif event["event"] == "stage" and event.get("key") in STAGES:
            found.stages.setdefault(str(event["key"]), mapping(event.get("content")))
    try:
        rows = files.read_json(folder, "tours.json").get("tours")
    except Unreadable:
        rows = []
    for row in rows[:MAX_TOURS] if isinstance(rows, list) else ():
        found.tours.append(_tour(mapping(row)))
    return found


def _lines(value: Any, most: int = MAX_LINES) -> list[str]:
    """The texts of a list."""
    return [line for v in value[:most] if (line := text(v))] if isinstance(value, list) else []


def _tour(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "robot": text(row.get("robot")) or "", "physics": text(row.get("physics"), 40) or "",
        "seed": number(row.get("seed")), "ok": row.get("ok") is True,
        "falls": number(row.get("falls")), "distance_m": number(row.get("distance_m")),
        "missed": number(row.get("missed_deadlines")),
        "trouble": _lines(row.get("damped_for"), 8) or _lines(row.get("undone"), 8),
    }  # fmt: skip


def read_design(folder: Path) -> Design:
    """Whatever stands in the folder."""
    found = Design(folder)
    proposals: dict[str, Any] = {}
    for event in events(folder, DESIGN):
        kind, key = event["event"], text(event.get("key"), 80) or ""
        if kind == "randomize":
            found.about = mapping(event)
        elif kind == "base" and (run := text(event.get("run"), 120)):
            found.bases.append(run)
        elif kind == "prior":
            found.prior_run = text(event.get("run"), 120)
        elif kind == "proposal" and len(proposals) < MAX_PROPOSALS:
            proposals.setdefault(key, _proposal(key, event))
        elif kind == "tuned" and key in proposals:
            fitness = Interval.read(event.get("fitness"))
            proposals[key].fitness = None if fitness is None else fitness.mean
            proposals[key].fall_rate = number(event.get("fall_rate"))
        elif kind == "chosen" and (name := text(event.get("proposal"), 80)) in proposals:
            proposals[name or ""].chosen = True
        elif kind == "final":
            found.finals += 1
    found.proposals = list(proposals.values())
    with contextlib.suppress(Unreadable):
        _take_table(found, files.read_json(folder, "table.json"))
    return found


def _proposal(name: str, event: dict[str, Any]) -> Proposal:
    reasons = mapping(event.get("reasons"))
    ranges = []
    for term, span in list(mapping(event.get("ranges")).items())[:MAX_TERMS]:
        ends = [number(v) for v in span] if isinstance(span, list) and len(span) == 2 else []
        if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
            ranges.append((term, ends[0], ends[1], text(reasons.get(term)) or ""))
    return Proposal(
        name, text(event.get("arm"), 40) or "", text(event.get("model"), 80), event.get("replayed") is True, ranges,
        _lines(event.get("note")), _lines(event.get("problems")), event.get("usable") is not False,
    )  # fmt: skip


def _take_table(design: Design, table: dict[str, Any]) -> None:
    seeds = table.get("seeds")
    design.seeds = len(seeds) if isinstance(seeds, list) else None
    design.best_run = text(table.get("best_run"), 200)
    differences = mapping(table.get("differences"))
    for arm, raw in list(mapping(table.get("arms")).items())[:20]:
        row = mapping(raw)
        raw_select = row.get("select")
        select = [n for v in (raw_select if isinstance(raw_select, list) else []) if (n := number(v)) is not None]
        measures = {
            name: interval
            for name, value in list(mapping(row.get("measures")).items())[:20]
            if (interval := Interval.read(value))
        }
        difference = mapping(differences.get(arm))
        design.arms.append({
            "arm": arm, "proposal": text(row.get("proposal"), 80) or "", "fitness": Interval.read(row),
            "difference": Interval.read(differences.get(arm)), "better": text(difference.get("better"), 40),
            "fall_rate": number(row.get("fall_rate")), "select": sum(select) / len(select) if select else None,
            "measures": measures, "replayed": row.get("replayed") is True,
        })  # fmt: skip
