"""The final table: each arm's winner on the report physics, and its paired difference from the search's.

table.json:
    task, id, physics_hash, fitness_threshold, env_steps, seeds
    arms: {arm: {candidate, mean, low, high, fitness (one a seed), select, fall_rate, measures, failed, replayed}}
    differences: {arm: {mean, low, high, better}}: the main arm minus this one, paired by seed; better is "search",
        the arm's name, or null where the 95 % interval of the difference contains 0
    counts: {arm: {proposed, answered, executed, complete, env_steps, env_steps_full}}
    env_steps_saved, executed_share, candidates, gaming (names), replayed, cost_usd, tokens, missing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.candidate_record import Candidate
from agents.evaluate import interval
from agents.search_finals import Winner
from agents.search_folder import SearchFolder
from envs import physics


def make(
    folder: SearchFolder, arms: Mapping[str, Sequence[Candidate]], winners: Mapping[str, Winner]
) -> dict[str, Any]:
    """JSON-ready. arms: every candidate of the arms that searched. winners: by arm."""
    settings = folder.settings
    main = settings.main_arm
    proposals = {event["key"]: event for event in folder.ledger.all("proposal")}
    replayed = {arm: any(proposals[c.name]["replayed"] for c in candidates) for arm, candidates in arms.items()}
    counts = {arm: _counts(candidates, settings.env_steps) for arm, candidates in arms.items()}
    used = sum(count["env_steps"] for count in counts.values())
    full = sum(count["env_steps_full"] for count in counts.values())
    rows = {}
    for arm in [main, *settings.other_arms]:
        if arm in winners:
            winner = winners[arm]
            rows[arm] = {
                "candidate": winner.finalist.name, **interval(winner.fitness), "fitness": winner.fitness,
                "select": winner.select, "fall_rate": winner.fall_rate, "measures": winner.measures,
                "failed": winner.failed, "replayed": replayed.get(arm, False),
            }  # fmt: skip
    known = [p for p in proposals.values() if p["cost_usd"] is not None]
    return {
        "task": settings.task, "id": folder.id, "physics_hash": physics.digest(settings.definition),
        "fitness_threshold": settings.definition.fitness_threshold, "env_steps": settings.env_steps,
        "seeds": settings.final_seed_list, "main": main, "arms": rows,
        "differences": _differences(main, rows), "counts": counts,
        "candidates": sum(count["proposed"] for count in counts.values()),
        "executed_share": counts[main]["executed"] / max(1, counts[main]["answered"]),
        "env_steps_saved": {"used": used, "full": full, "share": 1.0 - used / full if full else 0.0},
        "gaming": [c.name for cs in arms.values() for c in cs if c.gaming and c.gaming["suspected"]],
        "replayed": any(replayed.values()),
        "cost_usd": sum(p["cost_usd"] for p in known) if known else None,
        "tokens": sum((p["input_tokens"] or 0) + (p["output_tokens"] or 0) for p in proposals.values()),
        "safety_instruction": settings.safety_instruction, "trust": settings.trust, "missing": settings.missing,
    }  # fmt: skip


def _counts(candidates: Sequence[Candidate], env_steps: int) -> dict[str, int]:
    """executed: its code ran in a training, with nobody touching it. env_steps_full: had each been trained in full."""
    trained = [c for c in candidates if c.rungs]
    failed_steps = sum(c.used_env_steps for c in candidates if c.failed is not None and not c.rungs)
    completed = max((c.used_env_steps for c in candidates if c.complete), default=env_steps)
    return {
        "proposed": len(candidates), "answered": sum(c.answer is not None for c in candidates),
        "executed": len(trained), "complete": sum(c.complete for c in candidates),
        "env_steps": sum(c.used_env_steps for c in candidates),
        "env_steps_full": failed_steps + sum(completed if c.failed is None else c.used_env_steps for c in trained),
    }  # fmt: skip


def _differences(main: str, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Paired by seed: the same seed means the same draws of physics, commands and starts, in training and test."""
    found = {}
    for arm, row in rows.items():
        if arm == main or main not in rows:
            continue
        pairs = zip(rows[main]["fitness"], row["fitness"], strict=True)
        difference: dict[str, Any] = interval([ours - theirs for ours, theirs in pairs])
        low, high = difference["low"], difference["high"]
        difference["better"] = None if low is None or low <= 0 <= high else ("search" if low > 0 else arm)
        found[arm] = difference
    return found


def show(table: Mapping[str, Any]) -> Any:
    """For a terminal (rich)."""
    from rich.table import Table

    note = ", answers replayed" if table["replayed"] else ""
    shown = Table(title=f"{table['task']}: fitness on report physics, {len(table['seeds'])} new seeds{note}")
    shown.add_column("reward")
    for name in ("fitness", "95 % interval", "difference from the search", "falls", "select"):
        shown.add_column(name, justify="right")
    for arm, row in table["arms"].items():
        difference = table["differences"].get(arm)
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        shown.add_row(
            row["candidate"] + (", replayed" if row["replayed"] else "") + failed, f"{row['mean']:.3f}", _range(row),
            "" if difference is None else _difference(difference), f"{row['fall_rate']:.0%}", f"{row['select']:.3f}",
        )  # fmt: skip
    return shown


def _range(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"


def _difference(difference: Mapping[str, Any]) -> str:
    verdict = {None: "undecided", "search": "search better"}.get(difference["better"], "search worse")
    limits = "" if difference["low"] is None else f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
    return f"{difference['mean']:+.3f}{limits} {verdict}"


def notes(table: Mapping[str, Any]) -> list[str]:
    """What stands below the table."""
    saved, counts = table["env_steps_saved"], table["counts"][table["main"]]
    lines = [
        f"{counts['executed']} of {counts['answered']} answers ran as they came",
        f"early stopping: {saved['used']:,} of {saved['full']:,} environment steps, {saved['share']:.0%} saved",
    ]
    if table["gaming"]:
        lines.append(f"reward rose while fitness stayed low: {', '.join(table['gaming'])}")
    if table["cost_usd"]:
        lines.append(f"model: {table['tokens']:,} tokens, {table['cost_usd']:.2f} USD")
    if table["missing"]:
        lines.append(f"code ran unconfined; missing here: {'; '.join(table['missing'])}")
    return lines
