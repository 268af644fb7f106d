"""Which shift hurts: terms that compete for places are compared with the average term, not with their absence."""

from __future__ import annotations

import json
import re
from itertools import combinations

import numpy as np
import pytest

from envs import physics, tasks
from tests.watch import samples
from watch import episodes, shifts
from watch.episodes import Column, EpisodeSet
from watch.report import write_report

HASH = physics.digest(tasks.get("go2-walk"))
SHIFTS = dict(physics.physics_set(tasks.get("go2-walk"), "select").shifts)
AT_ONCE = physics.physics_set(tasks.get("go2-walk"), "select").at_once
EFFECTS = dict.fromkeys(SHIFTS, 0.0) | {"kp": -0.3, "friction": -0.1}
"""On fitness, when a term is shifted; the others are harmless."""


def every_combination() -> tuple[EpisodeSet, dict[str, np.ndarray]]:
    """Each choice of the terms twice, so that the set has exactly the expectations of the draw."""
    chosen = [set(c) for c in combinations(SHIFTS, AT_ONCE)] * 2
    marks = {term: np.array([term in c for c in chosen]) for term in SHIFTS}
    fitness = 0.8 + sum(EFFECTS[term] * mark for term, mark in marks.items())
    within = tasks.get("go2-walk").randomization
    columns = {}
    for term, mark in marks.items():
        (low, high), inside = SHIFTS[term], within.get(term, (1.0, 1.0))
        values = np.where(mark, (low + high) / 2, sum(inside) / 2)
        for name in (f"{term}.x", f"{term}.y") if term == "angular_velocity_bias" else (term,):
            columns[name] = Column(name, "", 1, values)
    return EpisodeSet("select", fitness, fitness < 0.55, columns), marks


def test_what_was_shifted_is_told_from_the_values():
    s, marks = every_combination()
    found = shifts.shifted(s, SHIFTS)
    assert found.keys() == marks.keys()
    assert all((found[term] == marks[term]).all() for term in marks)


def test_each_term_is_measured_against_the_average_term():
    s, marks = every_combination()
    harmless = marks["action_delay"]
    assert s.fitness[harmless].mean() > s.fitness[~harmless].mean() + 0.05  # the trap: it seems to protect
    compared = shifts.comparison(s, SHIFTS)
    assert (compared["at_once"], compared["of"]) == (AT_ONCE, len(SHIFTS))
    average = np.mean(list(EFFECTS.values()))
    for row in compared["rows"]:
        assert row["fitness"][0] == pytest.approx(EFFECTS[row["name"]] - average, abs=1e-4)
        assert row["fitness"][1] < row["fitness"][0] < row["fitness"][2]
    assert [row["name"] for row in compared["rows"]][:2] == ["kp", "friction"]
    assert len({row["fitness"][0] for row in compared["rows"][2:]}) == 1  # the harmless ones are alike
    assert compared["rows"][0]["falls"][0] == pytest.approx(1 - 1 / len(SHIFTS), abs=1e-4)  # it alone fells


def test_a_set_of_another_kind_is_not_compared():
    s, _ = every_combination()
    few = {term: SHIFTS[term] for term in list(SHIFTS)[:4]}
    assert shifts.comparison(s, few) is None  # how many of these are shifted varies
    assert shifts.comparison(s, {**SHIFTS, "armature": (1.1, 1.3)}) is None  # no such column
    assert shifts.comparison(s, {}) is None


def test_numbers_of_another_version_are_not_known():
    assert set(shifts.known_shifts("go2-walk", HASH)) == {"select", "report"}
    assert shifts.known_shifts("go2-walk", "302a209e792b") == {}
    assert shifts.known_shifts("no such task", HASH) == {}


def test_shifted_episodes_do_not_continue_a_curve():
    s, marks = every_combination()
    made = {p["name"]: p for p in episodes.panels([s], {"friction": (0.3, 1.5)}, {"select": marks})}
    curve = made["friction"]["curves"][0]
    assert sum(b["n"] for b in curve["bins"]) == (~marks["friction"]).sum()
    assert curve["shifted"]["n"] == marks["friction"].sum()
    assert all(b["to"] < SHIFTS["friction"][0] <= curve["shifted"]["from"] for b in curve["bins"])
    assert curve["shifted"]["fitness"][0] == pytest.approx(s.fitness[marks["friction"]].mean(), abs=1e-3)


@pytest.mark.parametrize("known", [True, False])
def test_the_report_compares_or_says_that_it_cannot(tmp_path, known):
    run = samples.write_run(tmp_path, iterations=5)
    evaluation = samples.evaluation() | {"physics_hash": HASH if known else "302a209e792b"}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    s, _ = every_combination()
    batch = {
        "fitness": s.fitness.tolist(), "fallen": s.fallen.astype(int).tolist(),
        "physics": {n: {"unit": "", "elements": 1, "values": c.values.tolist()} for n, c in s.columns.items()},
    }  # fmt: skip
    (run / "episodes.json").write_text(json.dumps({"format": 1, "sets": {"select": batch}}))
    page = write_report(run).read_text()
    data = json.loads(re.search(r'id="survival-data">(.*?)</script>', page, re.S)[1])
    assert bool(data["shifts"]) == known == ("Which shift hurts" in page) == ("Hollow points" in page)
    assert ("another version’s physics sets" in page) != known
