"""What benchmarks/reward_search.py makes of finished searches, by hand-made tables and hand-computed numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import search_figures, search_runs
from envs import physics, tasks

DIGEST = physics.digest(tasks.get("cartpole-swingup"))


def search(place: Path, arms: dict[str, float], *, used: int = 500, winner: str = "model-g0s0", **more: Any) -> Path:
    """A finished search's folder, with as much of its table as the figures read."""
    folder = place / "sweeps" / "2026-11-22_00-00-00-c"
    folder.mkdir(parents=True)
    rows = {
        arm: {"mean": mean, "fall_rate": 0.0, "candidate": winner if arm == "model" else arm}
        for arm, mean in arms.items()
    }
    count = {"answered": 10, "executed": 9, "env_steps": used, "env_steps_full": 1000}
    content = {
        "main": "model", "arms": rows, "counts": {"model": count, "mutation": {**count, "executed": 10}},
        "candidates": 20, "gaming": ["model-g0s1"], "replayed": True, "seeds": [1000, 1001], "env_steps": 1000,
        "fitness_threshold": 0.7, "physics_hash": DIGEST, **more,
    }  # fmt: skip
    (folder / "table.json").write_text(json.dumps(content))
    (folder / "search.json").write_text(json.dumps({"config": {"env_steps": 400}}))
    return folder


def ledger(folder: Path, *events: dict[str, Any]) -> None:
    lines = [{"key": str(i), "time": "2026-11-22T00:00:00+0000", **event} for i, event in enumerate(events)]
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_arms_over_conversations(tmp_path):
    found = {
        "0": search(tmp_path / "a", {"model": 0.8, "human": 0.6, "mutation": 0.9}),
        "1": search(tmp_path / "b", {"model": 0.9, "human": 0.5, "mutation": 0.7}),
        "2": search(tmp_path / "c", {"model": 0.7, "human": 0.6, "mutation": 0.6}),
    }
    figures = search_figures.searches("cartpole-swingup", found)
    model = figures["arms"]["model"]
    # Standard deviation 0.1 over three; 4.303: Student's t with two degrees of freedom, 97.5 %.
    assert model["mean"] == pytest.approx(0.8) and model["high"] - 0.8 == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    against = figures["differences"]["human"]
    assert against["mean"] == pytest.approx((0.2 + 0.4 + 0.1) / 3) and against["better"] is None
    assert figures["differences"]["mutation"]["mean"] == pytest.approx((-0.1 + 0.2 + 0.1) / 3)
    assert figures["candidates"] == 60 and figures["answers"] == 30 and figures["executed_share"] == 0.9
    assert figures["env_steps_saved"] == 0.5 and figures["gaming"] == 3
    assert figures["replayed"] == [True] * 3 and "judged_on_other_physics" not in figures


def test_a_clear_difference_is_called_so_and_other_physics_is_named(tmp_path):
    found = {
        "0": search(tmp_path / "a", {"model": 0.8, "human": 0.60}),
        "1": search(tmp_path / "b", {"model": 0.9, "human": 0.71}, physics_hash="another"),
    }
    figures = search_figures.searches("cartpole-swingup", found)
    # 0.195 +- 12.706 * 0.00707 / sqrt(2)
    assert figures["differences"]["human"]["low"] == pytest.approx(0.195 - 0.0635, abs=1e-3)
    assert figures["differences"]["human"]["better"] is True
    assert figures["judged_on_other_physics"] == ["1"]


def test_nothing_yet(tmp_path):
    assert search_figures.searches("cartpole-swingup", {})["conversations"] == []
    assert search_figures.early_stopping({}, {}) is None and search_figures.safety({}, {}) is None
    assert search_figures.workers({"one": tmp_path}, 4) is None
    assert search_runs.find(tmp_path) is None


def test_early_stopping(tmp_path):
    staged = {
        "0": search(tmp_path / "a", {"model": 0.8}, used=400),
        "1": search(tmp_path / "b", {"model": 0.7}, used=600, winner="model-g1s1"),
    }
    full = {
        "0": search(tmp_path / "c", {"model": 0.8}, used=1000),
        "1": search(tmp_path / "d", {"model": 0.75}, used=1500, winner="model-g2s0"),
    }
    figures = search_figures.early_stopping(staged, full)
    assert figures is not None
    assert figures["env_steps_share"] == pytest.approx(0.4) and figures["same_winner"] == 1
    assert figures["difference"]["mean"] == pytest.approx(-0.025) and figures["difference"]["better"] is None


def test_workers(tmp_path):
    found = {}
    for name, end in (("two", "00:01:40"), ("one", "00:02:30")):
        found[name] = search(tmp_path / name, {"mutation": 0.1}, main="mutation")
        ledger(
            found[name], {"event": "checked", "time": "2026-11-22T00:00:00+0000"},
            {"event": "checked", "time": "2026-11-22T00:00:10+0000"},
            {"event": "ranked", "time": f"2026-11-22T{end}+0000"},
        )  # fmt: skip
    figures = search_figures.workers(found, 4)
    assert figures is not None
    assert figures["two_workers_of_one_thread_per_hour"] == pytest.approx(4 * 3600 / 90)
    assert figures["ratio"] == pytest.approx(140 / 90) and figures["env_steps"] == 400


def test_safety(tmp_path):
    found: dict[str, dict[str, Path]] = {"with": {}, "without": {}}
    for side, power in (("with", (100.0, 110.0)), ("without", (150.0, 180.0))):
        place = tmp_path / side
        found[side]["0"] = search(place, {"model": 0.8})
        events = []
        for seed, value in enumerate(power):
            folder = f"cartpole-swingup/run{seed}"
            (place / folder).mkdir(parents=True)
            report = {"fitness": {"mean": 0.8}, "fall_rate": {"mean": 0.0}, "measures": {"power": {"mean": value}}}
            content = {"report": report, "failure": {"action_change": value / 1000}}
            (place / folder / "report.json").write_text(json.dumps(content))
            events.append({"event": "reported", "arm": "model", "folder": folder})
        events.append({"event": "reported", "arm": "human", "folder": "cartpole-swingup/absent"})
        ledger(found[side]["0"], *events)
    figures = search_figures.safety(found["with"], found["without"])
    assert figures is not None and figures["conversations"] == ["0"]
    assert figures["power"]["with"] == pytest.approx(105) and figures["power"]["without"] == pytest.approx(165)
    assert figures["power"]["difference"] == {"mean": pytest.approx(-60), "low": None, "high": None}
    assert figures["action_change"]["without"] == pytest.approx(0.165)


def test_what_an_inbox_still_waits_for(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in ("g0s0.prompt.md", "g0s0.answer.md", "g0s1.prompt.md", "README.md"):
        (inbox / name).write_text("x")
    assert search_runs.unanswered(tmp_path) == ["g0s1"]
