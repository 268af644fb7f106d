"""What a model is told about a candidate, from figures written by hand."""

from __future__ import annotations

import pytest

from agents.reflection import correlation, gaming, reflect
from envs import tasks

CARTPOLE, GO2 = tasks.get("cartpole-swingup"), tasks.get("go2-walk")


def component(mean: float, std: float = 0.1, at_low: float = 0.0, at_high: float = 0.0) -> dict[str, float]:
    return {"mean": mean, "std": std, "low": mean - std, "high": mean + std, "at_low": at_low, "at_high": at_high}


def course(rewards: list[float], fitnesses: list[float], **components: dict[str, float]) -> list[dict]:
    return [
        {"env_steps": i, "reward": r, "fitness": f, "components": components}
        for i, (r, f) in enumerate(zip(rewards, fitnesses, strict=True))
    ]


def rung(fitness: float, steps: int = 1000, fall_rate: float = 0.0, falls: list[float] | None = None) -> dict:
    measures = {"upright": {"mean": 0.25, "unit": ""}, "foot_slip": {"mean": 0.123, "unit": "m/s"}}
    failure = {"fall_rate": fall_rate, "falls_by_quarter": falls or [0, 0, 0, 0],
               "fitness_by_quarter": [0.1, 0.2, 0.3, 0.4], "action_change": 0.5}  # fmt: skip
    select = {"fitness": {"mean": fitness}, "fall_rate": {"mean": fall_rate}, "measures": measures, "diverged": 3}
    return {"env_steps": steps, "select": select, "failure": failure}


def test_correlation():
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    # By hand: dx = (-1, 0, 1), dy = (-1, 2, -1), so the sum of products is 0.
    assert correlation([1, 2, 3], [1, 4, 1]) == pytest.approx(0.0)
    assert correlation([1, 2], [1, 2]) is None and correlation([1, 1, 1], [1, 2, 3]) is None


def test_a_reward_that_games_its_components_is_named():
    rising = [0.0, 1.0, 2.0, 3.0]
    found = gaming(course(rising, [0.10, 0.09, 0.08, 0.07]), 0.07, 0.7)
    assert found["suspected"] and found["correlation"] == pytest.approx(-1.0)
    assert found["fitness_share"] == pytest.approx(0.1) and found["reward_gain"] > 2
    assert not gaming(course(rising, [0.1, 0.2, 0.3, 0.4]), 0.4, 0.7)["suspected"], "fitness follows"
    assert not gaming(course(rising, [0.9, 0.8, 0.8, 0.8]), 0.8, 0.7)["suspected"], "the task is done"
    assert not gaming(course([1.0, 1.0, 1.0, 1.0], [0.1] * 4), 0.1, 0.7)["suspected"], "the reward never rose"
    assert gaming(course([1.0], [0.1]), 0.1, 0.7) is None
    text = reflect(CARTPOLE, course(rising, [0.10, 0.09, 0.08, 0.07]), [rung(0.07)], None)
    assert "Warning: the reward rose" in text and "-1.00" in text
    assert "Warning" not in reflect(CARTPOLE, course(rising, [0.1, 0.2, 0.3, 0.4]), [rung(0.4)], None)


def test_components_are_told():
    entries = course(
        [1, 2], [0.1, 0.2], big=component(0.75), small=component(-0.25, at_low=0.9), dead=component(0.0, std=0.0)
    )
    text = reflect(CARTPOLE, entries, [rung(0.2)], None)
    assert "- big: 0.75 0.75; spread 0.1, share 75%, range 0.65 to 0.85\n" in text
    assert (
        "- small: -0.25 -0.25; spread 0.1, share 25%, range -0.35 to -0.15; saturated: at its lowest value in 90%"
        in text
    )
    assert "- dead: 0 0; spread 0, share 0%, range 0 to 0; constant: it guides nothing" in text


def test_fitness_and_failures_are_told():
    stages = [rung(0.2, 500), rung(0.3, 1000, fall_rate=0.4, falls=[0.05, 0.25, 0.1, 0.0])]
    text = reflect(GO2, [], stages, "Its training was stopped.")
    assert "0.200 after 500 steps, 0.300 after 1,000 steps" in text and "done from 0.75" in text
    assert "Its training was stopped." in text
    assert "falls in 40% of the episodes, most often in its second quarter" in text
    assert "fitness in the four quarters of an episode: 0.10 0.20 0.30 0.40" in text
    assert "change by 0.50 from step to step on average (jittery)" in text
    assert "foot slip: 0.123 m/s" in text and "3 simulations diverged" in text


def test_damaged_figures_do_not_stop_it():
    """They come from the candidate's process: anything may stand there."""
    odd = [{"reward": None, "components": {"x": {"mean": None}}}, {"components": {}}, {"fitness": float("nan")}]
    text = reflect(CARTPOLE, odd, [rung(0.1)], None)
    assert "- x: – – –" in text and gaming(odd, 0.1, 0.7) is None
