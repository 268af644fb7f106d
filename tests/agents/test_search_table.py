"""The table, its counts and verdicts, and a person's approval, without any training."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from agents import search_table
from agents.candidate_record import Candidate, ranked
from agents.search_approval import ask_on_terminal, diff
from agents.search_finals import Finalist, Winner
from agents.search_ledger import Ledger
from agents.search_settings import Settings
from configs.errors import UserError
from envs import tasks


def candidate(sample: int, fitness: float | None, steps: int, *, complete: bool = False, **more: Any) -> Candidate:
    rungs = [] if fitness is None else [{"select": {"fitness": {"mean": fitness}}, "course": [], "env_steps": steps}]
    return Candidate(
        f"model-g0s{sample}", "model", 0, sample, "answer", source="code", rungs=rungs, complete=complete,
        used_env_steps=steps, **more,
    )  # fmt: skip


def winner(arm: str, fitness: list[float], failed: int = 0) -> Winner:
    return Winner(Finalist(f"{arm}-x", arm, "", ""), 0.5, fitness, {"slip": {"mean": 0.1, "unit": "m/s"}}, 0.25, failed)


def make(tmp_path: Path, candidates: list[Candidate], winners: dict[str, Winner]) -> dict[str, Any]:
    config = {"task": "cartpole-swingup", "proposer": "model", "arms": ("human", "sparse"), "env_steps": 1000,
              "seed": 3, "final_seeds": 3, "safety_instruction": True, "trust": "confined"}  # fmt: skip
    ledger = Ledger(tmp_path)
    for c in candidates:
        ledger.add("proposal", c.name, replayed=c.sample == 0, cost_usd=0.25, input_tokens=10, output_tokens=None)
    folder = SimpleNamespace(settings=Settings(config, {}, {}, []), id="x", ledger=ledger)
    return search_table.make(folder, {"model": candidates}, winners)  # type: ignore[arg-type]


CANDIDATES = [
    candidate(0, 0.8, 1024, complete=True),
    candidate(1, 0.4, 256, stopped="stopped", gaming={"suspected": True}),
    candidate(2, 0.1, 512, failed="boom"),
    candidate(3, None, 128, failed="boom"),
    Candidate("model-g0s4", "model", 0, 4, "answer", problems=["refused"]),
    Candidate("model-g0s5", "model", 0, 5, None, problems=["no answer"]),
]


def test_counts(tmp_path):
    table = make(tmp_path, CANDIDATES, {})
    assert table["counts"]["model"] == {
        "proposed": 6, "answered": 5, "executed": 3, "complete": 1,
        "env_steps": 1024 + 256 + 512 + 128, "env_steps_full": 1024 + 1024 + 512 + 128,
    }  # fmt: skip
    assert table["executed_share"] == pytest.approx(3 / 5) and table["candidates"] == 6
    assert table["env_steps_saved"]["share"] == pytest.approx(1 - 1920 / 2688)
    assert table["gaming"] == ["model-g0s1"] and table["replayed"]
    assert table["cost_usd"] == pytest.approx(1.5) and table["tokens"] == 60
    assert table["seeds"] == [1003, 1004, 1005] and table["arms"] == {}


def test_differences_are_paired(tmp_path):
    # Seeds differ much, arms by about 0.1 on each: unpaired nothing could be said.
    winners = {
        "model": winner("model", [0.9, 0.5, 0.1]),
        "human": winner("human", [0.8, 0.41, -0.01]),
        "sparse": winner("sparse", [0.85, 0.6, 0.2], failed=1),
    }
    table = make(tmp_path, CANDIDATES, winners)
    human, sparse = table["differences"]["human"], table["differences"]["sparse"]
    # By hand: differences 0.1, 0.09, 0.11; standard deviation 0.01; t of two degrees of freedom 4.303.
    assert human["mean"] == pytest.approx(0.1) and human["low"] == pytest.approx(0.1 - 4.303 * 0.01 / 3**0.5)
    assert human["better"] == "search" and sparse["better"] is None
    assert table["arms"]["model"]["replayed"] and not table["arms"]["human"]["replayed"]
    buffer = io.StringIO()
    Console(file=buffer, width=200).print(search_table.show(table))
    text = buffer.getvalue()
    assert "search better" in text and "undecided" in text and "(1 failed)" in text and "replayed" in text
    notes = "\n".join(search_table.notes(table))
    assert "3 of 5 answers ran" in notes and "model-g0s1" in notes and "29% saved" in notes and "1.50 USD" in notes


def test_a_search_that_loses_says_so(tmp_path):
    winners = {"model": winner("model", [0.1, 0.11, 0.12]), "human": winner("human", [0.5, 0.51, 0.53])}
    table = make(tmp_path, CANDIDATES, winners)
    assert table["differences"]["human"]["better"] == "human"
    buffer = io.StringIO()
    Console(file=buffer, width=200).print(search_table.show(table))
    assert "search worse" in buffer.getvalue()


def test_ranking():
    a, b, c = (
        candidate(0, 0.5, 1, complete=True),
        candidate(1, 0.7, 1, complete=True),
        candidate(2, 0.5, 1, complete=True),
    )
    assert [x.sample for x in ranked([a, b, c, candidate(3, 0.99, 1)])] == [1, 0, 2]


@pytest.mark.parametrize(("kept", "count", "share"), [(1, 1, 0.5), (2, 3, 0.5), (2, 4, 0.5), (1, 4, 0.01), (4, 4, 1.0)])
def test_how_many_go_on(kept, count, share):
    assert Settings({"keep": share}, {}, {}, []).kept(count) == kept


def test_stages():
    settings = Settings({"env_steps": 1000, "rungs": (0.2, 0.45)}, {}, {}, [])
    assert settings.targets == [200, 450, 1000]
    assert Settings({"env_steps": 10, "rungs": ()}, {}, {}, []).targets == [10]
    with pytest.raises(AttributeError):
        _ = settings.no_such_setting
    assert tasks.get("cartpole-swingup").name in tasks.names()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("y\n", {"model-g0s0", "model-g0s1"}),
        ("n\n", set()),
        ("what?\nmodel-g0s1\n", {"model-g0s0"}),
        ("model-g0s0, model-g0s1\n", set()),
    ],
)
def test_a_person_answers(typed, expected, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    best = candidate(7, 0.5, 1)
    best.source = "def reward(s):\n    return {'old': s.time_s}\n"
    shown = [candidate(0, None, 0), candidate(1, None, 0)]
    for c in shown:
        c.source = f"def reward(s):\n    return {{'new{c.sample}': s.time_s}}\n"
    assert ask_on_terminal("model-g0", shown, best) == expected
    text = capsys.readouterr().out
    assert "'new0'" in text and "'new1'" in text and "'old'" in text and "difference from model-g0s7" in text
    assert ("valid: y, n, q" in text) == typed.startswith("what")


@pytest.mark.parametrize(("typed", "message"), [("q\n", "nothing was approved"), ("", "standard input has ended")])
def test_a_person_stops(typed, message, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(UserError, match=message):
        ask_on_terminal("model-g0", [candidate(0, None, 0)], None)


def test_diff():
    assert diff("a\nb\n", "a\nc\n", "old", "new").splitlines() == [
        "--- old",
        "+++ new",
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]
