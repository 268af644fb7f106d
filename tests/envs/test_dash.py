"""The dash: its reward, fitness and measures at states worked out by hand, and flights whose course is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.evaluate import Episodes, run_episodes
from envs import physics, rewards, tasks
from envs.environment import Environment
from envs.overlay import quantities
from envs.tasks import go2_dash
from envs.tasks.task import Start
from tests.envs.states import HOME, walking

DASH = tasks.get("go2-dash")
RUN = {"command": [2.0, 0.0, 0.0], "base_linear_velocity_b": [2.0, 0.0, 0.0]}


def nonzero(components: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in components.items() if float(value[0]) != 0.0}


def load(choice: str) -> rewards.Reward:
    return rewards.load(rewards.path_of(choice, DASH))


# The reward. Tolerance 2e-6: float32.

AT_PACE = {"alive": 0.3, "pace": 1.0, "velocity": 1.7, "yaw_rate": 0.8}


def charged(earned: dict[str, float], costs: dict[str, float]) -> dict[str, float]:
    """What is earned, and each cost's share of what all take away: in all earned * (1 - exp(-0.6 * costs))."""
    gain, cost = sum(earned.values()), sum(costs.values())
    return earned | {name: gain * (math.exp(-0.6 * cost) - 1.0) * value / cost for name, value in costs.items()}


