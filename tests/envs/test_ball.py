"""Go2 on its ball: what is measured of the ball, who sees it, when the task has failed and what it is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from agents.evaluate import run_episodes
from configs.errors import UserError
from envs import physics, rewards, tasks
from envs.environment import Environment
from envs.randomization import TERMS, applicable, scalar_terms
from envs.scene import build_model
from envs.state import State
from envs.tasks import go2_ball
from tests.envs.states import walking

TASK = tasks.get("go2-ball")


Ranges = dict[str, tuple[float, float]]


def environment(num_envs: int = 2, ranges: Ranges | None = None, **options: object) -> Environment:
    """Without randomization, unless told."""
    options |= {"reward": physics.no_reward, "randomization": ranges or {}, "num_threads": 1}
    made = Environment(TASK, num_envs, **options)  # type: ignore[arg-type]
    made.reset()
    return made


def standing(**given: object) -> State:
    """At home on top of the ball: base 0.67 m above its center; given fields replace these."""
    state = walking(1)
    level = {
        "base_height": [1.12], "ball_position_b": [[0.0, 0.0, -0.67]], "ball_linear_velocity_b": [[0.0, 0.0, 0.0]],
        "ball_angular_velocity_b": [[0.0, 0.0, 0.0]],
    }  # fmt: skip
    for name, value in (level | given).items():
        setattr(state, name, torch.as_tensor(value))
    return state


# The ball as it is measured


def test_ball_is_measured_as_mujoco_has_it() -> None:
    """Against MuJoCo's own object velocities, in motion: robot tilted and turning, ball rolling and spinning."""
    env = environment(4)
    rng = np.random.default_rng(0)
    quaternion = rng.normal(size=(4, 2, 4))
    quaternion /= np.linalg.norm(quaternion, axis=2, keepdims=True)
    env.sim.qpos[:, 3:7], env.sim.qpos[:, env.sim.ball_qpos + 3 : env.sim.ball_qpos + 7] = quaternion.transpose(1, 0, 2)
    env.sim.qpos[:, :3] += 1.0  # in the air, so that nothing collides
    env.sim.qvel[:] = rng.normal(size=env.sim.qvel.shape)
    env.step(torch.zeros(4, 12))
    model = build_model(env.robot, ball=TASK.ball, collision="feet")
    data = mujoco.MjData(model)
    base, ball = model.body("base").id, model.body("ball").id
    for i in range(4):
        data.qpos[:], data.qvel[:] = env.sim.qpos[i], env.sim.qvel[i]
        mujoco.mj_forward(model, data)
        to_base = data.xmat[base].reshape(3, 3).T
        velocity = np.zeros(6)  # angular, then linear, in the world's axes
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, ball, velocity, 0)
        s = env.state
        for measured, exact in (
            (s.ball_position_b, to_base @ (data.xpos[ball] - data.xpos[base])),
            (s.ball_linear_velocity_b, to_base @ velocity[3:]),
            (s.ball_angular_velocity_b, to_base @ velocity[:3]),
        ):
            assert np.allclose(measured[i].numpy(), exact, atol=2e-6)  # float32 of numbers up to about 5


def test_feet_carry_the_robot_and_the_ball_does_not_count_as_ground() -> None:
    """On top, feet press on the ball: upward forces of the robot's weight, and nothing illegal."""
    env = environment(2, collision="full")
    robot_kg = float(env.sim.model.body_mass.sum()) - TASK.ball.mass_kg  # type: ignore[union-attr]
    forces = []
    for _ in range(30):
        env.step(torch.zeros(2, 12))
        forces.append(env.state.foot_contact_force.sum(1))
    assert not env.state.illegal_contact.any() and env.state.foot_contact.all()
    # Over 0.4 s, in which the base starts to sink and tip a little: 5 %.
    assert torch.stack(forces[10:]).mean().item() == pytest.approx(robot_kg * 9.81, rel=0.05)


