"""Rewards and fitness at states whose numbers are worked out by hand, in the comments beside them."""

from __future__ import annotations

import copy
import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from envs import rewards, tasks
from envs.environment import Environment
from envs.state import State
from envs.tasks import cartpole_swingup, go2_walk
from tests.envs.states import HOME, walking


def cart(**given: Any) -> State:
    """Cart in the middle, pole up, all at rest."""
    two = {name: torch.zeros(1, 2) for name in ("joint_position", "joint_velocity")}
    state = walking(1)
    for name, value in (two | {"action": torch.zeros(1, 1)}).items():
        setattr(state, name, torch.as_tensor(given.get(name, value)).view(1, -1))
    return state


def load(task: str, choice: str) -> rewards.Reward:
    return rewards.load(rewards.path_of(choice, tasks.get(task)))


def nonzero(components: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in components.items() if float(value[0]) != 0.0}


# The walking reward. Tolerance 1e-6: float32.

STANDING = {"alive": 0.3, "velocity": 1.7, "yaw_rate": 0.8}  # exp(0) + 0.7 exp(0); 0.5 exp(0) + 0.3 exp(0)


def charged(earned: dict[str, float], costs: dict[str, float]) -> dict[str, float]:
    """What is earned, and each cost's share of what all take away: in all earned * (1 - exp(-0.6 * costs))."""
    gain, cost = sum(earned.values()), sum(costs.values())
    return earned | {name: gain * (math.exp(-0.6 * cost) - 1.0) * value / cost for name, value in costs.items()}


