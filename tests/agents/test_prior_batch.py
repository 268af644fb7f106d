"""Every row of the prior's batch is a simulation of its own: the others change nothing about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.prior_batch import Point, Trial, run_points
from configs.errors import UserError
from envs import tasks
from envs.environment import Step


def sway(observation: Tensor) -> Tensor:
    """A policy without matrix products, whose rows depend on nothing else: their rounding depends on the batch."""
    return torch.stack([(observation[:, (5 * k) % observation.shape[1]] * 0.3).clamp(-1, 1) for k in range(12)], 1)


def walk(seconds: float = 0.6, episodes: int = 3, seed: int = 5) -> Trial:
    return Trial.of(tasks.get("go2-walk"), seconds, episodes=episodes, seed=seed, threads=1)


VALUES = {"friction": 0.2, "base_mass": 6.0, "push_velocity": 3.0, "joint_position_noise": 0.2, "gravity": 4.0,
          "center_of_mass": 0.1, "motor_offset": 0.2, "kp": 0.5}  # fmt: skip
POINTS = [Point(name, value) for name, value in VALUES.items()]


def test_a_point_comes_out_alike_alone_and_among_others():
    together = run_points(sway, POINTS, walk())
    turned = run_points(sway, POINTS[::-1], walk())[::-1]
    for point, a, b in zip(POINTS, together, turned, strict=True):
        [alone] = run_points(sway, [point], walk())
        for other in (b, alone):
            if point.term != "joint_position_noise":  # keyed by the row, as in training
                assert np.array_equal(a.fitness, other.fitness) and np.array_equal(a.length_s, other.length_s), point


def test_all_else_stays_nominal():
    [nominal, neutral, heavy] = run_points(sway, [Point("", 0.0), Point("kp", 1.0), Point("base_mass", 8.0)], walk())
    assert np.array_equal(nominal.fitness, neutral.fitness), "a neutral value is the model as it is"
    assert not np.array_equal(nominal.fitness, heavy.fitness)


def test_episodes_of_values_are_paired():
    a, b = run_points(sway, [Point("kp", 1.0), Point("kd", 1.0)], walk(episodes=4))
    assert np.array_equal(a.fitness, b.fitness) and len(set(a.fitness.tolist())) == 4


def test_pushes_come_often_and_hurt():
    still, pushed = run_points(
        lambda o: torch.zeros(len(o), 12), [Point("push_velocity", 0.0), Point("push_velocity", 8.0)], walk(4.0, 6)
    )
    assert not still.fallen.any() and pushed.fallen.mean() > 0.5


def test_what_has_fallen_stands_still_and_costs_nothing():
    trial, steps = walk(2.0, 4), 0

    def count(step: Step) -> None:
        nonlocal steps
        steps += 1

    [light, upside] = run_points(
        lambda o: torch.zeros(len(o), 12), [Point("gravity", 0.0), Point("kp", 0.1)], trial, count
    )
    assert steps == 100 and light.env_steps == 400
    assert upside.fallen.all() and upside.env_steps < 400
    assert upside.env_steps == round(float(upside.length_s.sum()) / 0.02)


def test_success_is_the_threshold_and_no_divergence():
    [result] = run_points(lambda o: torch.zeros(len(o), 12), [Point("", 0.0)], walk(0.4, 4))
    middle = float(np.median(result.fitness))
    assert result.successes(middle) == int((result.fitness >= middle).sum())
    result.diverged[:] = True
    assert result.successes(0.0) == 0


def test_a_value_beyond_its_bounds_is_refused():
    with pytest.raises(UserError, match="leaves the bounds"):
        run_points(sway, [Point("kp", 50.0)], walk())


def test_a_ball_is_pushed_and_changed():
    trial = Trial.of(tasks.get("go2-ball"), 2.6, episodes=3, seed=5, threads=1)
    hold = lambda o: torch.zeros(len(o), 12)  # noqa: E731
    a, b, c = run_points(hold, [Point("", 0.0), Point("ball_mass", 1.0), Point("ball_push_velocity", 2.0)], trial)
    assert len({tuple(x.length_s) for x in (a, b)}) == 2
    assert c.fallen.all()


def test_an_episode_ends_when_its_success_is_decided():
    hold = lambda o: torch.zeros(len(o), 12)  # noqa: E731
    points = [Point("", 0.0), Point("kp", 0.5), Point("push_velocity", 2.0), Point("kp", 0.1)]
    whole = run_points(hold, points, walk(2.0, 8))
    middle = float(np.median(np.concatenate([r.fitness for r in whole])))
    for threshold in (0.5 * middle, middle, 1.2 * middle):
        trial = Trial.of(tasks.get("go2-walk"), 2.0, episodes=8, seed=5, threads=1, threshold=threshold)
        early = run_points(hold, points, trial)
        assert [r.successes(threshold) for r in early] == [r.successes(threshold) for r in whole], threshold
        assert sum(r.env_steps for r in early) < sum(r.env_steps for r in whole)
