"""Every randomization term by its physical effect: what moves, how fast, where it rests, what it reads.

Small machines stand in for a robot where a formula then gives the expected number: an arm on a hinge, a block
on four round feet, a ball. They go through the same model builder, simulation and writers as the robots.
A term without a test here fails `test_every_term_has_a_test`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from envs import tasks
from envs.environment import Environment
from envs.randomization import TERMS, applicable
from envs.randomizer import Randomizer
from envs.robots import get as get_robot
from envs.robots.spec import RobotSpec
from envs.scene import MAX_DELAY_S, SolverSettings, build_model
from envs.simulation import Simulation

G = 9.81
COVERED: set[str] = set()


def effect_of(*terms: str) -> Callable:
    """Marks a test as the one of these terms' physical effect."""
    COVERED.update(terms)
    return lambda test: test


@pytest.mark.parametrize("term", applicable(ball=False))  # those of a ball: test_randomization_ball.py
def test_every_term_has_a_test(term: str) -> None:
    assert term in COVERED, f"add a test of what {term} does to the world, marked @effect_of({term!r})"


def test_no_test_of_a_term_that_is_gone() -> None:
    assert set(TERMS) >= COVERED


# Machines

# A hinge along gravity, so that gravity does not turn it; inertia about the hinge 0.1 kg m^2.
ARM = """<mujoco><compiler angle="radian" autolimits="true"/><worldbody><body name="base">
  <geom type="box" size=".05 .05 .05" mass="2" contype="0" conaffinity="0"/>
  <body name="arm"><inertial pos="0 0 0" mass="1" diaginertia="0.1 0.1 0.1"/>
    <joint name="hinge" type="hinge" axis="0 0 1" {joint}/></body></body></worldbody></mujoco>"""
ARM_INERTIA = 0.1

# The center of mass is low, so that the block slides before it tips. A wheel hangs off the base: 0.5 kg. The
# base's center of mass is off its origin, as on a robot: MuJoCo treats a body without any offset as simpler.
BLOCK = """<mujoco><compiler angle="radian" autolimits="true"/><worldbody>
  <body name="base" pos="0 0 0.05"><freejoint/><inertial pos="0.009 0 0" mass="4" diaginertia="0.05 0.08 0.1"/>
  <geom name="FR" type="sphere" size="0.02" pos="0.2 -0.1 -0.03" mass="0"/>
  <geom name="FL" type="sphere" size="0.02" pos="0.2 0.1 -0.03" mass="0"/>
  <geom name="RR" type="sphere" size="0.02" pos="-0.2 -0.1 -0.03" mass="0"/>
  <geom name="RL" type="sphere" size="0.02" pos="-0.2 0.1 -0.03" mass="0"/>
  <body name="wheel"><inertial pos="0 0 0" mass="0.5" diaginertia="0.01 0.01 0.01"/>
    <joint name="hinge" type="hinge" axis="0 0 1" damping="0.01"/></body></body></worldbody></mujoco>"""

BALL = """<mujoco><worldbody><body name="base"><freejoint/>
  <geom name="ball" type="sphere" size="0.022" mass="1"/>
  <body name="wheel"><inertial pos="0 0 0" mass="0.01" diaginertia="1e-5 1e-5 1e-5"/>
    <joint name="hinge" type="hinge" axis="0 0 1" damping="0.01"/></body></body></worldbody></mujoco>"""


