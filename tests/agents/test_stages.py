"""Films of a training's stages: when they are made, what they cost, and that the training does not notice them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agents import stages, train
from agents.stages import MAX_COST, Stages
from configs.errors import UserError
from envs import gl, tasks
from tests.agents.test_train import StopAfter, assert_same_run

CARTPOLE = tasks.get("cartpole-swingup")


def planner(run: Path, every: float = 0.25, iteration: int = 0) -> Stages:
    return Stages(run, CARTPOLE, dict(CARTPOLE.randomization), "flat", every, 0, iteration)


class FakeTime:
    """A film that costs so many seconds, without drawing anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost_s: float) -> None:
        self.now, self.cost_s = 0.0, cost_s
        monkeypatch.setattr(stages.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Stages, "_record", self.record)

    def record(self, act: Any, path: Path) -> dict[str, Any]:
        self.now += self.cost_s
        return {"fitness": 0.5, "fall_rate": 0.0, "episodes": 16, "episode_s": 4.0}


def simulate(planned: Stages, total_s: float, iterations: int = 400) -> list[float]:
    """A training of total_s seconds; the shares of it at which a film was made."""
    filmed = []
    for i in range(1, iterations + 1):
        progress = i / iterations
        if planned.due(progress, total_s * progress):
            planned.film(None, iteration=i, env_steps=1000 * i, progress=progress, training_s=total_s * progress)  # type: ignore[arg-type]
            filmed.append(progress)
    return filmed


class TestPlan:
    @pytest.mark.parametrize(("total_s", "cost_s"), [(250.0, 2.4), (250.0, 0.3), (60.0, 0.7), (3600.0, 3.0)])
    def test_the_cost_stays_within_its_share(self, tmp_path, monkeypatch, total_s, cost_s):
        FakeTime(monkeypatch, cost_s)
        planned = planner(tmp_path)
        filmed = simulate(planned, total_s)
        assert 1 <= len(filmed) <= 4
        assert planned.seconds == pytest.approx(cost_s * len(filmed))
        assert planned.seconds <= MAX_COST * total_s

    def test_cheap_films_come_at_every_quarter(self, tmp_path, monkeypatch):
        FakeTime(monkeypatch, 0.3)
        assert simulate(planner(tmp_path), 250.0) == pytest.approx([0.0025, 0.2525, 0.5025, 0.7525])

    def test_dear_films_are_spread_over_the_training(self, tmp_path, monkeypatch):
        FakeTime(monkeypatch, 2.4)  # of 7.5 s that are allowed
        assert simulate(planner(tmp_path), 250.0) == pytest.approx([0.0025, 0.335, 0.67], abs=0.006)

    def test_after_a_slow_first_film_there_are_others(self, tmp_path, monkeypatch):
        """The first one may find the machine busy, and cost all that seemed to be there."""
        made = FakeTime(monkeypatch, 7.0)
        monkeypatch.setattr(Stages, "_record", lambda self, act, path: made.record(act, path))
        planned = planner(tmp_path)
        planned.film(None, iteration=1, env_steps=1, progress=0.0025, training_s=0.625)  # type: ignore[arg-type]
        made.cost_s = 1.0
        assert not planned.due(0.3, 75.0)  # 250 s in all
        assert planned.due(0.3, 150.0)  # the machine is half as fast: 500 s

    def test_a_short_training_has_none(self, tmp_path, monkeypatch):
        FakeTime(monkeypatch, 2.4)
        assert simulate(planner(tmp_path), 30.0) == []

    def test_zero_means_none(self, tmp_path, monkeypatch):
        FakeTime(monkeypatch, 0.1)
        assert simulate(planner(tmp_path, every=0.0), 1000.0) == []

    def test_a_failure_ends_the_films_and_not_the_training(self, tmp_path, monkeypatch, capsys):
        def fail(self: Stages, act: Any, path: Path) -> dict[str, Any]:
            raise UserError("no OpenGL back end works")

        monkeypatch.setattr(Stages, "_record", fail)
        assert len(simulate(planner(tmp_path), 1000.0)) == 1  # one try
        assert capsys.readouterr().out == (
            "the training goes on without films of its stages: no OpenGL back end works\n"
        )

    def test_what_was_filmed_after_the_checkpoint_is_filmed_again(self, tmp_path, monkeypatch):
        FakeTime(monkeypatch, 0.3)
        simulate(planner(tmp_path), 250.0)
        again = planner(tmp_path, iteration=150)
        assert [entry["iteration"] for entry in again.entries] == [1, 101]
        assert not again.due(0.5, 125.0) and again.due(0.51, 127.5)

    @pytest.mark.parametrize("content", ["", "{}", "[1, null, {}]", '[{"iteration": "x", "env_steps": 1}]', "[" * 9])
    def test_a_damaged_list_is_none(self, tmp_path, content):
        (tmp_path / "stages.json").write_text(content)
        assert stages.read(tmp_path) == []


