"""The family tree of a reward search: where each candidate stands, what became of it, and in which words."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from watch import words
from watch.search_reader import Candidate, Search, find_searches, read_search
from watch.values import Interval

Digests = dict[str, str]
"""Reward code by digest: candidates and runs share it."""


def outcome(candidate: Candidate, search: Search) -> tuple[str, str]:
    """(kind, sentence): what became of a candidate. Kinds: best, finished, stopped, rejected, failed, running."""
    last = candidate.last
    if candidate.error:
        return "rejected", f"No answer: {candidate.error}"
    if candidate.checked is False:
        stages = {"check": "the check of its text", "dry_run": "the dry run"}
        where, why = stages.get(candidate.check_stage or "", "its check"), "; ".join(candidate.problems)
        return "rejected", f"Did not pass {where}: {why or 'no reason given'}"
    if candidate.refused:
        return "rejected", "A person did not approve of this code."
    if last is not None and not last.ok:
        return "failed", f"Its training failed{after(last.env_steps)}: {last.problem or 'no reason given'}"
    if candidate.stopped is not None:
        fitness, bar = candidate.stopped["fitness"], candidate.stopped["bar"]
        return "stopped", (
            f"Stopped early{after(candidate.stopped['env_steps'])}: its fitness of {words.fixed(fitness, 3)} on select "
            f"was below {words.fixed(bar, 3)}, the lowest that went on."
        )
    if candidate.generation is not None and candidate.name in search.best.values():
        if not candidate.winner:
            return "best", "Best so far; trained in full."
        if no_final(candidate):
            return "best", "Winner of its arm by its own training: every training with new seeds failed."
        return "best", "Winner of its arm, chosen by new seeds on select; trained in full."
    if last is not None and len(candidate.rungs) >= len(search.rungs) > 0:
        return "finished", "Trained in full."
    if no_final(candidate):
        return "failed", "A reward that the search is compared with; every training with new seeds failed."
    if candidate.finals:
        return "finished", "A reward that the search is compared with, trained with new seeds."
    if search.state == "running":
        return (
            "running",
            f"In training{after(last.env_steps) if last else ''}." if candidate.checked else "Not trained.",
        )
    return "failed", "The search ended before its training did."


def no_final(candidate: Candidate) -> bool:
    """Whether it was trained with new seeds and none of those trainings came to an end."""
    return bool(candidate.finals) and all(problem for _, problem in candidate.finals.values())


def after(env_steps: float | None) -> str:
    return "" if env_steps is None else f" after {words.count(env_steps)} steps"


def place(search: Search) -> dict[str, tuple[int, float]]:
    """(column, row) of each candidate: a column a generation, arms below each other, children beside parents.

    Rows within a generation follow the mean row of the parents (the barycenter heuristic of Sugiyama, Tagawa
    and Toda 1981), then the order of proposal, so that lines cross little.
    """
    placed: dict[str, tuple[int, float]] = {}
    top = 0
    for arm in arms(search):
        members = [c for c in search.candidates.values() if c.arm == arm]
        generations = sorted({-1 if c.generation is None else c.generation for c in members})
        height = 0
        for column, generation in enumerate(generations):
            here = [c for c in members if (-1 if c.generation is None else c.generation) == generation]

            def key(c: Candidate) -> tuple[float, int]:
                rows = [placed[p][1] for p in c.parents if p in placed]
                return (sum(rows) / len(rows) if rows else 0.0, c.sample or 0)

            for row, candidate in enumerate(sorted(here, key=key)):
                placed[candidate.name] = (column, float(top + row))
            height = max(height, len(here))
        top += height + 1
    return placed


def arms(search: Search) -> list[str]:
    """The search's own proposer first."""
    names = list(dict.fromkeys(c.arm for c in search.candidates.values()))
    return sorted(names, key=lambda arm: (arm != search.proposer, names.index(arm)))


def lineage(search: Search, name: str) -> list[str]:
    """A candidate and its ancestors."""
    seen: list[str] = []
    pending = [name]
    while pending:
        now = pending.pop()
        if now in search.candidates and now not in seen:
            seen.append(now)
            pending += search.candidates[now].parents
    return seen


