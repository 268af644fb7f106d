"""The table of a design: each arm's choice on the report physics, paired by seed with the main arm.

table.json:
    task, id, physics_hash, env_steps, tune_env_steps, choose_env_steps, widen, widen_falls_per_minute, seeds, main,
    safety_instruction, replayed, base_randomization (null where a run was given)
    arms: {arm: {proposal, ranges, mean, low, high, fitness (one a seed), select, fall_rate, measures ({name: {mean,
        unit, of_seeds}}), failed, samples, replayed, runs, widths (shares that the ranges had reached at the end)}}
    differences: {arm: {mean, low, high, better}}: the main arm minus this one; better is an arm's name, or null where
        the 95 % interval of the difference contains 0
    best_run: the main arm's run with the highest fitness on select, which is what gets exported
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.evaluate import interval
from agents.work_folder import WorkFolder
from envs import physics


def make(folder: WorkFolder, finals: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """JSON-ready. finals: by arm, a row a seed, each with `select` and, where its training is good, `report`."""
    s, ledger = folder.settings, folder.ledger
    proposals = {event["key"]: event for event in ledger.all("proposal")}
    rows = {arm: _row(arm, found, proposals) for arm, found in finals.items() if found}
    main = s.arms[0]
    good = [row for row in finals.get(main, ()) if row["ok"]]
    best = max(good, key=lambda row: row["select"], default=None)
    return {
        "task": s.task, "id": folder.id, "physics_hash": physics.digest(s.definition), "env_steps": s.env_steps,
        "tune_env_steps": s.tune_env_steps, "choose_env_steps": s.choose_env_steps,
        "base_randomization": None if s.run else s.base_randomization,
        "widen": s.widen, "widen_falls_per_minute": s.widen_falls_per_minute, "samples": s.samples,
        "seeds": s.final_seed_list, "main": main,
        "safety_instruction": s.safety_instruction, "own_bases": s.own_bases, "arms": rows,
        "differences": _differences(main, rows),
        "replayed": any(event["replayed"] for event in proposals.values()),
        "best_run": None if best is None else best["folder"],
    }  # fmt: skip


def _row(arm: str, found: Sequence[Mapping[str, Any]], proposals: Mapping[str, Any]) -> dict[str, Any]:
    reports = [row["report"] for row in found if "report" in row]
    fitness = [row["report"]["fitness"]["mean"] if "report" in row else 0.0 for row in found]
    names = reports[0]["measures"] if reports else {}
    of_arm = [event for event in proposals.values() if event["arm"] == arm]
    return {
        "proposal": found[0]["proposal"], "ranges": proposals[found[0]["proposal"]]["ranges"],
        **interval(fitness), "fitness": fitness, "select": [row["select"] for row in found],
        "fall_rate": sum(r["fall_rate"]["mean"] for r in reports) / len(reports) if reports else 0.0,
        "measures": {
            name: {
                "mean": sum(r["measures"][name]["mean"] for r in reports) / len(reports), "unit": value["unit"],
                "of_seeds": [r["measures"][name]["mean"] for r in reports],
            }
            for name, value in names.items()
        },
        "failed": sum(not row["ok"] for row in found), "samples": sum(e["usable"] for e in of_arm),
        "replayed": any(e["replayed"] for e in of_arm), "runs": [row["folder"] for row in found],
        "widths": [row.get("width") for row in found],
    }  # fmt: skip


def _differences(main: str, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Paired by seed: the same seed means the same base policy, starts, commands and draws."""
    return {
        arm: paired(main, rows[main]["fitness"], arm, row["fitness"])
        for arm, row in rows.items()
        if arm != main and main in rows
    }


def paired(ours_name: str, ours: Sequence[float], theirs_name: str, theirs: Sequence[float]) -> dict[str, Any]:
    """Ours minus theirs with its 95 % interval, and who is better; null where the interval contains 0."""
    difference: dict[str, Any] = interval([a - b for a, b in zip(ours, theirs, strict=True)])
    low, high = difference["low"], difference["high"]
    difference["better"] = None if low is None or low <= 0 <= high else ours_name if low > 0 else theirs_name
    return difference


def show(table: Mapping[str, Any]) -> Any:
    """For a terminal (rich)."""
    from rich.table import Table

    note = ", answers replayed" if table["replayed"] else ""
    shown = Table(title=f"{table['task']}: fitness on report physics, {len(table['seeds'])} new seeds{note}")
    shown.add_column("ranges")
    for name in ("fitness", "95 % interval", f"{table['main']} minus this", "falls", "select"):
        shown.add_column(name, justify="right")
    for arm, row in table["arms"].items():
        difference = table["differences"].get(arm)
        spread = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        shown.add_row(
            arm + (f" ({row['proposal']})" if row["proposal"] != arm else ""), f"{row['mean']:.3f}", spread,
            "" if difference is None else _difference(difference), f"{row['fall_rate']:.0%}",
            f"{sum(row['select']) / len(row['select']):.3f}",
        )  # fmt: skip
    return shown


def _difference(difference: Mapping[str, Any]) -> str:
    limits = "" if difference["low"] is None else f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
    return f"{difference['mean']:+.3f}{limits}" + ("" if difference["better"] is None else " *")