@pytest.fixture
def drawing() -> None:
    try:
        gl.back_end()
    except UserError as error:
        pytest.skip(str(error))


def test_a_film_and_its_figures(tmp_path, drawing):
    import imageio.v2 as imageio

    planned = planner(tmp_path)
    planned.film(lambda o: torch.zeros(len(o), 1), iteration=3, env_steps=384, progress=0.5, training_s=1000.0)
    (entry,) = json.loads((tmp_path / "stages.json").read_text())
    assert entry["iteration"] == 3 and entry["env_steps"] == 384 and entry["video"] == "stages/000000000384.mp4"
    assert entry["episodes"] == 16 and 0 <= entry["fitness"] <= 1 and entry["cost_s"] > 0
    with imageio.get_reader(tmp_path / entry["video"]) as reader:
        about = reader.get_meta_data()
    assert about["fps"] == stages.FPS and tuple(about["size"]) == (stages.WIDTH, stages.HEIGHT)
    assert about["duration"] == pytest.approx(stages.EPISODE_S, abs=0.15)
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["000000000384.mp4"]


def test_the_training_does_not_notice(tmp_path, configure, drawing, monkeypatch):
    """Parameters, optimizer, environment and random states are the same to the last bit, with films and without."""
    monkeypatch.setattr(stages, "EPISODE_S", 0.2)
    monkeypatch.setattr(stages, "MAX_COST", 1e9)
    runs = []
    for name, overrides in (("with", ["video=true", "film_every=0.2"]), ("without", ["video=false"])):
        config = configure(tmp_path / name, "seed=4", "env_steps=640", *overrides)
        run, training = train.prepare(config)
        with pytest.raises(KeyboardInterrupt):
            training.learn(StopAfter(5))  # type: ignore[arg-type]
        training.save()
        runs.append(run)
    assert len(list((runs[0] / "stages").glob("*.mp4"))) >= 3
    assert not (runs[1] / "stages").exists()
    assert_same_run(*runs)


def test_a_resumed_training_keeps_its_films(tmp_path, configure, drawing, monkeypatch, capfd):
    monkeypatch.setattr(stages, "EPISODE_S", 0.2)
    monkeypatch.setattr(stages, "MAX_COST", 1e9)
    config = configure(tmp_path, "seed=4", "env_steps=640", "video=true", "film_every=0.2", "checkpoint_every_s=0")
    run, training = train.prepare(dict(config))
    with pytest.raises(RuntimeError):
        training.learn(StopAfter(3, RuntimeError))  # type: ignore[arg-type]
    _, training = train.prepare(configure(tmp_path, f"resume={run}"))
    assert [entry["iteration"] for entry in training.stages.entries] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        training.learn(StopAfter(5))  # type: ignore[arg-type]
    entries = stages.read(run)
    assert [entry["iteration"] for entry in entries] == sorted({entry["iteration"] for entry in entries})
    assert len(entries) >= 3 and all((run / entry["video"]).is_file() for entry in entries)
    assert capfd.readouterr().out == ""  # quiet: nobody asked for these


def test_an_option_that_makes_no_sense(configure, tmp_path):
    with pytest.raises(UserError, match=r"film_every=2.0; valid: 0 \(no films\) to 1"):
        train.prepare(configure(tmp_path, "film_every=2.0"))
    assert not list(tmp_path.glob("*/*"))