def test_ball_rolls_and_does_not_slide_under_a_standing_robot() -> None:
    """Rolling: the lowest point of the ball rests, v = spin x radius."""
    env = environment(1)
    for _ in range(40):
        env.step(torch.zeros(1, 12))
    v = env.sim.qvel[0, env.sim.ball_dofs : env.sim.ball_dofs + 3]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, env.sim.qpos[0, env.sim.ball_qpos + 3 : env.sim.ball_qpos + 7])
    spin = rotation.reshape(3, 3) @ env.sim.qvel[0, env.sim.ball_dofs + 3 : env.sim.ball_dofs + 6]
    assert np.hypot(*v[:2]) > 0.02
    assert np.allclose(np.cross(spin, [0.0, 0.0, 0.45])[:2], v[:2], atol=0.01)


# Who sees the ball


def test_the_policy_sees_nothing_of_the_ball_and_the_critic_does() -> None:
    """Another ball velocity and mass changes the critic's view and not the policy's, until the robot moves."""
    env, other = environment(1), environment(1)
    assert env.observation.readings == ("joint_position", "joint_velocity", "angular_velocity", "gravity")
    for each in (env, other):
        each.sim.qpos[:, 2] += 1.0  # out of touch
    other.sim.qpos[:, other.sim.ball_qpos] += 0.2
    other.sim.qvel[:, other.sim.ball_dofs : other.sim.ball_dofs + 6] = 1.0
    a, b = env.step(torch.zeros(1, 12)), other.step(torch.zeros(1, 12))
    assert torch.equal(a.observation, b.observation)
    changed = (a.critic_observation != b.critic_observation)[0]
    assert changed[-9:].all()
    assert not changed[:-9].any()


def test_without_a_ball_nothing_is_wider() -> None:
    walk = Environment(tasks.get("go2-walk"), 1, reward=physics.no_reward, num_threads=1)
    assert walk.state.ball_position_b.shape == (1, 0) and walk.state.ball_angular_velocity_b.shape == (1, 0)
    assert walk.sim.model.nq == 19 and walk.sim.ball_qpos is None
    assert "ball_mass" not in scalar_terms(False) and "ball_mass" in scalar_terms(True)
    assert set(TERMS) - set(applicable(False)) == {name for name in TERMS if name.startswith("ball_")}


@pytest.mark.parametrize("term", [name for name in TERMS if name.startswith("ball_")])
def test_a_term_of_the_ball_needs_a_ball(term: str) -> None:
    value = TERMS[term].neutral
    with pytest.raises(UserError, match=f"randomization {term}: there is no ball in this task; leave {term} out"):
        Environment(tasks.get("go2-walk"), 1, reward=physics.no_reward, randomization={term: (value, value)})


# When it is over, and what it is worth


@pytest.mark.parametrize(
    ("given", "over"),
    [
        ({}, False),
        ({"base_height": [0.91]}, False),
        ({"base_height": [0.89]}, True),  # lower than the ball is high
        ({"gravity_b": [[0.0, math.sin(math.radians(59)), -math.cos(math.radians(59))]]}, False),
        ({"gravity_b": [[0.0, math.sin(math.radians(61)), -math.cos(math.radians(61))]]}, True),
        ({"illegal_contact": [True]}, True),
    ],
)
def test_the_episode_ends_off_the_ball(given: dict[str, object], over: bool) -> None:
    state = standing(**given)
    assert TASK.terminated(state).tolist() == [over]
    assert TASK.fitness_rate(state).tolist() == [0.0 if over else 1.0]


@pytest.mark.parametrize(
    ("pose", "illegal"),
    [
        ("feet on the ball", False),
        ("knees on the ball", False),
        ("belly on the ball", True),
        ("feet on the ground", True),
    ],
)
def test_what_may_touch_what(pose: str, illegal: bool) -> None:
    env = environment(1, collision="full")
    if pose == "belly on the ball":
        env.sim.qpos[:, 2] = 0.9 + 0.05  # the trunk's box reaches 0.055 m down
        env.sim.qpos[:, env.sim.joint_qpos] = [0.0, 2.8, -0.9] * 4  # legs up in the air
    elif pose == "knees on the ball":
        env.sim.qpos[:, 2] = 1.01
        env.sim.qpos[:, env.sim.joint_qpos] = [0.0, 0.7, -2.6] * 4
    elif pose == "feet on the ground":
        env.sim.qpos[:, 0] += 3.0
        env.sim.qpos[:, 2] = 0.28
    env.task = replace(env.task, terminated=lambda s: torch.zeros_like(s.terminated))
    for _ in range(1 if illegal else 5):
        env.step(torch.zeros(1, 12))
    assert env.state.illegal_contact.tolist() == [illegal]


