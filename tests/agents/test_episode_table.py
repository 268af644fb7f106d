"""episodes.json: every episode with what it drew, as the simulations really have it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from agents import checkpoint, evaluate
from agents.episode_table import EpisodeTable, drawn_physics
from envs import physics, tasks

SHORT = replace(tasks.get("cartpole-swingup"), episode_length_s=0.2)
GO2 = tasks.get("go2-walk")


def test_columns_are_what_the_simulations_have():
    environment = physics.build(GO2, "randomized", 5, 3, num_threads=1)
    environment.reset()
    columns = drawn_physics(environment)
    assert set(columns) >= {"friction", "base_mass", "center_of_mass.x", "center_of_mass.y", "center_of_mass.z"}
    field = environment.randomizer.fields
    friction = field["geom_friction"][:, field.touching[0], 0]
    np.testing.assert_allclose(columns["friction"]["values"], friction, rtol=1e-3)
    model, base = environment.sim.model, field.base
    shift = field["body_ipos"][:, base] - model.body_ipos[base]
    for k, axis in enumerate("xyz"):
        np.testing.assert_allclose(columns[f"center_of_mass.{axis}"]["values"], shift[:, k], atol=1e-4)
    assert columns["base_mass"]["unit"] == "kg" and columns["base_mass"]["elements"] == 1
    assert columns["motor_strength"]["elements"] == 12
    low, high = GO2.randomization["motor_strength"]
    assert all(low <= value <= high for value in columns["motor_strength"]["values"])


def test_nominal_physics_draws_nothing():
    environment = physics.build(GO2, "nominal", 2, 3, num_threads=1)
    environment.reset()
    assert drawn_physics(environment) == {}


def test_the_file_holds_every_episode_and_agrees_with_the_evaluation(finished_run: Path, tmp_path: Path):
    run = Path(copytree(finished_run, tmp_path / "run"))
    loaded = replace(checkpoint.load_policy(run), task=SHORT)
    options = {"episodes": 6, "seeds": (1, 2), "threads": 1}
    report = evaluate.evaluate_run(loaded, ("nominal", "randomized"), **options)
    content = json.loads((run / "episodes.json").read_text())
    assert content["physics_hash"] == report["physics_hash"] and content["seeds"] == [1, 2]
    assert list(content["sets"]) == ["nominal", "randomized"]
    randomized = content["sets"]["randomized"]
    assert len(randomized["fitness"]) == len(randomized["fallen"]) == 12
    assert np.mean(randomized["fitness"]) == pytest.approx(report["sets"]["randomized"]["fitness"]["mean"], rel=1e-3)
    for column in randomized["physics"].values():
        assert len(column["values"]) == 12 and len(set(column["values"])) > 6
    assert content["sets"]["nominal"]["physics"] == {}
    evaluate.evaluate_run(loaded, ("select",), **options)
    assert list(json.loads((run / "episodes.json").read_text())["sets"]) == ["nominal", "randomized", "select"]
    evaluate.evaluate_run(loaded, ("nominal",), **{**options, "episodes": 5})
    assert list(json.loads((run / "episodes.json").read_text())["sets"]) == ["nominal"]  # the others had 6


def test_a_damaged_file_is_replaced(tmp_path):
    (tmp_path / "episodes.json").write_text("{")
    environment = physics.build(SHORT, "randomized", 3, 1, num_threads=1)
    table = EpisodeTable()
    table.add("randomized", environment, evaluate.run_episodes(lambda o: torch.zeros(len(o), 1), environment))
    report = {"task": SHORT.name, "physics_hash": "x", "episodes": 3, "seeds": [1]}
    table.write(tmp_path, report)
    assert len(json.loads((tmp_path / "episodes.json").read_text())["sets"]["randomized"]["fitness"]) == 3