class Machine:
    """One simulation of a small robot; `step` is one physics step."""

    def __init__(
        self,
        folder: Path,
        xml: str,
        terms: dict[str, float],
        *,
        feet: tuple[str, ...] = (),
        dt: float = 0.001,
        kp: float = 10.0,
        kd: float = 0.5,
        torque_limit: float = 10.0,
        knee: float = 10.0,
        no_load: float = 20.0,
        home: float = 0.0,
    ) -> None:
        path = folder / "machine.xml"
        path.write_text(xml)
        robot = RobotSpec(
            name="machine", mjcf=path, joint_names=("hinge",), home_joint_position=np.array([home]),
            kp=np.array([kp]), kd=np.array([kd]), torque_limit=np.array([torque_limit]),
            knee_velocity=np.array([knee]), velocity_limit=np.array([no_load]), action_scale=np.ones(1),
            control_dt_s=dt, base_body="base", feet=feet,
        )  # fmt: skip
        exact = SolverSettings(physics_dt_s=dt, iterations=50, line_search_iterations=50)
        model = build_model(robot, solver=exact)
        self.sim = Simulation(model, robot, 1, num_threads=1)
        self.dt = dt
        self.randomizer = Randomizer(self.sim, {name: (value, value) for name, value in terms.items()}, seed=0)
        self.episode = 0
        self.start()

    def start(self, *, angle: float | None = None, rate: float = 0.0, height: float | None = None,
              velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:  # fmt: skip
        """A new episode: hinge at home or at angle, target there too."""
        sim = self.sim
        everything = np.array([0])
        self.randomizer.reset(everything, np.array([self.episode]))
        self.episode += 1
        qpos, qvel = sim.model.qpos0[None].copy(), np.zeros((1, sim.model.nv))
        at = sim.robot.home_joint_position[0] if angle is None else angle
        qpos[0, sim.joint_qpos], qvel[0, sim.joint_dofs] = at, rate
        if sim.floating:
            qvel[0, :3] = velocity
            if height is not None:
                qpos[0, 2] = height
        sim.reset(everything, sim.initial_rows(qpos, qvel, np.array([[at]])))

    @property
    def angle(self) -> float:
        return float(self.sim.qpos[0, self.sim.joint_qpos[0]])

    @property
    def rate(self) -> float:
        return float(self.sim.qvel[0, self.sim.joint_dofs[0]])

    def aim(self, target: float) -> None:
        self.sim.ctrl[:] = target

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / self.dt)):
            self.sim.step()

    def torque(self, target: float, rate: float = 0.0, inertia: float = ARM_INERTIA) -> float:
        """[N m] what the motor does to the arm in one step, from how much faster the arm turns after it."""
        self.start(angle=0.0, rate=rate)
        self.aim(target)
        self.sim.step()
        return (self.rate - rate) / self.dt * inertia


def arm(folder: Path, terms: dict[str, float], joint: str = "", **options: float) -> Machine:
    return Machine(folder, ARM.format(joint=joint), terms, **options)  # type: ignore[arg-type]


def block(folder: Path, **terms: float) -> Machine:
    return Machine(folder, BLOCK, terms, feet=("FR", "FL", "RR", "RL"))


def feet_load(machine: Machine) -> np.ndarray:
    """[N] mean upward force of the ground on each foot over 0.2 s, once everything is at rest."""
    machine.run(1.0)
    loads = []
    for _ in range(round(0.2 / machine.dt)):
        machine.sim.step()
        loads.append([-machine.sim.sensordata[0, machine.sim.model.sensor(f"{f}_force").adr[0] + 2]
                      for f in machine.sim.robot.feet])  # fmt: skip
    return np.mean(loads, 0)


# Contact


@effect_of("friction")
@pytest.mark.parametrize("friction", [0.1, 0.3, 0.6, 1.0])
def test_friction_stops_a_sliding_block(tmp_path: Path, friction: float) -> None:
    """It slows down by friction times g. 8 %: sliding this fast, the block bobs a little on its soft feet."""
    machine = block(tmp_path, friction=friction)
    machine.run(0.5)
    machine.sim.qvel[0, 0] = 8.0
    machine.run(0.2)
    before = machine.sim.qvel[0, 0]
    machine.run(0.4)
    assert before - machine.sim.qvel[0, 0] == pytest.approx(friction * G * 0.4, rel=0.08)


@effect_of("friction")
@pytest.mark.parametrize("friction", [0.2, 0.4, 0.7])
def test_friction_decides_the_slope_on_which_a_block_slips(tmp_path: Path, friction: float) -> None:
    """It slips where the slope's tangent exceeds the friction: 10 % below it creeps, 10 % above it accelerates."""
    speeds = []
    for share in (0.9, 1.1):
        machine = block(tmp_path, friction=friction)
        angle = math.atan(share * friction)
        machine.sim.expand("gravity")[0] = [G * math.sin(angle), 0.0, -G * math.cos(angle)]
        machine.run(1.0)
        speeds.append(float(machine.sim.qvel[0, 0]))
    slope = math.atan(1.1 * friction)
    sliding = G * (math.sin(slope) - friction * math.cos(slope))  # after 1 s
    assert speeds[0] < 0.02  # the regularized constraint creeps by millimeters a second
    assert speeds[1] == pytest.approx(sliding, rel=0.15)