# Name, state, what differs in what is earned, costs.
WALK_CASES: list[tuple[str, dict[str, Any], dict[str, float], dict[str, float]]] = [
    ("standing as told", {}, {}, {}),
    # Error 0.3 forward, 0.4 sideways: 0.09 + 0.16 = 0.25; exp(-0.8333) + 0.7 exp(-8.333) = 0.434598 + 0.000168
    ("wrong velocity", {"base_linear_velocity_b": [0.3, -0.4, 0.0]}, {"velocity": 0.434766}, {}),
    # The same, as a command of (0.3, -0.4) that is not followed: moving, no touch-down, feet at rest
    ("velocity not taken up", {"command": [0.3, -0.4, 0.0]}, {"velocity": 0.434766}, {}),
    # Error 0.2 rad/s: 0.04; 0.5 exp(-0.13333) + 0.3 exp(-1) = 0.437587 + 0.110364
    ("wrong yaw rate", {"base_angular_velocity_b": [0.0, 0.0, 0.2]}, {"yaw_rate": 0.547950}, {}),
    # 5 (0.36 + 0) for a tilt whose sine is 0.6
    ("tilted", {"gravity_b": [0.6, 0.0, -0.8]}, {}, {"tilt": 1.8}),
    # 10 x 0.1^2
    ("crouching", {"base_height": 0.19}, {}, {"height": 0.1}),
    # 0.5 x 0.4^2
    ("bouncing", {"base_linear_velocity_b": [0.0, 0.0, 0.4]}, {}, {"bounce": 0.08}),
    # 0.02 (1 + 4)
    ("rocking", {"base_angular_velocity_b": [1.0, -2.0, 0.0]}, {}, {"roll_pitch_rate": 0.1}),
    # Twelve joints off by 0.1 while standing: 0.05 x 12 x 0.01 and 0.3 x 12 x 0.1
    ("odd pose", {"joint_position": HOME + 0.1}, {}, {"pose": 0.006, "fidget": 0.36}),
    # Asked to turn and turning: only the pose counts
    ("odd pose in motion",
     {"joint_position": HOME + 0.1, "command": [0.0, 0.0, 1.0], "base_angular_velocity_b": [0.0, 0.0, 1.0]},
     {}, {"pose": 0.006}),
    # 0.3 x 0.5 m/s for the one foot of two moving ones that is on the ground
    ("slipping",
     {"foot_contact": [True, False, True, True],
      "foot_velocity_w": [[0.3, 0.4, 0.0], [0.3, 0.4, 9.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
      "foot_height": 0.08},
     {}, {"slip": 0.15}),
    # 0.02 x 12 x 0.5^2
    ("jerking", {"action": 0.25, "previous_action": -0.25}, {}, {"action_rate": 0.06}),
    # 2e-4 x 12 x 10^2
    ("straining", {"joint_torque": 10.0}, {}, {"torque": 0.24}),
    # 5e-4 x (12 - 1) x 20: the joint that brakes gives nothing back
    ("working", {"joint_power": [-50.0] + [20.0] * 11}, {}, {"power": 0.11}),
    # Several together: 0.05 x 12 x 0.01, 0.3 x 12 x 0.1 and 10 x 0.1^2
    ("odd and low", {"joint_position": HOME + 0.1, "base_height": 0.19}, {},
     {"pose": 0.006, "fidget": 0.36, "height": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "earned", "costs"), [case[1:] for case in WALK_CASES], ids=[case[0] for case in WALK_CASES]
)
def test_walk_components(given: dict[str, Any], earned: dict[str, float], costs: dict[str, float]) -> None:
    found = nonzero(load("go2-walk", "human")(walking(**given)))
    assert found == pytest.approx(charged(STANDING | earned, costs), abs=2e-6)


def test_walk_total_by_hand() -> None:
    """Tilted by a sine of 0.6: (0.3 + 1.7 + 0.8) exp(-0.6 x 1.8) = 2.8 x 0.339596; it stays positive."""
    total = sum(value[0].item() for value in load("go2-walk", "human")(walking(gravity_b=[0.6, 0.0, -0.8])).values())
    assert total == pytest.approx(0.950868, abs=1e-5)


def test_walk_counts_flights_at_touchdown_only() -> None:
    """0.5 ((0.30 - 0.25) + (0.15 - 0.25) + 0.1): flights of 0.30, 0.15 and 0.60 s end, the last one capped.

    The foot that is still in the air counts nothing yet. Feet at 0.08 m are clear of the ground: no clearance term.
    """
    state = walking(
        command=[0.5, 0.0, 0.0], base_linear_velocity_b=[0.5, 0.0, 0.0], foot_height=0.08,
        foot_air_time=[0.30, 0.15, 0.60, 0.40], foot_touchdown=[True, True, True, False],
    )  # fmt: skip
    reward = load("go2-walk", "human")
    assert nonzero(reward(state)) == pytest.approx({**STANDING, "steps": 0.025}, abs=1e-6)
    state.command[:] = 0.0  # told to stand: lifting feet earns nothing
    assert "steps" not in nonzero(reward(state))


def test_walk_clearance_weighs_height_errors_by_speed() -> None:
    """1.0 ((0.06 - 0.08)^2 x 1.0 + (0.10 - 0.08)^2 x 0.5 + 0 + 0.08^2 x 0) for feet at 1, 0.5, 2 and 0 m/s."""
    state = walking(
        command=[0.5, 0.0, 0.0], base_linear_velocity_b=[0.5, 0.0, 0.0], foot_contact=False,
        foot_height=[0.06, 0.10, 0.08, 0.0],
        foot_velocity_w=[[0.6, 0.8, 3.0], [0.5, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]],
    )  # fmt: skip
    found = nonzero(load("go2-walk", "human")(state))
    assert found == pytest.approx(charged(STANDING, {"clearance": 0.0006}), abs=2e-6)


@pytest.mark.parametrize(
    ("command", "velocity", "expected"),
    [
        ([0.5, 0.0, 0.0], [0.69, 0.0, 0.0], 1.0),  # off by 0.19 of 0.2 m/s
        ([0.5, 0.0, 0.0], [0.71, 0.0, 0.0], 0.0),
        ([0.5, 0.15, 0.0], [0.65, 0.0, 0.0], 0.0),  # off by 0.15 twice: 0.212 in all
        ([0.0, 0.0, 0.29], [0.0, 0.0, 5.0], 1.0),  # off by 0.29 of 0.3 rad/s; the velocity upwards does not count
        ([0.0, 0.0, -0.31], [0.0, 0.0, 0.0], 0.0),
    ],
)
def test_sparse_walk(command: list[float], velocity: list[float], expected: float) -> None:
    found = load("go2-walk", "sparse")(walking(command=command, base_linear_velocity_b=velocity))
    assert {name: value.tolist() for name, value in found.items()} == {"on_command": [expected]}


# Cartpole


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"upright": 1.0, "balanced": 1.0, "centered": 0.5}),
        ({"joint_position": [0.0, math.pi]}, {}),
        # Horizontal: half upright, so half of everything that asks for it; exp(-(1.5708 / 0.5)^2)
        ({"joint_position": [0.0, math.pi / 2]}, {"upright": 0.5, "balanced": 0.0000517, "centered": 0.25}),
        # 0.5 exp(-1)
        ({"joint_position": [0.6, 0.0]}, {"upright": 1.0, "balanced": 1.0, "centered": 0.183940}),
        # A turn is none; 0.5 exp(-(1.5/0.6)^2) = 0.5 exp(-6.25); 0.1 m beyond 1.4 m
        (
            {"joint_position": [-1.5, 2 * math.pi]},
            {"upright": 1.0, "balanced": 1.0, "centered": 0.000965, "edge": -0.1},
        ),
        # Leaning by 0.5: (1 + cos 0.5) / 2, exp(-1)
        ({"joint_position": [0.0, -0.5]}, {"upright": 0.938791, "balanced": 0.367879, "centered": 0.469396}),
        # Upright at 3 rad/s: exp(-1); 9 / (3 x 9.81) = 0.305810 too much energy. The cart's speed is free.
        ({"joint_velocity": [9.0, 3.0]}, {"upright": 1.0, "balanced": 0.367879, "centered": 0.5, "spin": -0.152905}),
        # Energy counts at most 3: 100 rad/s
        ({"joint_velocity": [0.0, 100.0]}, {"upright": 1.0, "centered": 0.5, "spin": -1.5}),
        # Hanging, 7 rad/s do not take it up: 49 / 29.43 - 1 < 1. 9 rad/s are too many: 81 / 29.43 - 2 = 0.752294
        ({"joint_position": [0.0, math.pi], "joint_velocity": [0.0, 7.0]}, {}),
        ({"joint_position": [0.0, math.pi], "joint_velocity": [0.0, 9.0]}, {"spin": -0.376147}),
        ({"action": [-0.5]}, {"upright": 1.0, "balanced": 1.0, "centered": 0.5, "effort": -0.005}),
    ],
)
def test_cartpole_components(given: dict[str, Any], expected: dict[str, float]) -> None:
    found = nonzero(load("cartpole-swingup", "human")(cart(**given)))
    found = {name: value for name, value in found.items() if abs(value) > 1e-6}
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("degrees", "expected"), [(0, 1.0), (18, 1.0), (-18, 1.0), (19, 0.0), (180, 0.0), (360, 1.0)])
def test_sparse_cartpole(degrees: float, expected: float) -> None:
    """cos > 0.95 is within 18.19 degrees."""
    found = load("cartpole-swingup", "sparse")(cart(joint_position=[1.0, math.radians(degrees)]))
    assert found["standing"].tolist() == [expected]