def summary(search: Search) -> dict[str, Any]:
    """One line of a list of searches, JSON-ready."""
    kinds = [outcome(c, search)[0] for c in search.candidates.values()]
    best = search.candidates.get(search.best.get(search.proposer, ""))
    fitness = best.fitness if best else None
    return {
        "id": search.id, "task": search.task, "state": search.state, "reason": search.reason, "created": search.created,
        "proposer": search.proposer, "candidates": len(kinds), "generations": _generations(search),
        "trained": sum(k in ("best", "finished") for k in kinds), "stopped": kinds.count("stopped"),
        "rejected": kinds.count("rejected"), "failed": kinds.count("failed"), "cost": _short(search.cost_usd),
        "best": best.name if best else None, "fitness": _short(fitness.mean) if fitness else None,
    }  # fmt: skip


def _generations(search: Search) -> int:
    return len({c.generation for c in search.candidates.values() if c.generation is not None})


def details(search: Search, digests: Digests) -> dict[str, Any]:
    """The whole tree, JSON-ready; reward code goes into `digests`."""
    places = place(search)
    ranks = {name: k + 1 for ranking in search.ranked.values() for k, (name, _) in enumerate(ranking)}
    best_line = {n for best in search.best.values() for n in lineage(search, best)}
    return {
        "threshold": search.threshold, "rungs": search.rungs, "trust": search.trust, "exhausted": search.exhausted,
        "damaged": search.damaged, "arms": _arm_rows(search, places),
        "nodes": [
            _node(c, search, places[c.name], ranks.get(c.name), c.name in best_line, digests)
            for c in search.candidates.values()
        ],
    }  # fmt: skip


def _arm_rows(search: Search, places: dict[str, tuple[int, float]]) -> list[dict[str, Any]]:
    rows = []
    for arm in arms(search):
        members = [c for c in search.candidates.values() if c.arm == arm]
        best = search.candidates.get(search.best.get(arm, ""))
        rows.append({
            "name": arm, "row": min(places[c.name][1] for c in members), "candidates": len(members),
            "best": best.name if best else None, "cost": _short(sum(c.cost_usd or 0.0 for c in members)),
            "select": _mean([i for i, _ in best.finals.values()] if best else []),
            "report": _mean(list(best.reported.values()) if best else []),
        })  # fmt: skip
    return rows


def _mean(values: list[Interval | None]) -> float | None:
    known = [v.mean for v in values if v is not None]
    return _short(sum(known) / len(known)) if known else None


def _node(
    c: Candidate, search: Search, place: tuple[int, float], rank: int | None, best_line: bool, digests: Digests
) -> dict[str, Any]:
    kind, sentence = outcome(c, search)
    digest = None
    if c.code is not None:
        digest = hashlib.sha256(c.code.encode()).hexdigest()[:16]
        digests[digest] = c.code
    interval = lambda i: None if i is None else [_short(i.mean), _short(i.low), _short(i.high)]  # noqa: E731
    return {
        "name": c.name, "arm": c.arm, "generation": c.generation, "column": place[0], "row": place[1],
        "parents": [p for p in c.parents if p in search.candidates], "kind": kind, "said": sentence, "rank": rank,
        "best": kind == "best", "winner": c.winner, "line": best_line, "run": c.folder, "model": c.model,
        "tokens": c.tokens, "cost": c.cost_usd, "replayed": c.replayed, "fitness": interval(c.fitness),
        "rungs": [
            {"steps": r.env_steps, "seconds": r.seconds, "fitness": interval(r.fitness), "falls": _short(r.fall_rate)}
            for _, r in sorted(c.rungs.items())
        ],
        "gaming": c.gaming, "finals": [[seed, interval(i), problem] for seed, (i, problem) in sorted(c.finals.items())],
        "reported": [[seed, interval(i)] for seed, i in sorted(c.reported.items())],
        "reward": digest, "reflection": c.reflection,
    }  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


class Searches:
    """The searches below a folder of runs, kept up to date by `refresh`."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.found: dict[str, Search] = {}
        self._stamps: dict[str, tuple[int, int]] = {}

    def refresh(self) -> set[str]:
        """Reads the ledgers that have grown; returns the ids of changed, new and vanished searches."""
        changed, found = set(), {}
        for path in find_searches(self.runs):
            try:
                info = (path / "ledger.jsonl").stat()
            except OSError:
                continue
            stamp, known = (info.st_size, info.st_mtime_ns), self.found.get(path.name)
            if known is None or stamp != self._stamps[path.name] or known.state == "running":
                read = read_search(path, self.runs)
                if read != known:
                    changed.add(path.name)
                known, self._stamps[path.name] = read, stamp
            found[path.name] = known
        changed |= self.found.keys() - found.keys()
        self.found = found
        return changed
