"""Every randomization term of the ball by its physical effect: how it rolls, slides, sinks, bounces and is pushed.

The ball rolls alone; a block that the model builder takes for its robot lies far away. A thin-walled sphere: its moment
of inertia is 2/3 m r^2, so that rolling it takes 5/3 of the force that sliding it would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from envs import physics, tasks
from envs.ball import Ball
from envs.environment import Environment
from envs.randomization import TERMS
from envs.randomizer import Randomizer
from envs.robots.spec import RobotSpec
from envs.scene import SolverSettings, build_model
from envs.simulation import Simulation

G, RADIUS = 9.81, Ball().radius_m
COVERED: set[str] = set()


def effect_of(term: str) -> Callable:
    """Marks a test as the one of this term's physical effect."""
    COVERED.add(term)
    return lambda test: test


@pytest.mark.parametrize("term", [name for name, term in TERMS.items() if term.of_ball])
def test_every_term_of_the_ball_has_a_test(term: str) -> None:
    assert term in COVERED, f"add a test of what {term} does to the world, marked @effect_of({term!r})"


BLOCK = """<mujoco><compiler angle="radian" autolimits="true"/><worldbody>
  <body name="base" pos="0 0 0.05"><freejoint/><inertial pos="0.009 0 0" mass="4" diaginertia="0.05 0.08 0.1"/>
  <geom name="foot" type="sphere" size="0.02" pos="0 0 -0.03" mass="0"/>
  <body name="wheel"><inertial pos="0 0 0" mass="0.5" diaginertia="0.01 0.01 0.01"/>
    <joint name="hinge" type="hinge" axis="0 0 1" damping="0.01"/></body></body></worldbody></mujoco>"""


class Alley:
    """One ball on the ground, or above it."""

    def __init__(self, folder: Path, terms: dict[str, float], dt: float = 0.001) -> None:
        path = folder / "block.xml"
        path.write_text(BLOCK)
        one = np.ones(1)
        robot = RobotSpec(
            name="block", mjcf=path, joint_names=("hinge",), home_joint_position=np.zeros(1), kp=one, kd=one,
            torque_limit=one, knee_velocity=one, velocity_limit=2 * one, action_scale=one, control_dt_s=dt,
            base_body="base", feet=("foot",),
        )  # fmt: skip
        exact = SolverSettings(physics_dt_s=dt, iterations=50, line_search_iterations=50)
        self.sim = Simulation(build_model(robot, solver=exact, ball=Ball()), robot, 1, num_threads=1)
        self.dt = dt
        assert self.sim.ball_qpos is not None and self.sim.ball_dofs is not None
        self._at, self._moves = self.sim.ball_qpos, self.sim.ball_dofs
        randomizer = Randomizer(self.sim, {name: (value, value) for name, value in terms.items()}, seed=0)
        self.only = np.array([0])
        randomizer.reset(self.only, self.only)
        self.start()

    def start(self, *, height: float = RADIUS, velocity: float = 0.0, spin: float = 0.0) -> None:
        """The ball's center so high [m], moving along x and turning about y."""
        qpos, qvel = self.sim.model.qpos0[None].copy(), np.zeros((1, self.sim.model.nv))
        qpos[0, 0] = 50.0
        qpos[0, self._at + 2] = height
        qvel[0, self._moves], qvel[0, self._moves + 4] = velocity, spin
        self.sim.reset(self.only, self.sim.initial_rows(qpos, qvel, np.zeros((1, 1))))

    def tilt(self, angle: float) -> None:
        """Makes the ground a slope that falls along x."""
        self.sim.expand("gravity")[0] = [G * math.sin(angle), 0.0, -G * math.cos(angle)]

    def float(self) -> None:
        """No weight."""
        self.sim.expand("gravity")[0] = 0.0

    @property
    def velocity(self) -> np.ndarray:
        """(3,) [m/s]"""
        return self.sim.qvel[0, self._moves : self._moves + 3].copy()

    @property
    def height(self) -> float:
        return float(self.sim.qpos[0, self._at + 2])

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / self.dt)):
            self.sim.step()