# Fitness and measures


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 1.0),
        ({"base_linear_velocity_b": [0.3, 0.4, 0.0]}, math.exp(-1.0)),  # (0.5 / 0.5)^2
        ({"base_angular_velocity_b": [0.0, 0.0, -0.6]}, math.exp(-1.0)),  # (0.6 / 0.6)^2
        # 0.15 m/s and 0.2 rad/s: exp(-0.09 - 0.1111)
        ({"base_linear_velocity_b": [0.0, 0.15, 0.0], "base_angular_velocity_b": [0.0, 0.0, 0.2]}, 0.817822),
        ({"command": [1.5, 0.0, 0.0]}, math.exp(-9.0)),
    ],
)
def test_walk_fitness(given: dict[str, Any], expected: float) -> None:
    assert float(go2_walk.tracking(walking(**given))[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ([0.0, 0.0], 1.0),
        ([0.0, 2 * math.pi], 1.0),  # one turn is none
        ([0.0, 0.4], math.exp(-1.0)),
        ([0.0, 2 * math.pi - 0.4], math.exp(-1.0)),
        ([-1.2, 0.4], math.exp(-2.0)),
        ([0.0, math.pi], 0.0),
    ],
)
def test_cartpole_fitness(position: list[float], expected: float) -> None:
    assert float(cartpole_swingup.balanced(cart(joint_position=position))[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({"gravity_b": [0.86, 0.0, -0.51]}, False),  # 59.3 degrees
        ({"gravity_b": [0.0, 0.87, -0.49]}, True),  # 60.7 degrees
        ({"base_height": 0.131}, False),
        ({"base_height": 0.129}, True),
        ({"illegal_contact": True}, True),
    ],
)
def test_walk_failure(given: dict[str, Any], expected: bool) -> None:
    assert tasks.get("go2-walk").terminated(walking(**given)).tolist() == [expected]


