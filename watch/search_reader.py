"""The ledger of a reward search as something to show, whatever state it is in (agents/search_ledger.py has the format).

Everything in it may come from a model or from somebody else: values are checked, texts bounded, paths kept inside.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watch import files
from watch.files import Unreadable
from watch.run_reader import SILENT_AFTER_S
from watch.values import Interval, mapping, number, text, visible

SWEEPS, LEDGER = "sweeps", "ledger.jsonl"
MAX_CANDIDATES, MAX_PROBLEMS, MAX_SEARCHES = 1000, 12, 500
CODE_LIMIT, REFLECTION_LIMIT = 60_000, 20_000
"""Characters of a candidate's code and of what it was told about its training."""


@dataclass(frozen=True)
class Rung:
    """A candidate after one stage of its training."""

    rung: int
    ok: bool
    env_steps: float | None
    seconds: float | None
    fitness: Interval | None
    fall_rate: float | None
    problem: str | None


@dataclass
class Candidate:
    """One reward that was proposed."""

    name: str
    arm: str = ""
    generation: int | None = None
    sample: int | None = None
    folder: str | None = None
    """Its run folder, relative to the folder of runs."""
    parents: list[str] = field(default_factory=list)
    model: str | None = None
    tokens: float | None = None
    cost_usd: float | None = None
    replayed: bool = False
    error: str | None = None
    """Why there is no answer."""
    checked: bool | None = None
    check_stage: str | None = None
    problems: list[str] = field(default_factory=list)
    refused: bool = False
    """A person did not approve."""
    rungs: dict[int, Rung] = field(default_factory=dict)
    stopped: dict[str, float | None] | None = None
    """env_steps, fitness, bar: where successive halving took it out."""
    gaming: dict[str, float | None] | None = None
    """Why it is suspected to earn its reward without doing the task."""
    reflected: bool = False
    finals: dict[float, tuple[Interval | None, str | None]] = field(default_factory=dict)
    """By seed: fitness on select, problem."""
    reported: dict[float, Interval | None] = field(default_factory=dict)
    """By seed: fitness on report."""
    winner: bool = False
    code: str | None = None
    reflection: str | None = None

    @property
    def last(self) -> Rung | None:
        return self.rungs[max(self.rungs)] if self.rungs else None

    @property
    def fitness(self) -> Interval | None:
        """On select, after as much training as it was given."""
        return next((r.fitness for _, r in sorted(self.rungs.items(), reverse=True) if r.fitness), None)


@dataclass
class Search:
    """One search: its candidates, generation by generation."""

    id: str
    state: str = "broken"
    """running, finished, killed (silent and without a table), broken."""
    reason: str | None = None
    task: str = ""
    proposer: str = ""
    rungs: list[float] = field(default_factory=list)
    """Environment steps after which each stage of a training ends."""
    generations: float | None = None
    threshold: float | None = None
    trust: str | None = None
    created: str | None = None
    candidates: dict[str, Candidate] = field(default_factory=dict)
    ranked: dict[str, list[tuple[str, float | None]]] = field(default_factory=dict)
    """By arm: candidates that were trained in full, best first, as last ranked."""
    best: dict[str, str] = field(default_factory=dict)
    """By arm: its winner, or the best so far."""
    exhausted: list[str] = field(default_factory=list)
    damaged: int = 0
    """Lines of the ledger that could not be read."""

    @property
    def cost_usd(self) -> float:
        return sum(c.cost_usd or 0.0 for c in self.candidates.values())


def find_searches(runs: Path) -> Iterator[Path]:
    """Folders of searches below runs/sweeps, newest first; other sweeps of Hydra have no ledger."""
    try:
        with os.scandir(runs / SWEEPS) as entries:
            names = sorted((e.name for e in entries if e.is_dir(follow_symlinks=False)), reverse=True)
    except OSError:
        return
    found = (runs / SWEEPS / name for name in names if not name.startswith("."))
    yield from [path for path in found if os.path.lexists(path / LEDGER)][:MAX_SEARCHES]