def rebound(folder: Path, restitution: float, dt: float) -> list[float]:
    """Speed after over speed before the impact, from ten heights: impacts fall anywhere within a step."""
    ball = Machine(folder, BALL, {"restitution": restitution}, feet=("ball",), dt=dt)
    shares = []
    for height in np.linspace(0.06, 0.10, 10):
        ball.start(height=0.022 + height)
        before = after = 0.0
        touched = False
        for _ in range(round(0.35 / dt)):
            ball.sim.step()
            speed = float(ball.sim.qvel[0, 2])
            touched = touched or speed > before + 1e-9
            before, after = (before, max(after, speed)) if touched else (speed, after)
        shares.append(-after / before)
    return shares


@effect_of("restitution")
@pytest.mark.parametrize("restitution", [0.2, 0.3, 0.5, 0.7, 0.9])
def test_restitution_is_the_share_of_speed_that_returns(tmp_path: Path, restitution: float) -> None:
    """Rebound height is restitution squared, at small steps. 5 %: impacts fall anywhere within a step."""
    heights = np.square(rebound(tmp_path, restitution, 0.0005))
    assert np.mean(heights) == pytest.approx(restitution**2, rel=0.05)


@effect_of("restitution")
def test_restitution_at_the_training_step(tmp_path: Path) -> None:
    """At 5 ms a contact lasts few steps: 15 % in the mean, more from impact to impact; no energy is won."""
    given = np.array([0.0, 0.2, 0.3, 0.5, 0.7, 0.9])
    shares = np.array([rebound(tmp_path, float(e), 0.005) for e in given])
    assert (np.diff(shares.mean(1)) > 0).all()
    assert shares.mean(1)[1:] == pytest.approx(given[1:], rel=0.15)
    assert shares.mean(1)[0] < math.exp(-2) + 0.02  # critical damping: as little as a pushing ground can do
    assert (shares < 1.0).all()


@effect_of("contact_softness")
def test_contact_softness_lets_a_ball_sink_deeper_and_settle_slower(tmp_path: Path) -> None:
    """At rest a share 1 - d of gravity is balanced by d times the spring: depth = c (1 - d) / d softness^2.

    c is taken from softness 1. d rises with the depth from 0.9 to 0.95 within 1 mm, as MuJoCo's solimp says
    (documentation, "Solver parameters": two parabolas that meet in the middle). The distance to the resting
    depth shrinks by exp(-t / time constant), and the time constant is 0.02 s x softness.
    """

    def impedance(depth_m: float) -> float:
        x = min(depth_m / 0.001, 1.0)
        return 0.9 + 0.05 * (2 * x * x if x <= 0.5 else 1 - 2 * (1 - x) ** 2)

    def compliance(depth_m: float) -> float:
        return (1 - impedance(depth_m)) / impedance(depth_m)

    depths, times = {}, {}
    for softness in (0.5, 1.0, 1.5, 3.0, 6.0):
        ball = Machine(tmp_path, BALL, {"contact_softness": softness}, feet=("ball",))
        ball.start(height=0.022)
        track = []
        for _ in range(1500):
            ball.sim.step()
            track.append(0.022 - float(ball.sim.qpos[0, 2]))
        depths[softness] = track[-1]
        times[softness] = 0.001 * np.flatnonzero(np.abs(np.array(track) / track[-1] - 1) > 0.05)[-1]
    scale = depths[1.0] / compliance(depths[1.0])
    for softness, depth in depths.items():
        assert depth == pytest.approx(scale * compliance(depth) * softness**2, rel=0.05)
    # Settled within 5 % after 3 to 5 time constants, by how much d changes on the way: proportional within 50 %.
    for softness in (0.5, 1.5, 3.0, 6.0):
        assert times[softness] / times[1.0] == pytest.approx(softness, rel=0.5)


# Mass and gravity


@effect_of("base_mass")
@pytest.mark.parametrize("added", [-1.0, 0.0, 3.0])
def test_base_mass_weighs_on_the_ground(tmp_path: Path, added: float) -> None:
    """At rest the ground carries the weight; 0.1 %: what is left of settling."""
    assert feet_load(block(tmp_path, base_mass=added)).sum() == pytest.approx((4.5 + added) * G, rel=1e-3)


