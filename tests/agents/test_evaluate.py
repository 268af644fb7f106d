"""Evaluation: scripted policies whose falls, lengths and figures are known, and the physics sets as promised."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import checkpoint, evaluate
from agents.evaluate import Episodes, interval, run_episodes, student_t, summarize
from configs.errors import UserError
from envs import physics, randomization, tasks
from envs.environment import Environment

CARTPOLE, GO2 = tasks.get("cartpole-swingup"), tasks.get("go2-walk")


def idle(actions: int):
    return lambda observation: torch.zeros(len(observation), actions)


class TestEpisodes:
    # Ten steps of 0.02 s. Simulation i falls once the time reaches its own; the last two never do.
    FALL_AT_S = torch.tensor([0.02, 0.1, 0.1, 0.2, math.inf, math.inf])
    TASK = replace(
        CARTPOLE,
        episode_length_s=0.2,
        terminated=lambda s: s.time_s > TestEpisodes.FALL_AT_S - 0.01,
        fitness_rate=lambda s: torch.full_like(s.time_s, 0.5),
        measures={"time": lambda s: s.time_s},
    )

    def build(self) -> Environment:
        return Environment(self.TASK, 6, reward=physics.no_reward, seed=0, num_threads=1)

    def test_falls_lengths_fitness_and_means(self):
        done = run_episodes(idle(1), self.build())
        assert done.fallen.tolist() == [True] * 4 + [False] * 2
        assert not done.diverged.any()
        np.testing.assert_allclose(done.length_s, [0.02, 0.1, 0.1, 0.2, 0.2, 0.2], rtol=1e-5)
        # The step that fails and all that it cuts off count 0: 0, 4, 4, 9, 10, 10 of 10 steps at 0.5.
        np.testing.assert_allclose(done.fitness, [0.0, 0.2, 0.2, 0.45, 0.5, 0.5], rtol=1e-5)
        # Means go over the steps that were made: 0.02 s to the end, whose mean is half of both together.
        np.testing.assert_allclose(done.measures["time"], [0.02, 0.06, 0.06, 0.11, 0.11, 0.11], rtol=1e-5)
        assert done.foot_use.shape == (6, 0)

    def test_the_episodes_after_the_first_do_not_count(self):
        """Simulation 0 restarts nine times while the others go on."""
        environment = self.build()
        done = run_episodes(idle(1), environment)
        assert environment.episodes.episode[0] == 10
        assert done.length_s[0] == pytest.approx(0.02)

    def test_a_diverged_simulation_is_told_apart(self):
        task = replace(self.TASK, terminated=CARTPOLE.terminated)
        environment = Environment(task, 6, reward=physics.no_reward, seed=0, num_threads=1)
        count = iter(range(100))

        def act(observation):
            if next(count) == 3:
                environment.sim.qvel[2] = 1e6
            return torch.zeros(len(observation), 1)

        done = run_episodes(act, environment)
        assert done.diverged.tolist() == [False, False, True, False, False, False]
        assert not done.fallen.any()
        assert done.length_s[2] == pytest.approx(0.08) and done.length_s[3] == pytest.approx(0.2)
        report = summarize(task, [done], 1.0)
        assert report["diverged"] == 1 and environment.diverged_count == 1
        assert report["length_s"]["mean"] == pytest.approx(0.2)  # of the other five

    def test_policy_sees_what_the_environment_shows(self):
        environment, seen = self.build(), []

        def act(observation):
            seen.append(observation.clone())
            return torch.full((6, 1), 0.25)

        run_episodes(act, environment)
        assert len(seen) == 10
        previous_action = seen[1][:, -1]
        assert previous_action.tolist() == [0.0] + [0.25] * 5  # the first has just begun anew


def episodes(n: int = 4, **changes: object) -> Episodes:
    measures = {"power": np.full(n, 100.0), "speed": np.full(n, 0.5)}
    plain = Episodes(fitness=np.linspace(0, 1, n), fallen=np.zeros(n, bool), diverged=np.zeros(n, bool),
                     length_s=np.full(n, 20.0), measures=measures, foot_use=np.full((n, 4), 0.6))  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


class TestSummary:
    WALK = replace(GO2, measures={"power": GO2.measures["power"], "speed": GO2.measures["speed"]})

    def test_cost_of_transport_by_hand(self):
        # 100 W at 0.5 m/s and 15 kg: 100 / (15 * 9.81 * 0.5)
        report = summarize(self.WALK, [episodes()], 15.0)
        assert report["cost_of_transport"]["mean"] == pytest.approx(1.35916, rel=1e-4)

    def test_nothing_of_a_diverged_episode_gets_into_a_mean(self):
        spoiled = episodes(
            diverged=np.array([False, False, False, True]),
            fallen=np.array([False, True, False, True]),
            fitness=np.array([0.2, 0.4, 0.6, np.nan]),
            length_s=np.array([1.0, 2.0, 3.0, np.nan]),
            measures={"power": np.array([90.0, 100.0, 110.0, np.nan]), "speed": np.array([0.4, 0.5, 0.6, np.nan])},
            foot_use=np.array([[0.5] * 4] * 3 + [[np.nan] * 4]),
        )
        report = summarize(self.WALK, [spoiled], 15.0)
        assert report["fitness"]["mean"] == pytest.approx(0.4)
        assert report["fall_rate"]["mean"] == pytest.approx(1 / 3)
        assert report["length_s"]["mean"] == pytest.approx(2.0)
        assert report["measures"]["power"]["mean"] == pytest.approx(100.0)
        assert report["cost_of_transport"]["mean"] == pytest.approx(1.35916, rel=1e-4)
        assert report["foot_use"] == [0.5] * 4
        assert report["diverged"] == 1
        json.dumps(report, allow_nan=False)

    def test_when_everything_diverged_there_is_no_figure(self):
        with pytest.raises(UserError, match="every simulation diverged"):
            summarize(self.WALK, [episodes(), episodes(diverged=np.ones(4, bool))], 15.0)

    def test_intervals_go_over_seeds(self):
        batches = [episodes(fitness=np.full(4, value)) for value in (0.5, 0.6, 0.7)]
        assert summarize(self.WALK, batches, 15.0)["fitness"]["mean"] == pytest.approx(0.6)
        half = 4.303 * 0.1 / math.sqrt(3)
        assert summarize(self.WALK, batches, 15.0)["fitness"]["low"] == pytest.approx(0.6 - half, rel=1e-4)


class TestIntervals:
    def test_known_numbers(self):
        # Ten yields of one plant, mean 6, standard deviation 2: 6 +- 2.262 * 2 / sqrt(10)
        spread = 2.0 / math.sqrt(10 / 9)
        values = [6 - spread, 6 + spread] * 5
        result = interval(values)
        assert result["mean"] == pytest.approx(6.0)
        assert result["high"] == pytest.approx(6 + 1.4306, abs=1e-3)
        assert result["low"] == pytest.approx(6 - 1.4306, abs=1e-3)

    def test_one_seed_has_none(self):
        assert interval([0.3]) == {"mean": pytest.approx(0.3), "low": None, "high": None}

    @pytest.mark.parametrize(
        ("degrees", "quantile"),  # printed in any table of Student's t, column 0.975
        [(1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (15, 2.131), (20, 2.086), (30, 2.042), (120, 1.980)],
    )
    def test_quantiles(self, degrees, quantile):
        assert student_t(degrees) == pytest.approx(quantile, abs=0.0025)

    def test_they_hold_the_truth_as_often_as_they_say(self):
        generator = np.random.default_rng(0)
        for seeds in (3, 12):
            results = [interval(generator.normal(1.0, 2.0, seeds)) for _ in range(2000)]
            share = np.mean([r["low"] <= 1.0 <= r["high"] for r in results])
            assert 0.935 < share < 0.965


class TestReport:
    SHORT = replace(CARTPOLE, episode_length_s=0.4)

    def test_it_is_the_same_every_time_and_another_seed_is_another_number(self):
        act = lambda observation: 0.5 * observation[:, :1].sin() + 0.3  # noqa: E731
        first, second = (
            evaluate.evaluate(act, self.SHORT, ("randomized", "select"), episodes=8, seeds=(5, 6), threads=1)
            for _ in range(2)
        )
        assert first == second
        other = evaluate.evaluate(act, self.SHORT, ("randomized",), episodes=8, seeds=(7, 8), threads=1)
        name = "cart_distance"
        assert other["sets"]["randomized"]["measures"][name] != first["sets"]["randomized"]["measures"][name]
        assert first["seeds"] == [5, 6] and first["physics_hash"] == physics.digest(self.SHORT)
        json.dumps(first, allow_nan=False)

    def test_episodes_do_not_depend_on_how_many_run_beside_them(self):
        act = idle(1)
        results = [run_episodes(act, physics.build(self.SHORT, "randomized", n, 3, num_threads=1)) for n in (4, 9)]
        np.testing.assert_array_equal(results[0].measures["upright"], results[1].measures["upright"][:4])

    def test_an_unknown_set(self):
        with pytest.raises(UserError, match=r"unknown physics set 'selekt'.*did you mean 'select'"):
            evaluate.evaluate(idle(1), CARTPOLE, ("selekt",), episodes=1, seeds=(0,))

    def test_sets_measured_before_are_kept_while_they_compare(self, finished_run: Path, tmp_path: Path):
        run = Path(shutil.copytree(finished_run, tmp_path / "run"))
        loaded = replace(checkpoint.load_policy(run), task=self.SHORT)
        options = {"episodes": 4, "seeds": (1, 2), "threads": 1}
        evaluate.evaluate_run(loaded, ("nominal",), **options)
        evaluate.evaluate_run(loaded, ("select",), **options)
        report = json.loads((run / "evaluation.json").read_text())
        assert list(report["sets"]) == ["nominal", "select"]
        evaluate.evaluate_run(loaded, ("nominal",), **{**options, "episodes": 5})
        report = json.loads((run / "evaluation.json").read_text())
        assert list(report["sets"]) == ["nominal"] and report["episodes"] == 5  # the others had 4
        assert not list(run.glob(".*tmp"))


def test_a_standing_go2_uses_all_its_feet():
    task = replace(GO2, episode_length_s=3.0)
    done = run_episodes(idle(12), physics.build(task, "nominal", 4, 0, num_threads=1))
    assert not done.fallen.any()
    # It is put down from a few centimeters, so that the feet are in the air at first.
    assert (done.foot_use > 0.93).all() and (done.foot_use <= 1.0).all()
    assert done.measures["speed"].max() < 0.1 and done.measures["tilt"].max() < 8


def test_a_go2_on_its_back_has_fallen_and_uses_no_foot():
    environment = physics.build(replace(GO2, episode_length_s=1.0), "nominal", 2, 0, num_threads=1)
    reset = environment.reset

    def upside_down():
        result = reset()
        environment.sim.qpos[:, 3:7] = [0.0, 1.0, 0.0, 0.0]
        return result

    environment.reset = upside_down  # type: ignore[method-assign]
    done = run_episodes(idle(12), environment)
    assert done.fallen.all() and (done.length_s <= 0.021).all() and (done.fitness == 0).all()
    assert (done.foot_use == 0).all()


def outside(training: tuple[float, float], shifted: tuple[float, float]) -> float:
    """How far the shifted range lies beyond the training range, as a share of its width.

    Towards 0, where a range that starts near it leaves no room, as a share of the bound that is passed.
    """
    width = training[1] - training[0]
    down = min(width, training[0]) if training[0] > 0 else width
    return max((shifted[0] - training[1]) / width, (training[0] - shifted[1]) / down)


SHIFTED = [(name, half) for name in tasks.names() for half in ("select", "report")]


class TestPhysicsSets:
    def shifts(self, task_name: str, half: str) -> dict[str, tuple[float, float]]:
        return {term: tuple(span) for term, span in physics.physics_set(tasks.get(task_name), half).shifts.items()}

    @pytest.mark.parametrize(("name", "half"), SHIFTED)
    def test_shifted_parameters_lie_at_least_a_fifth_outside_of_training(self, name, half):
        training, shifts = tasks.get(name).randomization, self.shifts(name, half)
        known = {term: span for term, span in shifts.items() if term in training}
        assert len(known) >= 3
        near = {t: round(outside(training[t], s), 3) for t, s in known.items() if outside(training[t], s) < 0.2 - 1e-9}
        assert near == {}
        for term, (low, high) in shifts.items():
            if term not in training:  # an effect that training never models
                neutral = randomization.TERMS[term].neutral
                assert not low <= neutral <= high, term

    @pytest.mark.parametrize(("name", "half"), SHIFTED)
    def test_they_have_effects_that_training_never_models(self, name, half):
        training, shifted = physics.PhysicsSet(), physics.physics_set(tasks.get(name), half)
        assert shifted.solver.integrator != training.solver.integrator
        assert shifted.solver.physics_dt_s != training.solver.physics_dt_s
        if tasks.get(name).robot != "cartpole":
            assert shifted.solver.cone == "elliptic" != training.solver.cone

    @pytest.mark.parametrize("name", tasks.names())
    def test_the_halves_have_no_physics_in_common(self, name):
        one, other = self.shifts(name, "select"), self.shifts(name, "report")
        apart = [t for t in one.keys() & other.keys() if one[t][1] < other[t][0] or other[t][1] < one[t][0]]
        assert apart, "an episode's physics could be drawn in both"
        assert one.keys() - other.keys() and other.keys() - one.keys()
        first, second = (physics.physics_set(tasks.get(name), half) for half in ("select", "report"))
        assert first.solver != second.solver and first.stiction != second.stiction

    @pytest.mark.parametrize("name", tasks.names())
    def test_what_is_not_shifted_is_as_in_training(self, name):
        task = tasks.get(name)
        assert physics.physics_set(task, "randomized").ranges == task.randomization
        assert physics.physics_set(task, "nominal").ranges == {}
        for half in ("select", "report"):
            chosen = physics.physics_set(task, half)
            assert chosen.ranges == task.randomization
            assert 2 <= chosen.at_once < len(chosen.shifts)

    @pytest.mark.parametrize(("name", "half"), SHIFTED)
    def test_each_episode_is_shifted_in_as_many_terms_as_the_set_says(self, name, half):
        task, chosen = tasks.get(name), physics.physics_set(tasks.get(name), half)
        environment = physics.build(task, half, 40, seed=3)
        environment.reset()
        counts = dict.fromkeys(chosen.shifts, 0)
        for i in range(40):
            drawn = environment.randomizer.describe(i, 0)
            moved = [t for t, (low, high) in chosen.shifts.items() if ((low <= drawn[t]) & (drawn[t] <= high)).all()]
            assert len(moved) == chosen.at_once, i
            for term in drawn.keys() - set(moved):
                neutral = randomization.TERMS[term].neutral
                low, high = task.randomization.get(term, (neutral, neutral))
                assert (drawn[term] >= low).all() and (drawn[term] <= high).all(), term
            for term in moved:
                counts[term] += 1
        assert min(counts.values()) > 0, counts

    # These are meant to be a nuisance: whoever changes a number of a physics set makes all results that were
    # measured before incomparable, and has to say so here.
    @pytest.mark.parametrize(
        ("name", "digest"),
        [
            ("cartpole-swingup", "3710ee945cb0"),
            ("go1-walk", "340a4ead3c1f"),
            ("go2-walk", "340a4ead3c1f"),
            ("go2-dash", "5e9faf18d113"),
            ("go2-ball", "29b0ede99fbf"),
        ],
    )
    def test_the_numbers_have_not_changed(self, name, digest):
        assert physics.digest(tasks.get(name)) == digest

    def test_any_number_changes_the_digest(self, monkeypatch):
        before = physics.digest(GO2)
        ranges = {**GO2.randomization, "friction": (0.3, 1.5000001)}
        assert physics.digest(replace(GO2, randomization=ranges)) != before
        halves = physics._SHIFTED["go2-walk"]
        changed = {**halves, "report": replace(halves["report"], stiction=1.51)}
        monkeypatch.setitem(physics._SHIFTED, "go2-walk", changed)
        assert physics.digest(GO2) != before