@effect_of("ball_mass")
@pytest.mark.parametrize("mass", [1.0, 2.0, 3.0])
def test_ball_mass_resists_drag_and_turning(tmp_path: Path, mass: float) -> None:
    """Floating, a drag of 2 N s/m slows it by exp(-2 t / m). Down a slope of sine 0.1 it rolls with 3/5 g 0.1
    whatever its mass, which needs a moment of inertia that grows with it. 1 %: steps of 1 ms."""
    alley = Alley(tmp_path, {"ball_mass": mass, "ball_drag": 2.0})
    alley.float()
    alley.start(height=5.0, velocity=1.5)
    alley.run(0.5)
    assert alley.velocity[0] == pytest.approx(1.5 * math.exp(-2.0 * 0.5 / mass), rel=0.01)
    alley = Alley(tmp_path, {"ball_mass": mass, "ball_rolling_friction": 0.0})
    alley.tilt(math.asin(0.1))
    alley.run(1.0)
    # 3 %: it first settles on the soft contact.
    assert alley.velocity[0] == pytest.approx(0.6 * G * 0.1, rel=0.03)


@effect_of("ball_friction")
@pytest.mark.parametrize("friction", [0.2, 0.5, 0.8])
def test_ball_friction_slows_a_sliding_ball_until_it_rolls(tmp_path: Path, friction: float) -> None:
    """Launched at 6 m/s without spin it loses friction x g until it rolls, at 3/5 of its speed; 8 % as for a block."""
    alley = Alley(tmp_path, {"ball_friction": friction, "ball_rolling_friction": 0.0})
    alley.run(0.3)
    alley.start(height=alley.height, velocity=6.0)
    until_rolling = 0.4 * 6.0 / (friction * G)
    alley.run(0.4 * until_rolling)
    before = alley.velocity[0]
    alley.run(0.5 * until_rolling)
    assert before - alley.velocity[0] == pytest.approx(0.5 * 0.4 * 6.0, rel=0.08)
    alley.run(until_rolling)
    assert alley.velocity[0] == pytest.approx(0.6 * 6.0, rel=0.02)


@effect_of("ball_rolling_friction")
@pytest.mark.parametrize("length_m", [0.005, 0.01, 0.03])
def test_ball_rolling_friction_stops_a_rolling_ball(tmp_path: Path, length_m: float) -> None:
    """Torque length x m g against rolling: it slows by length g / (5/3 r). 5 %: the friction is regularized."""
    alley = Alley(tmp_path, {"ball_rolling_friction": length_m})
    alley.start(velocity=3.0, spin=3.0 / RADIUS)
    alley.run(0.3)
    before = alley.velocity[0]
    alley.run(0.5)
    assert before - alley.velocity[0] == pytest.approx(0.6 * length_m * G / RADIUS * 0.5, rel=0.05)


@effect_of("ball_rolling_friction")
def test_ball_rolling_friction_of_a_slow_ball_grows_with_its_speed(tmp_path: Path) -> None:
    """MuJoCo's friction is regularized: a slow ball is slowed by less than the law says, and never by more."""
    shares = []
    for speed in (0.25, 0.5, 1.0, 2.0):
        alley = Alley(tmp_path, {"ball_rolling_friction": 0.005})
        alley.start(velocity=speed, spin=speed / RADIUS)
        alley.run(0.3)
        before = alley.velocity[0]
        alley.run(0.5)
        shares.append((before - alley.velocity[0]) / (0.6 * 0.005 * G / RADIUS * 0.5))
    assert (np.diff(shares) > 0).all() and shares[-1] < 1.02
    assert shares[0] > 0.1


@effect_of("ball_drag")
@pytest.mark.parametrize("drag", [0.0, 0.5, 3.0])
def test_ball_drag_slows_the_ball_in_any_direction(tmp_path: Path, drag: float) -> None:
    """By exp(-drag t / 2 kg), floating; its spin goes on. 1 %: steps of 1 ms."""
    alley = Alley(tmp_path, {"ball_drag": drag})
    alley.float()
    alley.start(height=5.0, velocity=2.0, spin=3.0)
    alley.sim.qvel[0, alley.sim.ball_dofs + 1 : alley.sim.ball_dofs + 3] = [1.0, -0.5]  # type: ignore[operator]
    alley.run(0.8)
    assert alley.velocity == pytest.approx(np.array([2.0, 1.0, -0.5]) * math.exp(-drag / 2.0 * 0.8), rel=0.01)
    assert alley.sim.qvel[0, alley.sim.ball_dofs + 4] == pytest.approx(3.0, rel=1e-6)  # type: ignore[operator]