def read_search(path: Path, runs: Path, now: float | None = None) -> Search:
    """Reads a search's folder; what is wrong with it stands in `state` and `reason`.

    Args:
        path: the folder below runs/sweeps.
        runs: the folder of runs, to which the ledger's paths are relative.
        now: [s] since the epoch, to tell whether a running search has gone silent; by default the present.
    """
    search = Search(id=visible(path.name))
    try:
        ledger = files.regular(path, LEDGER)
        events = list(_events(ledger, search))
        touched = ledger.stat().st_mtime
    except (Unreadable, OSError) as error:
        search.reason = f"{LEDGER} {error}"
        return search
    for event in events:
        handler = _HANDLERS.get(event["event"])
        if handler is not None:
            handler(search, event)
    silent_s = (time.time() if now is None else now) - touched
    if not any(event["event"] == "search" for event in events):
        search.reason = f"{LEDGER} does not begin with a search; it is damaged or of another version"
    elif any(event["event"] == "table" for event in events):
        search.state = "finished"
    elif silent_s > SILENT_AFTER_S:
        search.state = "killed"
        search.reason = "no table, and nothing written for a while: stopped, killed, or its machine went down"
    else:
        search.state = "running"
    for candidate in search.candidates.values():
        _texts_of(candidate, runs)
    return search


def _events(path: Path, search: Search) -> Iterator[dict[str, Any]]:
    for line in files.lines(path):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            search.damaged += 1
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("key"), str):
            yield event
        else:
            search.damaged += 1


def _texts_of(candidate: Candidate, runs: Path) -> None:
    """Code and reflection from the candidate's run folder, which must lie two levels below `runs`."""
    parts = (candidate.folder or "").split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        candidate.folder = None
        return
    run = runs.joinpath(*parts)
    if run.is_symlink() or run.parent.is_symlink():
        return
    texts = (("reward.py", "code", CODE_LIMIT), ("reflection.md", "reflection", REFLECTION_LIMIT))
    for name, attribute, limit in texts:
        try:
            setattr(candidate, attribute, visible(files.read_text(run, name)[:limit]))
        except Unreadable:
            continue


def _candidate(search: Search, event: dict[str, Any], name: str = "candidate") -> Candidate | None:
    key = text(event.get(name), 120)
    if key is None or (key not in search.candidates and len(search.candidates) >= MAX_CANDIDATES):
        return None
    candidate = search.candidates.setdefault(key, Candidate(key))
    candidate.arm = candidate.arm or text(event.get("arm"), 40) or ""
    return candidate


def _list(value: Any, limit: int, width: int = 120) -> list[str]:
    return [line for item in value[:limit] if (line := text(item, width))] if isinstance(value, list) else []


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None or abs(found) > 1e6 else int(found)


def _search(search: Search, event: dict[str, Any]) -> None:
    search.task, search.proposer = text(event.get("task"), 80) or "", text(event.get("proposer"), 40) or ""
    rungs = event.get("rungs")
    search.rungs = [v for r in rungs[:20] if (v := number(r)) is not None] if isinstance(rungs, list) else []
    search.generations, search.threshold = number(event.get("generations")), number(event.get("fitness_threshold"))
    search.trust, search.created = text(event.get("trust"), 40), text(event.get("time"), 40)


def _proposal(search: Search, event: dict[str, Any]) -> None:
    candidate = _candidate(search, event, "key")
    if candidate is None:
        return
    candidate.generation, candidate.sample = _whole(event.get("generation")), _whole(event.get("sample"))
    folder = event.get("folder")
    candidate.folder = folder if isinstance(folder, str) and len(folder) < 400 else None
    candidate.parents = [p for p in _list(event.get("parents"), 8) if p != candidate.name]
    model, provider = text(event.get("model"), 80), text(event.get("provider"), 40)
    candidate.model = model or provider
    tokens = [number(event.get(name)) for name in ("input_tokens", "output_tokens")]
    candidate.tokens = sum(t for t in tokens if t is not None) if any(t is not None for t in tokens) else None
    candidate.cost_usd, candidate.replayed = number(event.get("cost_usd")), event.get("replayed") is True
    candidate.error = text(event.get("error"), 1000)