def test_walk_measures() -> None:
    measures = tasks.get("go2-walk").measures
    state = walking(
        base_linear_velocity_b=[0.3, 0.4, 9.0], base_angular_velocity_b=[0.0, 0.0, 0.7], command=[0.0, 0.0, 0.5],
        gravity_b=[0.5, 0.0, -math.sqrt(0.75)], joint_power=[-10.0] + [2.0] * 11, action=0.5,
        joint_acceleration=3.0, foot_contact=[True, True, False, False],
        foot_velocity_w=[[0.3, 0.4, 1.0], [0.1, 0.0, 0.0], [5.0, 0.0, 0.0], [5.0, 0.0, 0.0]],
    )  # fmt: skip
    found = {name: float(measure(state)[0]) for name, measure in measures.items()}
    expected = {
        "velocity_error": 0.5, "yaw_rate_error": 0.2, "tilt": 30.0, "power": 22.0, "speed": 0.5,
        "foot_slip": (0.5 + 0.1) / 2,  # of the two feet on the ground
        "action_rate": 12 * 0.25, "joint_acceleration": 3.0, "base_height": 0.29,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    in_the_air = walking(foot_contact=False, foot_velocity_w=1.0)
    assert float(measures["foot_slip"](in_the_air)[0]) == 0.0


# Manners


@pytest.mark.parametrize("choice", ["human", "sparse"])
@pytest.mark.parametrize("name", tasks.names())
def test_rewards_and_measures_only_read(name: str, choice: str) -> None:
    """They leave the state as it is, give (N,) float32, and say the same about a row whatever its company."""
    task, reward = tasks.get(name), load(name, choice)
    env = Environment(task, 6, reward=reward, num_threads=1)
    env.reset()
    for i in range(10):
        env.step(torch.full((6, env.num_actions), math.sin(i)))
    before = copy.deepcopy(env.state)
    functions = {**task.measures, "fitness": task.fitness_rate, "terminated": task.terminated}
    components = reward(env.state)
    measured = {key: function(env.state) for key, function in functions.items()}
    for field in fields(State):
        assert torch.equal(getattr(env.state, field.name), getattr(before, field.name)), field.name
    for key, value in [*components.items(), *measured.items()]:
        assert value.shape == (6,) and value.dtype == (torch.bool if key == "terminated" else torch.float32), key
        assert torch.isfinite(value).all(), key
    assert ((measured["fitness"] >= 0) & (measured["fitness"] <= 1)).all()
    assert set(task.measures) == set(task.measure_units)
    shared = ("joint_home", "joint_lower", "joint_upper")
    rows = {f.name: getattr(before, f.name) for f in fields(State)}
    few = State(**{key: value if key in shared else value[2:4] for key, value in rows.items()})
    for key, value in reward(few).items():
        assert torch.allclose(value, components[key][2:4], rtol=1e-5, atol=1e-6), key