@effect_of("link_mass")
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.5])
def test_link_mass_weighs_on_the_ground_and_resists_turning(tmp_path: Path, scale: float) -> None:
    """Only the 0.5 kg wheel is a link here; the arm's inertia grows with its mass."""
    assert feet_load(block(tmp_path, link_mass=scale)).sum() == pytest.approx((4.0 + 0.5 * scale) * G, rel=1e-3)
    pushed = arm(tmp_path, {"link_mass": scale})
    # Torque 10 x 0.2 = 2 N m on 0.1 kg m^2 x scale; kd acts once the arm moves, not in the first step.
    assert pushed.torque(0.2) == pytest.approx(2.0 / scale, rel=1e-6)


@effect_of("center_of_mass")
@pytest.mark.parametrize("shift", [-0.05, 0.0, 0.03])
def test_center_of_mass_moves_the_load_between_feet(tmp_path: Path, shift: float) -> None:
    """The term moves all three axes alike: levers of 0.4 m along and 0.2 m across give each pair's share."""
    front_right, front_left, rear_right, rear_left = feet_load(block(tmp_path, center_of_mass=shift))
    total = 4.5 * G
    forward, left = (0.009 + shift) * 4.0 / 4.5, shift * 4.0 / 4.5  # the wheel's 0.5 kg stays
    # 0.1 %: under uneven loads the block tilts a little on its soft contacts
    assert front_right + front_left == pytest.approx(total * (0.2 + forward) / 0.4, rel=1e-3)
    assert front_left + rear_left == pytest.approx(total * (0.1 + left) / 0.2, rel=1e-3)
    assert front_right + front_left + rear_right + rear_left == pytest.approx(total, rel=1e-3)


@effect_of("center_of_mass")
@pytest.mark.parametrize("name", ["go1", "go2"])
def test_the_robots_take_another_center_of_mass(name: str) -> None:
    """MuJoCo skips the inertial frame of a body where it is the body's own: there the term would do nothing."""
    robot = get_robot(name)
    model = build_model(robot)
    base = model.body(robot.base_body).id
    offset = (mujoco.mjtSameFrame.mjSAMEFRAME_NONE, mujoco.mjtSameFrame.mjSAMEFRAME_BODYROT)
    assert int(model.body_sameframe[base]) in [int(kind) for kind in offset]
    assert not model.body_simple[base]


@effect_of("gravity")
@pytest.mark.parametrize("added", [-1.0, 0.0, 1.0])
def test_gravity_accelerates_a_falling_block(tmp_path: Path, added: float) -> None:
    machine = block(tmp_path, gravity=added)
    machine.start(height=5.0)
    machine.run(0.5)
    assert machine.sim.qvel[0, 2] == pytest.approx(-(G + added) * 0.5, rel=1e-9)  # Euler is exact for this
    # Semi-implicit Euler falls half a step's speed further than g t^2 / 2.
    assert 5.0 - machine.sim.qpos[0, 2] == pytest.approx((G + added) * 0.5 * (0.5 + 0.001) / 2, rel=1e-9)


# Motors and joints


@effect_of("motor_strength")
@pytest.mark.parametrize("strength", [0.7, 1.0, 1.3])
def test_motor_strength_scales_torque_and_its_limit(tmp_path: Path, strength: float) -> None:
    machine = arm(tmp_path, {"motor_strength": strength})
    assert machine.torque(0.3) == pytest.approx(strength * 10.0 * 0.3, rel=1e-6)  # kp times error
    assert machine.torque(0.0, rate=2.0) == pytest.approx(-strength * 0.5 * 2.0, rel=1e-6)  # kd times speed
    assert machine.torque(5.0) == pytest.approx(strength * 10.0, rel=1e-6)  # asked for 50, limited to 10
    assert machine.torque(-5.0) == pytest.approx(-strength * 10.0, rel=1e-6)