def _approval(search: Search, event: dict[str, Any]) -> None:
    for name in _list(event.get("rejected"), 200):
        if name in search.candidates:
            search.candidates[name].refused = True


def _checked(search: Search, event: dict[str, Any]) -> None:
    candidate = _candidate(search, event, "key")
    if candidate is not None:
        candidate.checked, candidate.check_stage = event.get("ok") is True, text(event.get("stage"), 40)
        candidate.problems = _list(event.get("problems"), MAX_PROBLEMS, 1000)


def _trained(search: Search, event: dict[str, Any]) -> None:
    candidate, rung = _candidate(search, event), _whole(event.get("rung"))
    if candidate is not None and rung is not None and len(candidate.rungs) < 40:
        candidate.rungs[rung] = Rung(
            rung, event.get("ok") is True, number(event.get("env_steps")), number(event.get("seconds")),
            Interval.read(event.get("fitness")), number(event.get("fall_rate")), text(event.get("problem"), 1000),
        )  # fmt: skip


def _stopped(search: Search, event: dict[str, Any]) -> None:
    candidate = _candidate(search, event, "key")
    if candidate is not None:
        names = {"rung": "rung", "env_steps": "env_steps", "fitness_mean": "fitness", "bar": "bar"}
        candidate.stopped = {to: number(event.get(name)) for name, to in names.items()}


def _reflected(search: Search, event: dict[str, Any]) -> None:
    candidate, gaming = _candidate(search, event, "key"), mapping(event.get("gaming"))
    if candidate is not None:
        candidate.reflected = True
        if gaming.get("suspected") is True:
            names = ("correlation", "reward_gain", "fitness_share")
            candidate.gaming = {name: number(gaming.get(name)) for name in names}


def _ranked(search: Search, event: dict[str, Any]) -> None:
    arm, ranking, best = text(event.get("arm"), 40) or "", event.get("ranking"), text(event.get("best"), 120)
    rows = ranking[:MAX_CANDIDATES] if isinstance(ranking, list) else []
    pairs = [(text(row[0], 120), number(row[1])) for row in rows if isinstance(row, list) and len(row) == 2]
    search.ranked[arm] = [(name, fitness) for name, fitness in pairs if name is not None]
    if best is not None:
        search.best[arm] = best


def _exhausted(search: Search, event: dict[str, Any]) -> None:
    if (reason := text(event.get("reason"), 300)) and len(search.exhausted) < 10:
        search.exhausted.append(f"{text(event.get('arm'), 40) or '?'}: {reason}")


def _final(search: Search, event: dict[str, Any]) -> None:
    candidate, seed = _candidate(search, event), number(event.get("seed"))
    if candidate is not None and seed is not None and len(candidate.finals) < 50:
        candidate.finals[seed] = Interval.read(event.get("fitness")), text(event.get("problem"), 300)


def _winner(search: Search, event: dict[str, Any]) -> None:
    candidate = _candidate(search, event)
    if candidate is not None:
        candidate.winner = True
        search.best[text(event.get("key"), 40) or candidate.arm] = candidate.name


def _reported(search: Search, event: dict[str, Any]) -> None:
    candidate, seed = _candidate(search, event), number(event.get("seed"))
    if candidate is not None and seed is not None and len(candidate.reported) < 50:
        candidate.reported[seed] = Interval.read(event.get("fitness"))


_HANDLERS = {
    "search": _search, "proposal": _proposal, "approval": _approval, "checked": _checked, "trained": _trained,
    "stopped": _stopped, "reflected": _reflected, "ranked": _ranked, "exhausted": _exhausted, "final": _final,
    "winner": _winner, "reported": _reported,
}  # fmt: skip