# Name, state, what differs in what is earned, costs.
CASES: list[tuple[str, dict[str, Any], dict[str, float], dict[str, float]]] = [
    ("at pace", {}, {}, {}),
    # 1 - 2/2; exp(-13.3) + 0.7 exp(-133)
    ("still on the line", {"base_linear_velocity_b": [0.0, 0.0, 0.0]}, {"pace": 0.0, "velocity": 1.6e-6}, {}),
    # Error 1: 1 - 0.5; exp(-3.3333) + 0.7 exp(-33.3)
    ("half the pace", {"base_linear_velocity_b": [1.0, 0.0, 0.0]}, {"pace": 0.5, "velocity": 0.035674}, {}),
    # Error sqrt(0.09 + 0.16) = 0.5: 1 - 0.25; exp(-0.83333) + 0.7 exp(-8.3333)
    ("too fast and aslant", {"base_linear_velocity_b": [2.3, -0.4, 0.0]}, {"pace": 0.75, "velocity": 0.434766}, {}),
    # Error 0.2 rad/s: 0.04; 0.5 exp(-0.13333) + 0.3 exp(-1)
    ("turning", {"base_angular_velocity_b": [0.0, 0.0, 0.2]}, {"yaw_rate": 0.547950}, {}),
    # 5 (0.36 + 0)
    ("tilted", {"gravity_b": [0.6, 0.0, -0.8]}, {}, {"tilt": 1.8}),
    # 10 x 0.1^2 and 1.0 x 0.4^2
    ("low, bouncing", {"base_height": 0.19, "base_linear_velocity_b": [2.0, 0.0, 0.4]}, {},
     {"height": 0.1, "bounce": 0.16}),
    # 0.06 (1 + 4)
    ("rocking", {"base_angular_velocity_b": [1.0, -2.0, 0.0]}, {}, {"roll_pitch_rate": 0.3}),
    # 0.03 x 12 x 0.01; told to stand: 0.3 x 12 x 0.1 as well, and the velocity of 0 is right
    ("odd pose", {"joint_position": HOME + 0.1}, {}, {"pose": 0.0036}),
    ("odd pose, told to stand",
     {"joint_position": HOME + 0.1, "command": [0.0, 0.0, 0.0], "base_linear_velocity_b": [0.0, 0.0, 0.0]},
     {}, {"pose": 0.0036, "fidget": 0.36}),
    # Still braking at 0.3 m/s: the same by exp(-1), and an error of 0.3: 1 - 0.15; exp(-0.3) + 0.7 exp(-3)
    ("odd pose, braking",
     {"joint_position": HOME + 0.1, "command": [0.0, 0.0, 0.0], "base_linear_velocity_b": [0.3, 0.0, 0.0]},
     {"pace": 0.85, "velocity": 0.775669}, {"pose": 0.0036, "fidget": 0.132437}),
    # 0.15 x 0.5 m/s for the one foot of two moving ones that is on the ground; at 0.07 m clearance is right
    ("slipping",
     {"foot_contact": [True, False, True, True], "foot_height": 0.07,
      "foot_velocity_w": [[0.3, 0.4, 0.0], [0.3, 0.4, 9.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]},
     {}, {"slip": 0.075}),
    # 0.25 (0.02^2 x 1 + 0.02^2 x 0.5) for feet in the air, 2 cm too low and too high
    ("feet at the wrong height",
     {"foot_contact": False, "foot_height": [0.05, 0.09, 0.07, 0.0],
      "foot_velocity_w": [[0.6, 0.8, 3.0], [0.5, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]},
     {}, {"clearance": 0.00015}),
    # 0.015 x 12 x 0.5^2; 1e-4 x 12 x 10^2; 2e-4 x 11 x 20, the joint that brakes gives nothing back
    ("jerking", {"action": 0.25, "previous_action": -0.25}, {}, {"action_rate": 0.045}),
    ("straining", {"joint_torque": 10.0}, {}, {"torque": 0.12}),
    ("working", {"joint_power": [-50.0] + [20.0] * 11}, {}, {"power": 0.044}),
    # 0.5 ((0.25 - 0.2) + (0.12 - 0.2) + 0.1): flights of 0.25, 0.12 and 0.60 s end, the last one capped
    ("flights", {"foot_air_time": [0.25, 0.12, 0.60, 0.40], "foot_touchdown": [True, True, True, False]},
     {"steps": 0.035}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "earned", "costs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_components(given: dict[str, Any], earned: dict[str, float], costs: dict[str, float]) -> None:
    found = nonzero(load("human")(walking(**(RUN | given))))
    expected = charged(AT_PACE | earned, costs) if costs else AT_PACE | earned
    assert found == pytest.approx({name: value for name, value in expected.items() if value != 0.0}, abs=2e-6)


def test_falling_never_pays() -> None:
    """The reward stays positive however bad it gets, so that an end is a loss: flights of 0 s cost at most 0.4."""
    awful = walking(gravity_b=[0.8, 0.0, -0.6], joint_torque=40.0, action=1.0, previous_action=-1.0, **RUN)
    assert sum(float(value) for value in load("human")(awful).values()) > 0.0


@pytest.mark.parametrize(
    ("velocity", "yaw_rate", "expected"),
    [
        ([1.75, 0.1, 3.0], 0.4, 1.0),
        ([1.65, 0.0, 0.0], 0.0, 0.0),
        ([1.75, 0.2, 0.0], 0.0, 0.0),
        ([2.0, 0.0, 0.0], 0.6, 0.0),
    ],
)
def test_sparse(velocity: list[float], yaw_rate: float, expected: float) -> None:
    """Within 0.3 m/s in the plane (0.269, 0.35, 0.32, 0) and 0.5 rad/s."""
    state = walking(command=RUN["command"], base_linear_velocity_b=velocity,
                    base_angular_velocity_b=[0.0, 0.0, yaw_rate])  # fmt: skip
    assert {n: v.tolist() for n, v in load("sparse")(state).items()} == {"on_pace": [expected]}


# Fitness and measures


@pytest.mark.parametrize(
    ("command", "velocity", "expected"),
    [(2.0, 2.0, 1.0), (2.0, 1.6, 0.6), (2.0, 2.75, 0.25), (2.0, 0.9, 0.0), (2.0, -1.0, 0.0), (0.0, 0.3, 0.7)],
)
def test_fitness_rate(command: float, velocity: float, expected: float) -> None:
    """1 less a share for each m/s that the velocity along the track, not along the robot, is off."""
    state = walking(command=[command, 0.0, 0.0], base_linear_velocity_w=[velocity, 5.0, 0.0],
                    base_linear_velocity_b=[9.0, 9.0, 9.0])  # fmt: skip
    assert float(go2_dash.on_pace(state)[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "velocity", "expected"),
    [
        (3.0, 2.0, 0.008),  # 0.02 s at 2 m/s: 0.04 of 5 m
        (0.01, 2.0, 0.002),  # began 0.03 m before the line: 0.01 of 5 m
        (5.01, 2.0, 0.006),  # 4.97 to 5: 0.03 of 5 m
        (5.05, 2.0, 0.0),
        (3.0, -2.0, 0.0),  # backwards covers nothing
        (-0.5, 2.0, 0.0),
    ],
)
def test_track_share(x: float, velocity: float, expected: float) -> None:
    state = walking(base_position_w=[x, 0.7, 0.3], base_linear_velocity_w=[velocity, 0.0, 0.0])
    assert float(go2_dash.track_share(state)[0]) == pytest.approx(expected, abs=1e-6)


def test_measures() -> None:
    measures = DASH.measures
    state = walking(base_position_w=[3.2, -0.4, 0.3], base_linear_velocity_w=[1.5, 2.0, 0.0])
    expected = {"forward_velocity": 1.5, "velocity_error": 0.5, "distance": 3.2, "finished": 0.0, "drift": 0.4,
                "end_speed": 2.5}  # fmt: skip
    assert {name: float(measures[name](state)[0]) for name in expected} == pytest.approx(expected, rel=1e-6)
    assert float(measures["distance"](walking(base_position_w=[7.0, 0.0, 0.3]))[0]) == 5.0
    assert float(measures["distance"](walking(base_position_w=[-1.0, 0.0, 0.3]))[0]) == 0.0
    assert float(measures["finished"](walking(base_position_w=[5.0, 0.0, 0.3]))[0]) == 1.0


def test_what_is_never_asked_for_is_drawn_too() -> None:
    """The bars of a frame have room for the drift to the sides, although the command is always 0 there."""
    rows = quantities(physics.build(DASH, "nominal", 1, 0, num_threads=1), 0)
    assert [row.high for row in rows] == pytest.approx([2.3, 0.575, 0.575])
    assert [row.low for row in rows] == pytest.approx([-2.3, -0.575, -0.575])


# Episodes


def test_it_begins_on_the_line_along_the_track() -> None:
    for terrain in ("flat", "rough"):
        env = Environment(DASH, 300, reward=physics.no_reward, terrain=terrain, num_threads=1)  # type: ignore[arg-type]
        env.reset()
        assert env.state.base_position_w[:, :2].abs().max() == 0.0
        heading = 2 * torch.atan2(env.state.base_quaternion_w[:, 3], env.state.base_quaternion_w[:, 0])
        assert -0.05 <= heading.min() < -0.04 and 0.04 < heading.max() <= 0.05
        assert (env.state.command == torch.tensor([2.0, 0.0, 0.0])).all()


def test_the_command_is_zero_from_the_finish_to_the_end_of_the_episode() -> None:
    env = physics.build(DASH, "nominal", 3, 0, num_threads=1)
    judged_by = []
    env.on_measured = lambda: judged_by.append(env.state.command[:, 0].tolist())
    env.reset()
    still = torch.zeros(3, 12)
    env.step(still)
    env.sim.qpos[1, 0] = 5.1
    step = env.step(still)
    assert judged_by == [[2.0] * 3] * 2  # the step that crosses the line is still judged by 2 m/s
    assert env.state.command[:, 0].tolist() == [2.0, 0.0, 2.0]
    at = env.observation.slices["walk_command"]
    newest = step.observation.view(3, DASH.history, -1)[:, -1, at]
    assert newest[:, 0].tolist() == [2.0, 0.0, 2.0]  # and the policy is told at once
    env.sim.qpos[1, 0] = 4.9  # rolling back does not start it again
    env.step(still)
    assert env.state.command[:, 0].tolist() == [2.0, 0.0, 2.0]
    while int(env.episodes.episode[1]) == 0:
        env.step(still)
    assert env.state.command[:, 0].tolist() == [2.0] * 3


LIFTED_M = 300.0


def fly(velocity: list[list[float]], task: Any = DASH) -> Episodes:
    """Episodes of robots that fly over the track, far above the ground and with nothing to slow them down."""
    task = replace(task, start=Start(heading=(0.0, 0.0), spread=False))
    env = physics.build(task, "nominal", len(velocity), 0, num_threads=1)
    reset = env.reset

    def thrown() -> Any:
        result = reset()
        env.sim.qpos[:, 2] += LIFTED_M
        env.sim.qvel[:, :2] = np.array(velocity)
        return result

    env.reset = thrown  # type: ignore[method-assign]
    return run_episodes(lambda observation: torch.zeros(len(observation), 12), env)


def test_dashes_by_hand() -> None:
    """At 2, 1.5, 2.5, 0.9 and -1 m/s, the second drifting at 0.2 m/s.

    They take 2.5, 3.33 and 2 s; in 5 s the fourth comes 4.5 m far, the last nowhere. Fitness is 1 - |v - 2| all along.
    """
    done = fly([[2.0, 0.0], [1.5, 0.2], [2.5, 0.0], [0.9, 0.0], [-1.0, 0.0]])
    assert not done.fallen.any()
    measures = done.measures
    # The steps' ends lie up to 0.02 s from the lines: 0.05 m of 5 m
    np.testing.assert_allclose(done.fitness, [1.0, 0.5, 0.5, 0.0, 0.0], atol=0.01)
    np.testing.assert_allclose(measures["forward_velocity"], [2.0, 1.5, 2.5, 0.9, -1.0], atol=1e-3)
    np.testing.assert_allclose(measures["velocity_error"], [0.0, 0.5, 0.5, 1.1, 3.0], atol=1e-3)
    np.testing.assert_allclose(measures["distance"], [5.0, 5.0, 5.0, 4.5, 0.0], atol=2e-3)
    assert measures["finished"].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(measures["drift"], [0.0, 1.0, 0.0, 0.0, 0.0], atol=2e-3)  # 5 s at 0.2 m/s
    np.testing.assert_allclose(done.length_s, 5.0)


def test_a_fall_cuts_off_the_rest() -> None:
    """Two robots at 2 m/s: one falls after 2.5 m, one beyond the finish. Half the track is worth half the fitness."""

    def fallen(s: Any) -> torch.Tensor:
        return s.base_position_w[:, 0] > torch.tensor([2.5, 6.0])

    done = fly([[2.0, 0.0], [2.0, 0.0]], replace(DASH, terminated=fallen))
    assert done.fallen.tolist() == [True, True]
    np.testing.assert_allclose(done.fitness, [0.5, 1.0], atol=0.01)
    np.testing.assert_allclose(done.measures["distance"], [2.5, 5.0], atol=0.05)
    assert done.measures["finished"].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(done.length_s, [1.25, 3.0], atol=0.03)


def test_what_comes_after_the_finish_is_in_no_mean() -> None:
    """A robot that flies on at 2 m/s for 5 s: its feet and its speed are judged for 2.5 s."""
    late = replace(DASH, measures={**DASH.measures, "time": lambda s: s.time_s})
    done = fly([[2.0, 0.0]], late)
    assert done.measures["time"][0] == pytest.approx(1.25, abs=0.02)
    assert (done.foot_use == 0.0).all()