@pytest.mark.parametrize("rate", [0.0, 5.0, 10.0, 12.0, 15.0, 18.0, 20.0, 25.0, -5.0, -15.0])
def test_torque_falls_with_speed_beyond_the_knee(tmp_path: Path, rate: float) -> None:
    """10 N m up to 10 rad/s, then along the line to 0 at 20 rad/s; beyond it the motor only brakes."""
    torque = arm(tmp_path, {}, kd=0.0).torque(100.0, rate)
    if rate <= 10.0:  # against the motion (negative speeds) the limit is the full torque
        assert torque == pytest.approx(10.0, rel=1e-6)
    else:
        assert torque == pytest.approx(10.0 * (20.0 - rate) / 10.0, abs=1e-6)
    if rate >= 20.0:
        assert torque <= 1e-6


@pytest.mark.parametrize("rate", [-12.0, -18.0, -20.0, -25.0])
def test_torque_curve_is_the_same_backwards(tmp_path: Path, rate: float) -> None:
    assert arm(tmp_path, {}, kd=0.0).torque(-100.0, rate) == pytest.approx(10.0 * (-20.0 - rate) / 10.0, abs=1e-6)


def test_torque_within_the_curve_is_pd_control(tmp_path: Path) -> None:
    """Back-EMF does not show where the motor has voltage to spare: torque is kp error - kd speed exactly."""
    machine = arm(tmp_path, {})
    for target, rate in ((0.2, 3.0), (-0.4, 8.0), (0.5, -4.0), (0.1, 14.0)):
        assert machine.torque(target, rate) == pytest.approx(10.0 * target - 0.5 * rate, rel=1e-6)


@effect_of("kp")
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
def test_kp_decides_how_far_a_load_bends_the_joint(tmp_path: Path, scale: float) -> None:
    """A pendulum that is held up: at rest the controller balances its weight, 0.2 m x 1 kg x g cos(angle)."""
    xml = ARM.format(joint="damping='0.5'").replace('axis="0 0 1"', 'axis="0 1 0"')
    machine = Machine(tmp_path, xml.replace('pos="0 0 0" mass="1"', 'pos="0.2 0 0" mass="1"'), {"kp": scale})
    machine.run(4.0)
    assert abs(machine.rate) < 1e-6
    assert 10.0 * scale * machine.angle == pytest.approx(0.2 * G * math.cos(machine.angle), rel=1e-4)
    assert machine.angle > 0.1  # downwards


@effect_of("kd")
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_kd_decides_how_fast_an_oscillation_dies(tmp_path: Path, scale: float) -> None:
    """Peaks of J q'' + kd q' + kp q = 0 shrink by exp(-kd/2J x half period). 2 %: steps of 1 ms."""
    machine = arm(tmp_path, {"kd": scale}, kd=0.1)
    machine.start(angle=0.3)
    machine.aim(0.0)
    peaks, last = [], 0.0
    for _ in range(3000):
        machine.sim.step()
        if last < 0.0 <= machine.rate or last > 0.0 >= machine.rate:
            peaks.append(abs(machine.angle))
        last = machine.rate
    decay = 0.1 * scale / (2 * ARM_INERTIA)
    half_period = math.pi / math.sqrt(10.0 / ARM_INERTIA - decay**2)
    shares = np.array(peaks[1:5]) / np.array(peaks[:4])
    assert shares == pytest.approx(np.full(4, math.exp(-decay * half_period)), rel=0.02)


@effect_of("joint_friction")
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_joint_friction_holds_the_joint_up_to_its_torque(tmp_path: Path, scale: float) -> None:
    """0.6 N m x scale of dry friction: 90 % of it holds, beyond it the difference accelerates."""
    friction = 0.6 * scale
    machine = arm(tmp_path, {"joint_friction": scale}, "frictionloss='0.6'", kd=0.0, kp=1.0)
    machine.aim(0.9 * friction)  # kp is 1: the target in rad is the torque in N m
    machine.run(0.5)
    assert abs(machine.angle) < 0.01  # a free arm would have turned by more than its target
    machine.start()
    machine.aim(2.0 * friction)
    machine.run(0.02)
    # 2 %: the friction constraint is regularized; the arm has hardly turned, so the torque is constant
    assert machine.rate == pytest.approx((2.0 - 1.0) * friction / ARM_INERTIA * 0.02, rel=0.02)