@effect_of("ball_softness")
def test_ball_softness_lets_it_sink_deeper(tmp_path: Path) -> None:
    """At rest the ground's spring carries it: depth = c (1 - d) / d softness^2; d rises with depth (see
    test_randomization.py), from 0.9 to 0.95 within 1 mm. c from softness 4."""

    def compliance(depth_m: float) -> float:
        x = min(depth_m / 0.001, 1.0)
        d = 0.9 + 0.05 * (2 * x * x if x <= 0.5 else 1 - 2 * (1 - x) ** 2)
        return (1 - d) / d

    depths = {}
    for softness in (0.5, 1.0, 2.0, 4.0, 8.0):
        alley = Alley(tmp_path, {"ball_softness": softness})
        alley.run(4.0)
        depths[softness] = RADIUS - alley.height
    scale = depths[4.0] / compliance(depths[4.0]) / 16.0
    for softness, depth in depths.items():
        assert depth == pytest.approx(scale * compliance(depth) * softness**2, rel=0.05)


@effect_of("ball_restitution")
@pytest.mark.parametrize("restitution", [0.3, 0.5, 0.8])
def test_ball_restitution_is_the_share_of_speed_that_returns(tmp_path: Path, restitution: float) -> None:
    """Dropped from about 0.5 m. 5 %: impacts fall anywhere within a step, and contact hardens with depth."""
    alley = Alley(tmp_path, {"ball_restitution": restitution}, dt=0.0005)
    shares = []
    for height in np.linspace(0.45, 0.55, 6):
        alley.start(height=RADIUS + height)
        fastest_down = fastest_up = 0.0
        for _ in range(round(0.7 / alley.dt)):
            alley.sim.step()
            speed = alley.velocity[2]
            fastest_down, fastest_up = min(fastest_down, speed), max(fastest_up, speed)
            if fastest_up > 0 and speed < fastest_up - 0.2:
                break  # on its way up
        shares.append(-fastest_up / fastest_down)
    assert np.mean(shares) == pytest.approx(restitution, rel=0.05)


def ball_environment(num_envs: int, ranges: dict[str, tuple[float, float]], seconds: float) -> Environment:
    task = replace(tasks.get("go2-ball"), episode_length_s=seconds, terminated=lambda s: torch.zeros_like(s.terminated))
    env = Environment(task, num_envs, reward=physics.no_reward, randomization=ranges, num_threads=1)
    env.reset()
    return env


@effect_of("ball_push_velocity")
def test_ball_pushes_change_its_velocity_at_times_of_their_own() -> None:
    """Jumps between two steps, over 3 s of 40 robots that are pushed as well."""
    ranges = {"push_velocity": (-1.0, 1.0), "ball_push_velocity": (-0.3, 0.5), "push_interval": (0.5, 1.0)}
    env = ball_environment(40, ranges, 3.1)
    assert env.sim.ball_dofs is not None
    step_physics, before, jumps = env.sim.step, env.sim.qvel.copy(), []

    def watched() -> None:
        jumps.append(env.sim.qvel - before)
        step_physics()

    env.sim.step = watched  # type: ignore[method-assign]
    for _ in range(150):
        before = env.sim.qvel.copy()
        env.step(torch.zeros(40, 12))
    jump = np.stack(jumps)
    ball = jump[:, :, env.sim.ball_dofs : env.sim.ball_dofs + 2]
    base, others = jump[:, :, :2], np.delete(jump, [0, 1, env.sim.ball_dofs, env.sim.ball_dofs + 1], axis=2)
    assert not others.any()
    pushed, base_pushed = ball.any(2), base.any(2)
    sizes = ball[pushed]
    assert sizes.min() >= -0.3 and sizes.max() <= 0.5 and len(sizes) > 110
    # Uniform, width 0.8: standard deviation 0.231; means within 4 standard errors.
    assert sizes.mean(0) == pytest.approx([0.1, 0.1], abs=4 * 0.231 / math.sqrt(len(sizes)))
    waits = np.concatenate([np.diff(np.flatnonzero(column), prepend=0) for column in pushed.T]) * env.dt
    assert waits.min() >= 0.5 - env.dt and waits.max() <= 1.0 + env.dt
    assert (pushed & base_pushed).sum() < 0.2 * pushed.sum()


def test_neutral_values_leave_the_physics_as_they_are() -> None:
    """Every term at its neutral value together: the same trajectory as without any, to the bit."""
    ranges = {name: (term.neutral, term.neutral) for name, term in TERMS.items()}
    plain, neutral = ball_environment(4, {}, 30.0), ball_environment(4, ranges, 30.0)
    for i in range(40):
        action = torch.full((4, 12), 0.3 * math.sin(i / 5))
        plain.step(action), neutral.step(action)
        assert np.array_equal(plain.sim.qpos, neutral.sim.qpos)
