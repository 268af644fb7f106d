"""What finished searches show together: arms with intervals over conversations, early stopping, workers, safety."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.evaluate import interval
from agents.llm_transcript import SHIPPED, TRANSCRIPT
from agents.run_folder import read_json
from agents.search_folder import SEARCH
from benchmarks import search_runs
from envs import physics, tasks

Searches = Mapping[str, Path]
"""Finished searches by the number of their conversation."""


def searches(task: str, found: Searches) -> dict[str, Any]:
    """The arms on `report` physics, the main arm minus each other paired by conversation, and what it took."""
    tables = [search_runs.table(path) for path in found.values()]
    content: dict[str, Any] = {"conversations": list(found), "physics_hash": physics.digest(tasks.get(task))}
    if not tables:
        return content
    for number, table in zip(found, tables, strict=True):
        if table["physics_hash"] != content["physics_hash"]:
            content.setdefault("judged_on_other_physics", []).append(number)
    main = tables[0]["main"]
    arms = [arm for arm in tables[0]["arms"] if all(arm in table["arms"] for table in tables)]
    means = {arm: [float(table["arms"][arm]["mean"]) for table in tables] for arm in arms}
    counts = [table["counts"][main] for table in tables]
    used, full = (sum(count[name] for count in counts) for name in ("env_steps", "env_steps_full"))
    return content | {
        "arms": {arm: {**interval(values), "conversations": values} for arm, values in means.items()},
        "differences": {arm: _difference(means[main], means[arm]) for arm in arms if arm != main},
        "fall_rate": {arm: [table["arms"][arm]["fall_rate"] for table in tables] for arm in arms},
        "winners": [table["arms"][main]["candidate"] for table in tables if main in table["arms"]],
        "fitness_threshold": tables[0]["fitness_threshold"],
        "env_steps": tables[0]["env_steps"],
        "seeds": [table["seeds"] for table in tables],
        "env_steps_saved": 1.0 - used / full if full else 0.0,
        "candidates": sum(table["candidates"] for table in tables),
        "answers": sum(count["answered"] for count in counts),
        "executed_share": sum(c["executed"] for c in counts) / max(1, sum(c["answered"] for c in counts)),
        "gaming": sum(len(table["gaming"]) for table in tables),
        "replayed": [table["replayed"] for table in tables],
        "transcripts": {number: _transcript(f"{task}/{number}") for number in found},
    }


def _transcript(name: str) -> dict[str, Any] | None:
    """Who answered, when, and the digest of what was said; None for answers that were given to the search itself."""
    folder = SHIPPED / name
    if not (folder / TRANSCRIPT).is_file():
        return None
    content = read_json(folder / TRANSCRIPT)
    digest = hashlib.sha256()
    for entry in content["answers"].values():
        digest.update((folder / entry["file"]).read_bytes())
    return {**{key: content[key] for key in ("provider", "model", "date")}, "sha256": digest.hexdigest()}


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Paired; better where the 95 % interval excludes 0."""
    found: dict[str, Any] = interval([a - b for a, b in zip(ours, theirs, strict=True)])
    low, high = found["low"], found["high"]
    found["better"] = None if low is None or low <= 0 <= high else bool(low > 0)
    return found


def early_stopping(staged: Searches, full: Searches) -> dict[str, Any] | None:
    """The main arm's winners with and without stopping; None where no conversation went both ways."""
    rows = []
    for number in staged:
        if number not in full:
            continue
        stopped, whole = search_runs.table(staged[number]), search_runs.table(full[number])
        main = stopped["main"]
        if main not in stopped["arms"] or main not in whole["arms"]:
            continue
        rows.append({
            "conversation": number,
            "env_steps": stopped["counts"][main]["env_steps"], "env_steps_full": whole["counts"][main]["env_steps"],
            "winner": stopped["arms"][main]["candidate"], "winner_full": whole["arms"][main]["candidate"],
            "fitness": stopped["arms"][main]["mean"], "fitness_full": whole["arms"][main]["mean"],
        })  # fmt: skip
    if not rows:
        return None
    return {
        "env_steps_share": sum(r["env_steps"] for r in rows) / sum(r["env_steps_full"] for r in rows),
        "same_winner": sum(r["winner"] == r["winner_full"] for r in rows),
        "difference": _difference([r["fitness"] for r in rows], [r["fitness_full"] for r in rows]),
        "conversations": rows,
    }


def workers(found: Searches, candidates: int) -> dict[str, Any] | None:
    """Candidates an hour of two workers and of one, and the ratio."""
    if not {"one", "two"} <= set(found):
        return None
    per_hour = {name: candidates * 3600.0 / search_runs.training_s(found[name]) for name in ("two", "one")}
    return {
        "two_workers_of_one_thread_per_hour": per_hour["two"], "one_worker_of_two_threads_per_hour": per_hour["one"],
        "ratio": per_hour["two"] / per_hour["one"], "candidates": candidates,
        "env_steps": read_json(found["one"] / SEARCH)["config"]["env_steps"],
    }  # fmt: skip


def safety(with_it: Searches, without: Searches) -> dict[str, Any] | None:
    """What the winners do on `report` physics, with and without the safety instruction, mean over seeds."""
    numbers = [number for number in with_it if number in without]
    if not numbers:
        return None
    sides = {name: [_behavior(found[n]) for n in numbers] for name, found in (("with", with_it), ("without", without))}
    names = [name for name in sides["with"][0] if all(name in row for rows in sides.values() for row in rows)]
    content: dict[str, Any] = {"conversations": numbers}
    for name in names:
        values = {side: [row[name] for row in rows] for side, rows in sides.items()}
        means = {side: sum(v) / len(v) for side, v in values.items()}
        difference = _difference(values["with"], values["without"])
        content[name] = {**means, "difference": {key: difference[key] for key in ("mean", "low", "high")}}
    return content


def _behavior(search: Path) -> dict[str, float]:
    """Fitness, falls, jitter, energy and the task's own measures of the main arm's winner."""
    rows = search_runs.reports(search, search_runs.table(search)["main"])
    found: dict[str, list[float]] = {}
    for row in rows:
        report = row["report"]
        values = {"fitness": report["fitness"]["mean"], "fall_rate": report["fall_rate"]["mean"],
                  "action_change": row["failure"]["action_change"]}  # fmt: skip
        values |= {name: value["mean"] for name, value in report["measures"].items()}
        if report.get("cost_of_transport"):
            values["cost_of_transport"] = report["cost_of_transport"]["mean"]
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in found.items()}