def test_fitness_is_the_share_of_thirty_seconds_and_seconds_are_reported() -> None:
    """Frozen in its home pose it falls off within a few seconds: the ball rolls away under it."""
    env = physics.build(TASK, "nominal", 32, seed=5, num_threads=1)
    episodes = run_episodes(lambda observation: torch.zeros(len(observation), 12), env)
    seconds = episodes.measures["seconds"]
    assert episodes.fallen.all() and not episodes.diverged.any()
    assert seconds == pytest.approx(episodes.length_s, abs=1e-4)
    # Steps before the one in which it fell count, of the 1,500 of 30 s.
    assert episodes.fitness == pytest.approx((seconds - 0.02) / 30.0, abs=1e-5)
    assert 0.8 < seconds.mean() < 2.2 and seconds.max() < 4.0


def test_a_full_episode_is_worth_one() -> None:
    """Bolted to the world it stays up there: 30 s, fitness 1, no fall."""
    env = physics.build(TASK, "nominal", 1, seed=0, num_threads=1)
    step = env.sim.step

    def held() -> None:
        before = env.sim.qpos.copy()
        step()
        env.sim.qpos[:], env.sim.qvel[:] = before, 0.0

    env.sim.step = held  # type: ignore[method-assign]
    episodes = run_episodes(lambda observation: torch.zeros(len(observation), 12), env)
    assert episodes.fitness.tolist() == [1.0] and not episodes.fallen.any()
    assert episodes.measures["seconds"] == pytest.approx([30.0], abs=1e-3)


# Rewards by hand


def component(name: str, **given: object) -> float:
    return float(rewards.load(rewards.path_of("human", TASK))(standing(**given))[name])


def test_human_reward_by_hand() -> None:
    """At rest at home, 0.67 m over the ball: 3 earned; height costs 10 x 0.01^2 = 0.001, times exp(-0.6 x 0.001)."""
    parts = rewards.load(rewards.path_of("human", TASK))(standing())
    assert sum(float(v) for v in parts.values()) == pytest.approx(3.0 * math.exp(-0.6 * 0.001), abs=1e-6)
    # 0.1 m aside: exp(-0.01 / 0.02); upright or not, aside is across gravity.
    assert component("centered", ball_position_b=[[0.1, 0.0, -0.66]]) == pytest.approx(math.exp(-0.5), abs=1e-6)
    tilted = [[math.sin(0.3), 0.0, -math.cos(0.3)]]
    below = [[0.66 * math.sin(0.3), 0.0, -0.66 * math.cos(0.3)]]
    assert component("centered", gravity_b=tilted, ball_position_b=below) == pytest.approx(1.0, abs=1e-6)
    assert component("ball_still", ball_linear_velocity_b=[[0.0, 0.3, 0.0]]) == pytest.approx(math.exp(-0.9), abs=1e-6)


def test_measures_by_hand() -> None:
    tilted = torch.tensor([[0.0, math.sin(0.2), -math.cos(0.2)]])
    aside = torch.tensor([[0.05, 0.0, 0.0]])
    state = standing(gravity_b=tilted, ball_position_b=0.6 * tilted + aside, ball_linear_velocity_b=[[0.3, 0.0, 0.4]])
    assert float(go2_ball.up_from_ball(state)) == pytest.approx(0.6, abs=1e-6)
    assert float(TASK.measures["off_center"](state)) == pytest.approx(0.05, abs=1e-6)
    assert float(TASK.measures["ball_speed"](state)) == pytest.approx(0.5, abs=1e-6)


def test_sparse_reward_by_hand() -> None:
    reward = rewards.load(rewards.path_of("sparse", TASK))

    def value(**given: object) -> list[float]:
        total: Tensor = sum(reward(standing(**given)).values())  # type: ignore[assignment]
        return total.tolist()

    assert value() == [1.0] and value(base_height=[0.89]) == [0.0] and value(terminated=[True]) == [0.0]