@effect_of("joint_damping")
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_joint_damping_slows_a_free_arm(tmp_path: Path, scale: float) -> None:
    """Without a motor the speed decays as exp(-c t / J). 1 %: implicit steps of 1 ms with c/J up to 4 per s."""
    machine = arm(tmp_path, {"joint_damping": scale}, "damping='0.2'", kp=1e-9, kd=0.0)
    machine.start(rate=5.0)
    machine.run(0.5)
    assert machine.rate == pytest.approx(5.0 * math.exp(-0.2 * scale / ARM_INERTIA * 0.5), rel=0.01)


@effect_of("joint_stiffness")
@pytest.mark.parametrize("stiffness", [0.0, 2.0, 10.0])
def test_joint_stiffness_pulls_the_joint_to_its_zero(tmp_path: Path, stiffness: float) -> None:
    """Spring against controller, 10 N m/rad: the joint rests where kp (0.6 - q) = k q."""
    machine = arm(tmp_path, {"joint_stiffness": stiffness})
    machine.aim(0.6)
    machine.run(5.0)
    assert machine.angle == pytest.approx(0.6 * 10.0 / (10.0 + stiffness), rel=1e-4)


@effect_of("armature")
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_armature_adds_inertia(tmp_path: Path, scale: float) -> None:
    machine = arm(tmp_path, {"armature": scale}, "armature='0.05'")
    assert machine.torque(0.4, inertia=ARM_INERTIA + 0.05 * scale) == pytest.approx(10.0 * 0.4, rel=1e-6)


@effect_of("motor_offset")
def test_motor_offset_shifts_where_the_joint_rests_but_not_what_it_reads() -> None:
    """A Go2 in next to no gravity: its joints rest at the target minus the offset and read the target."""
    ranges = {"motor_offset": (0.08, 0.08), "joint_friction": (0.0, 0.0), "gravity": (-9.0, -9.0)}
    env = environment("go2-walk", 2, ranges)
    env.reset()
    env.sim.qpos[:, 2] += 20.0  # 1.5 s of falling at 0.81 m/s^2
    observation = torch.empty(0)
    for _ in range(75):
        observation = env.step(torch.zeros(2, 12)).observation
    # 1 mrad: what is left of settling; the legs' weight would bend a joint by less even on the ground.
    assert torch.allclose(env.state.joint_position - env.state.joint_home, torch.tensor(-0.08), atol=1e-3)
    reading = last_frame(env, observation)[:, env.observation.slices["joint_position"]]
    assert torch.allclose(reading, torch.zeros(2, 12), atol=1e-3)
    truth = env.state.joint_position - env.state.joint_home
    assert torch.allclose(reading - truth, torch.tensor(0.08), atol=1e-6)


@effect_of("motor_offset")
def test_motor_offset_where_not_every_joint_has_a_motor() -> None:
    """The cart rests 0.1 m beside its target and reads the target; the pole's encoder has no such error."""
    env = environment("cartpole-swingup", 2, {"motor_offset": (0.1, 0.1)})
    env.reset()
    observation = torch.empty(0)
    for _ in range(400):
        observation = env.step(torch.full((2, 1), 0.2)).observation
    cart, pole = env.state.joint_position[:, 0], env.state.joint_position[:, 1]
    assert torch.allclose(cart, torch.tensor(0.2 * 1.5 - 0.1), atol=0.02)  # the pole still swings a little
    reading = last_frame(env, observation)
    assert torch.allclose(reading[:, env.observation.slices["cart_position"]][:, 0], cart + 0.1, atol=1e-6)
    sine = reading[:, env.observation.slices["pole_direction"]][:, 0]
    assert torch.allclose(sine, pole.sin(), atol=1e-6)


# Delay


def lag(machine: Machine, target: float = 0.5) -> float:
    """[s] from the order to the end of the last physics step in which the arm did not move yet."""
    machine.aim(target)
    steps = 0
    while machine.rate == 0.0:
        machine.sim.step()
        steps += 1
        assert steps * machine.dt < 0.2
    return (steps - 1) * machine.dt


@effect_of("action_delay")
@pytest.mark.parametrize("dt", [0.001, 0.005])
@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.007, 0.02, MAX_DELAY_S])
def test_action_delay_is_the_lag_of_a_step_response(tmp_path: Path, delay_s: float, dt: float) -> None:
    machine = arm(tmp_path, {"action_delay": delay_s}, dt=dt)
    for _ in range(3):  # after restarts too
        measured = lag(machine)
        assert delay_s - 1e-9 <= measured <= delay_s + dt + 1e-9
        machine.run(0.05)
        machine.start()


@effect_of("action_delay")
@pytest.mark.parametrize("delay_s", [0.0, 0.007, 0.02, MAX_DELAY_S])
def test_no_torque_from_an_empty_buffer_after_a_restart(tmp_path: Path, delay_s: float) -> None:
    """Home is not 0, so a buffer of zeros, or the last episode's, would move an arm that is told to stay."""
    machine = arm(tmp_path, {"action_delay": delay_s}, dt=0.005, home=0.7)
    for _ in range(3):
        machine.run(0.1)
        assert machine.angle == 0.7 and machine.rate == 0.0
        machine.aim(-1.0)
        machine.run(0.1)
        assert machine.angle < 0.69
        machine.start()


# Pushes


def environment(name: str, num_envs: int, ranges: dict[str, tuple[float, float]], seed: int = 0,
                episode_length_s: float = 1000.0) -> Environment:  # fmt: skip
    """A task whose episodes do not end, unless told, with these ranges alone."""
    task = replace(tasks.get(name), episode_length_s=episode_length_s,
                   terminated=lambda s: torch.zeros_like(s.terminated))  # fmt: skip
    return Environment(task, num_envs, reward=lambda s: {"zero": 0 * s.time_s}, seed=seed, randomization=ranges,
                       num_threads=1)  # fmt: skip


def last_frame(env: Environment, observation: torch.Tensor) -> torch.Tensor:
    return observation[:, -env.observation.frame_size :]


@effect_of("push_velocity", "push_interval")
def test_pushes_change_the_velocity_by_so_much_so_often() -> None:
    """Jumps of the base's velocity between two physics steps, over 6 s of 50 standing Go2."""
    env = environment("go2-walk", 50, {"push_velocity": (-0.4, 0.6), "push_interval": (0.5, 1.0)},
                      episode_length_s=6.1)  # fmt: skip
    env.reset()
    jumps = []
    step_physics, before = env.sim.step, env.sim.qvel.copy()

    def watched() -> None:
        jumps.append(env.sim.qvel - before)
        step_physics()

    env.sim.step = watched  # type: ignore[method-assign]
    for _ in range(300):
        before = env.sim.qvel.copy()
        env.step(torch.zeros(50, 12))
    jump = np.stack(jumps)  # (T, N, nv)
    assert not jump[:, :, 2:].any()  # only the horizontal velocity
    pushed = jump[:, :, :2].any(2)
    sizes = jump[:, :, :2][pushed]
    count = len(sizes)
    assert count > 325  # 6 s / 0.75 s on average, 50 times, less the unfinished wait
    assert sizes.min() >= -0.4 and sizes.max() <= 0.6
    # Uniform over a width of 1: standard deviation 1/sqrt(12) = 0.289; means within 4 standard errors
    assert sizes.mean(0) == pytest.approx([0.1, 0.1], abs=4 * 0.289 / math.sqrt(count))
    assert sizes.std(0) == pytest.approx([0.289, 0.289], rel=0.06)
    assert abs(np.corrcoef(sizes.T)[0, 1]) < 4 / math.sqrt(count)
    waits = np.concatenate([np.diff(np.flatnonzero(column), prepend=0) for column in pushed.T]) * env.dt
    assert waits.min() >= 0.5 - env.dt and waits.max() <= 1.0 + env.dt  # rounded to control steps
    assert waits.mean() == pytest.approx(0.75, abs=0.03)  # long last waits are cut off


@effect_of("push_velocity")
def test_a_push_moves_the_robot() -> None:
    ranges = {"push_interval": (0.5, 0.5)}
    still, pushed = (environment("go2-walk", 1, {**ranges, "push_velocity": (v, v)}) for v in (0.0, 0.5))
    for env in (still, pushed):
        env.reset()
        for _ in range(26):  # the push comes after 25 steps
            env.step(torch.zeros(1, 12))
    difference = pushed.state.base_linear_velocity_w - still.state.base_linear_velocity_w
    # In the 20 ms since, the feet on the ground have taken some of the 0.5 m/s back.
    assert (difference[0, :2] > 0.2).all() and (difference[0, :2] < 0.55).all()


# Sensors

NOISE = {
    "joint_position_noise": ("joint_position", (-0.01, 0.03)),
    "joint_velocity_noise": ("joint_velocity", (-1.5, 1.5)),
    "angular_velocity_noise": ("angular_velocity", (-0.2, 0.2)),
    "gravity_noise": ("gravity", (-0.05, 0.05)),
}


def sensor_errors(env: Environment, steps: int) -> dict[str, np.ndarray]:
    """(T, N, size) readings less the truth (the critic's noise-free frame), by observation term."""
    env.reset()
    errors = []
    for _ in range(steps):
        step = env.step(torch.zeros(env.num_envs, env.num_actions))
        truth = step.critic_observation[:, : env.observation.frame_size]
        errors.append((last_frame(env, step.observation) - truth).numpy())
    stacked = np.stack(errors)
    return {name: stacked[..., part] for name, part in env.observation.slices.items()}


@effect_of(*NOISE)
@pytest.mark.parametrize("term", NOISE)
def test_noise_spreads_the_readings_anew_at_each_step(term: str) -> None:
    reading, (low, high) = NOISE[term]
    errors = sensor_errors(environment("go2-walk", 20, {term: (low, high)}), 100)
    noise = errors.pop(reading)
    assert all(np.abs(other).max() == 0.0 for other in errors.values())  # nothing else is disturbed
    rounding = 2e-6 * 20  # float32 of readings up to about 20
    assert noise.min() >= low - rounding and noise.max() <= high + rounding
    width, count = high - low, noise.size
    assert noise.mean() == pytest.approx((low + high) / 2, abs=4 * width / math.sqrt(12 * count))
    assert noise.std() == pytest.approx(width / math.sqrt(12), rel=0.03)
    assert noise.max() - noise.min() > 0.99 * width
    flat = (noise - noise.mean()).reshape(100, -1)
    bound = 4 * width**2 / 12 / math.sqrt(flat[1:].size)  # 4 standard errors of a covariance
    assert abs((flat[1:] * flat[:-1]).mean()) < bound  # new at each step
    assert abs((flat[:, 1:] * flat[:, :-1]).mean()) < bound  # on each sensor and robot


BIAS = {
    "angular_velocity_bias": ("angular_velocity", (-0.1, 0.3)),
    "gravity_bias": ("gravity", (-0.05, 0.05)),
    "motor_offset": ("joint_position", (-0.03, 0.05)),
}


@effect_of("angular_velocity_bias", "gravity_bias", "motor_offset")
@pytest.mark.parametrize("term", BIAS)
def test_bias_is_constant_for_an_episode(term: str) -> None:
    reading, (low, high) = BIAS[term]
    env = environment("go2-walk", 200, {term: (low, high)}, episode_length_s=0.4)
    errors = sensor_errors(env, 39)  # observations 0..18 of the first episode, 20 of the second
    bias = errors.pop(reading)
    assert all(np.abs(other).max() == 0.0 for other in errors.values())
    first, second = bias[:19], bias[19:]
    assert np.ptp(first, axis=0).max() < 1e-5 and np.ptp(second, axis=0).max() < 1e-5  # float32 rounding
    assert np.abs(first[0] - second[0]).max() > 0.3 * (high - low)
    for values in (first[0], second[0]):
        assert values.min() >= low - 1e-5 and values.max() <= high + 1e-5
        width = high - low
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * width / math.sqrt(12 * values.size))
        assert values.std() == pytest.approx(width / math.sqrt(12), rel=0.1)


# The draws themselves


def test_neutral_values_leave_the_physics_as_they_are() -> None:
    """Every term at its neutral value together: the same trajectory as without any, to the bit."""
    ranges = {name: (TERMS[name].neutral, TERMS[name].neutral) for name in applicable(ball=False)}
    plain, neutral = environment("go2-walk", 4, {}), environment("go2-walk", 4, ranges)
    assert torch.equal(plain.reset()[0], neutral.reset()[0])
    for i in range(60):
        action = torch.full((4, 12), math.sin(i / 5))
        a, b = plain.step(action), neutral.step(action)
        assert torch.equal(a.critic_observation, b.critic_observation)
