"""Rotations, leg kinematics and every State field against MuJoCo's own numbers for the same state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from envs import kinematics, robots, tasks
from envs.environment import Environment
from envs.ground import Ground, RoughGround
from envs.measurement import CONTACT_FORCE_N, Measurement
from envs.scene import GROUND, build_model
from envs.simulation import Simulation
from envs.state import State, field_docs

QUADRUPEDS = ("go1", "go2")
FLOAT = {"rtol": 1e-5, "atol": 2e-6}
"""float32 of numbers of about 1 after some ten operations."""


def random_quaternions(n: int, seed: int = 0) -> np.ndarray:
    q = np.random.default_rng(seed).standard_normal((n, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def columns(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.T, dtype=np.float32)


# Rotations


def test_rotation_matches_mujoco() -> None:
    q = random_quaternions(50)
    v = np.random.default_rng(1).standard_normal((50, 3))
    rotation = kinematics.rotation_matrices(columns(q))
    expected, backward = np.empty((50, 3)), np.empty((50, 3))
    for i in range(50):
        mujoco.mju_rotVecQuat(expected[i], v[i], q[i])
        mujoco.mju_rotVecQuat(backward[i], v[i], q[i] * [1, -1, -1, -1])
    assert pytest.approx(expected, abs=2e-6) == kinematics.to_world(rotation, columns(v)[:, None])[:, 0].T
    assert pytest.approx(backward, abs=2e-6) == kinematics.to_base(rotation, columns(v)).T


def test_rotation_by_hand() -> None:
    """A quarter turn to the left takes forward to left; seen from the base, the world's x is then to the right."""
    half = math.sqrt(0.5)
    rotation = kinematics.rotation_matrices(np.array([[half], [0.0], [0.0], [half]]))
    forward = columns(np.array([[1.0, 0.0, 0.0]]))
    assert kinematics.to_world(rotation, forward[:, None])[:, 0, 0] == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)
    assert kinematics.to_base(rotation, forward)[:, 0] == pytest.approx([0.0, -1.0, 0.0], abs=1e-6)


def test_cross_product_is_added() -> None:
    a, b, start = np.random.default_rng(2).standard_normal((3, 20, 3))
    total = columns(start)[:, None].copy()
    kinematics.add_cross(total, columns(a), columns(b)[:, None])
    assert pytest.approx(start + np.cross(a, b), abs=2e-6) == total[:, 0].T


# Legs and base at random states


def random_states(model: mujoco.MjModel, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    qpos, qvel = np.tile(model.qpos0, (n, 1)), rng.uniform(-3.0, 3.0, (n, model.nv))
    qpos[:, :2], qpos[:, 2] = rng.uniform(-8.0, 8.0, (n, 2)), rng.uniform(0.3, 1.0, n)
    qpos[:, 3:7] = random_quaternions(n, seed)
    qpos[:, 7:] = rng.uniform(*model.jnt_range[1:].T, (n, model.nq - 7))
    return qpos, qvel


def exact_feet(model: mujoco.MjModel, data: mujoco.MjData, feet: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """World positions and velocities (F, 3) of the feet's centers."""
    velocity = np.empty((len(feet), 6))
    for i, foot in enumerate(feet):
        site = model.site(foot).id
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, site, velocity[i], 0)
    return np.array([data.site(foot).xpos for foot in feet]), velocity[:, 3:]


def exact_base(model: mujoco.MjModel, data: mujoco.MjData, base: str) -> dict[str, np.ndarray]:
    body, rotation = model.body(base).id, data.body(base).xmat.reshape(3, 3)
    world, local = np.empty(6), np.empty(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, world, 0)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, local, 1)
    gravity = rotation.T @ (model.opt.gravity / np.linalg.norm(model.opt.gravity))
    return {
        "base_position_w": data.body(base).xpos, "base_quaternion_w": data.body(base).xquat,
        "base_linear_velocity_w": world[3:], "base_linear_velocity_b": local[3:],
        "base_angular_velocity_b": local[:3], "gravity_b": gravity,
    }  # fmt: skip


@pytest.mark.parametrize("terrain", ["flat", "rough"])
@pytest.mark.parametrize("name", QUADRUPEDS)
def test_measurement_matches_mujoco_at_random_states(name: str, terrain: str) -> None:
    robot = robots.get(name)
    rough = RoughGround() if terrain == "rough" else None
    model = build_model(robot, terrain=terrain, rough=rough)  # type: ignore[arg-type]
    sim = Simulation(model, robot, 1, num_threads=1)
    measure = Measurement(sim, Ground(rough))
    n = 40
    qpos, qvel = random_states(model, n, seed=3)
    torque = np.random.default_rng(4).uniform(-20, 20, (n, 12))
    sensors = np.random.default_rng(5).uniform(-50, 50, (n, model.nsensordata))
    state = State(*[torch.zeros(0)] * len(fields(State)))
    measure.show(measure(qpos, qvel, torque, sensors), state)

    data, ground = mujoco.MjData(model), model.geom(GROUND).id
    joints = [model.joint(j) for j in robot.joint_names]
    radius = model.geom(robot.feet[0]).size[0]
    height_errors = []

    def ground_below(point: np.ndarray) -> float:
        if rough is None:
            return 0.0
        above = np.array([point[0], point[1], 5.0])
        return 5.0 - mujoco.mj_rayHfield(model, data, ground, above, np.array([0.0, 0.0, -1.0]))

    for i in range(n):
        data.qpos, data.qvel = qpos[i], qvel[i]
        mujoco.mj_forward(model, data)
        for field, exact in exact_base(model, data, robot.base_body).items():
            assert getattr(state, field)[i].numpy() == pytest.approx(exact, abs=5e-6), field
        for field, values, at in (("joint_position", qpos, "qposadr"), ("joint_velocity", qvel, "dofadr")):
            expected = [values[i, int(getattr(joint, at)[0])] for joint in joints]
            assert getattr(state, field)[i].numpy() == pytest.approx(np.array(expected), abs=1e-6)
        position, velocity = exact_feet(model, data, robot.feet)
        rotation = data.body(robot.base_body).xmat.reshape(3, 3)
        relative = (position - data.body(robot.base_body).xpos) @ rotation
        assert state.foot_position_b[i].numpy() == pytest.approx(relative, abs=2e-6)
        assert state.foot_velocity_w[i].numpy() == pytest.approx(velocity, abs=2e-5)  # speeds of up to 5 m/s
        heights = [p[2] - radius - ground_below(p) for p in position]
        height_errors += (state.foot_height[i].numpy() - heights).tolist()
        height_errors.append(float(state.base_height[i]) - (qpos[i, 2] - ground_below(qpos[i])))
        order = [model.actuator(j).id for j in robot.driven_joints]
        assert state.joint_torque[i].numpy() == pytest.approx(torque[i, order], abs=1e-5)
        dofs = [int(j.dofadr[0]) for j in joints]
        assert state.joint_power[i].numpy() == pytest.approx(torque[i, order] * qvel[i, dofs], abs=1e-4)
        load = [-sensors[i, model.sensor(f"{foot}_force").adr[0] + 2] for foot in robot.feet]
        assert state.foot_contact_force[i].numpy() == pytest.approx(np.array(load), abs=1e-4)
    # Flat ground: rounding. Rough: MuJoCo cuts each square into two triangles, bilinear interpolation does not.
    limit = 5e-6 if rough is None else 1e-3
    assert np.abs(height_errors).max() < limit
    assert rough is None or np.abs(height_errors).mean() < 2e-4


def test_heightfield_is_the_one_that_mujoco_has() -> None:
    """Beside the grid's nodes (on them a ray can slip between triangles): rows are y, columns x.

    0.5 mm: the ground's slope over the 1 mm beside.
    """
    rough = RoughGround(half_size_m=3.0, seed=2)
    robot = robots.get("go2")
    model = build_model(robot, terrain="rough", rough=rough)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    heights, ground = rough.heights_m(), Ground(rough)
    assert heights.min() == 0.0 and heights.max() == pytest.approx(rough.amplitude_m)
    for row, column in ((3, 50), (50, 3), (20, 31), (59, 59), (1, 1)):
        x, y = column * 0.1 - 3.0 + 1e-3, row * 0.1 - 3.0 + 5e-4
        above = np.array([x, y, 1.0])
        hit = 1.0 - mujoco.mj_rayHfield(model, data, model.geom(GROUND).id, above, np.array([0.0, 0.0, -1.0]))
        assert hit == pytest.approx(heights[row, column], abs=5e-4)
        assert float(ground.height(np.array(x), np.array(y))) == pytest.approx(hit, abs=1e-4)


def test_legs_that_do_not_fit_are_refused() -> None:
    robot = robots.get("go2")
    text = robot.mjcf.read_text().replace('<body name="RL_thigh" pos="0 0.0955 0">',
                                          '<body name="RL_thigh" pos="0 0.0955 0" euler="0 0 0.1">')  # fmt: skip
    spec = mujoco.MjSpec.from_string(text)
    with pytest.raises(ValueError, match="RL_thigh_joint is not a hinge about a coordinate axis"):
        kinematics.LegKinematics(spec.compile(), robot)


# State after steps of the environment


def walking(name: str, collision: str = "feet", endless: bool = False) -> Environment:
    task = tasks.get(name)
    if endless:
        task = replace(task, terminated=lambda s: torch.zeros_like(s.terminated))
    return Environment(task, 3, reward=lambda s: {"zero": 0 * s.time_s}, seed=2, num_threads=1,
                       randomization={}, collision=collision)  # type: ignore[arg-type]  # fmt: skip


def steps(env: Environment, count: int) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """(joint velocity before, simulation rows before with the new targets, which rows did not end) of each step."""
    rng = np.random.default_rng(0)
    substeps = env.sim.step
    rows = [env.sim.rows.copy()]

    def keep() -> None:
        rows[0] = env.sim.rows.copy()
        substeps()

    env.sim.step = keep  # type: ignore[method-assign]
    for _ in range(count):
        before = env.state.joint_velocity.clone()
        step = env.step(torch.tensor(rng.uniform(-0.7, 0.7, (3, env.num_actions)), dtype=torch.float32))
        yield before, rows[0], ~(step.terminated | step.truncated).numpy()


@pytest.mark.parametrize("name", ["go1-walk", "go2-walk"])
def test_state_is_fresh_after_a_step(name: str) -> None:
    """A separate MjData, set to the state row after the step, says the same about the base, joints and feet."""
    env = walking(name)
    s, model, robot = env.state, env.sim.model, env.robot
    data, everything = mujoco.MjData(model), mujoco.mjtState.mjSTATE_INTEGRATION
    dofs, checked = env.sim.joint_dofs, 0
    env.reset()
    for before, _, running in steps(env, 25):
        for i in np.flatnonzero(running):
            mujoco.mj_setState(model, data, env.sim.rows[i], everything)
            mujoco.mj_forward(model, data)
            for field, exact in exact_base(model, data, robot.base_body).items():
                assert getattr(s, field)[i].numpy() == pytest.approx(exact, abs=5e-6), field
            position, velocity = exact_feet(model, data, robot.feet)
            radius = model.geom(robot.feet[0]).size[0]
            assert s.foot_velocity_w[i].numpy() == pytest.approx(velocity, abs=1e-4)  # up to 30 m/s
            assert s.foot_height[i].numpy() == pytest.approx(position[:, 2] - radius, abs=5e-6)
            assert s.base_height[i].item() == pytest.approx(data.body(robot.base_body).xpos[2], abs=1e-6)
            assert s.joint_velocity[i].numpy() == pytest.approx(data.qvel[dofs], abs=1e-5)
            change = (data.qvel[dofs] - before[i].numpy()) / 0.02
            assert s.joint_acceleration[i].numpy() == pytest.approx(change, rel=1e-4, abs=1e-2)
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("collision", ["feet", "ground", "full"])
@pytest.mark.parametrize("name", ["go1-walk", "go2-walk"])
def test_forces_are_those_of_the_last_physics_step(name: str, collision: str) -> None:
    """MuJoCo alone repeats the step from the row before it: same row after it, same torques, same contacts.

    One robot starts on its feet, one on its back, one on its side.
    """
    env = walking(name, collision=collision, endless=True)
    env.reset()
    half = math.sqrt(0.5)
    env.sim.qpos[1:, 2], env.sim.qpos[1:, 3:7] = 0.15, [[0.0, 1.0, 0.0, 0.0], [half, half, 0.0, 0.0]]
    s, model = env.state, env.sim.model
    data, everything = mujoco.MjData(model), mujoco.mjtState.mjSTATE_INTEGRATION
    feet = {model.geom(foot).id: i for i, foot in enumerate(env.robot.feet)}
    legal = {model.body(body).id for body in env.robot.contact_bodies}
    row, loaded, illegal_seen = np.empty(env.sim.rows.shape[1]), 0, []
    for _, before, running in steps(env, 20):
        for i in np.flatnonzero(running):
            mujoco.mj_setState(model, data, before[i], everything)
            mujoco.mj_step(model, data, env.sim.substeps)
            mujoco.mj_getState(model, data, row, everything)
            assert np.array_equal(row, env.sim.rows[i])
            order = [model.actuator(j).id for j in env.robot.driven_joints]
            assert s.joint_torque[i].numpy() == pytest.approx(data.actuator_force[order], abs=1e-5)
            power = data.actuator_force[order] * data.qvel[env.sim.joint_dofs]
            assert s.joint_power[i].numpy() == pytest.approx(power, abs=1e-3)
            load, illegal = np.zeros(4), False
            for k, contact in enumerate(data.contact):
                force = np.empty(6)
                mujoco.mj_contactForce(model, data, k, force)
                world = contact.frame.reshape(3, 3).T @ force[:3]  # on the second geom, from the first
                ground = model.geom(GROUND).id
                if ground not in contact.geom:
                    continue
                other = contact.geom[1] if contact.geom[0] == ground else contact.geom[0]
                upward = world[2] if contact.geom[0] == ground else -world[2]
                if other in feet:
                    load[feet[other]] += upward
                illegal |= model.geom_bodyid[other] not in legal and contact.efc_address >= 0
            assert s.foot_contact_force[i].numpy() == pytest.approx(load, abs=1e-3)
            assert s.foot_contact[i].tolist() == (load > CONTACT_FORCE_N).tolist()
            assert bool(s.illegal_contact[i]) == illegal
            loaded += int((load > CONTACT_FORCE_N).sum())
            illegal_seen.append(illegal)
    assert loaded > 20
    if collision == "feet":
        assert not any(illegal_seen)
    else:
        assert 0.05 < np.mean(illegal_seen) < 0.9


# Contact times


def test_contact_times_follow_a_scripted_sequence() -> None:
    """Forces are written over the sensors' after each step, 20 ms long: the clocks and touch-downs that follow."""
    env = walking("go2-walk", endless=True)
    env.reset()
    s, sensors = env.state, env.sim.sensordata
    columns = [int(env.sim.model.sensor(f"{foot}_force").adr[0]) + 2 for foot in env.robot.feet]
    # (load on the first foot [N], air time, contact time [steps], touch-down). 1.0 N is not yet contact.
    script = [
        (0.0, 1, 0, False),
        (1.0, 2, 0, False),
        (50.0, 3, 1, True),  # the flight that just ended took 3 steps
        (1.1, 0, 2, False),
        (80.0, 0, 3, False),
        (0.9, 1, 4, False),  # the stance that just ended took 4
        (0.0, 2, 0, False),
        (9.0, 3, 1, True),
        (0.0, 1, 2, False),  # a stance of one step
        (9.0, 2, 1, True),  # a flight of one step
    ]
    substeps = env.sim.step
    load = [0.0]

    def scripted() -> None:
        substeps()
        sensors[:, columns] = 0.0
        sensors[0, columns[0]] = -load[0]  # the sensor gives what the foot does to the ground
        sensors[0, columns[2]] = -100.0

    env.sim.step = scripted  # type: ignore[method-assign]
    for count, (load[0], air, contact, touchdown) in enumerate(script, start=1):
        env.step(torch.zeros(3, 12))
        assert bool(s.foot_contact[0, 0]) == (load[0] > 1.0)
        assert s.foot_contact_force[0, 0].item() == pytest.approx(load[0])
        assert s.foot_air_time[0, 0].item() == pytest.approx(air * 0.02, abs=1e-6)
        assert s.foot_contact_time[0, 0].item() == pytest.approx(contact * 0.02, abs=1e-6)
        assert bool(s.foot_touchdown[0, 0]) == touchdown
        # A foot that never touches, and one that always does, whose touch-down was the first step's.
        assert s.foot_air_time[0, 1].item() == pytest.approx(count * 0.02, abs=1e-6)
        assert not s.foot_touchdown[0, 1] and s.foot_contact_time[0, 1].item() == 0.0
        assert s.foot_contact_time[0, 2].item() == pytest.approx(count * 0.02, abs=1e-6)
        assert bool(s.foot_touchdown[0, 2]) == (count == 1)
    env.reset()
    assert not s.foot_contact.any() and not s.foot_touchdown.any()
    assert not s.foot_air_time.any() and not s.foot_contact_time.any()


# The text that describes State


def test_every_field_is_described() -> None:
    docs = field_docs()
    assert list(docs) == [f.name for f in fields(State)]
    env = walking("go2-walk")
    env.reset()
    env.step(torch.zeros(3, 12))
    sizes = {"N": 3, "J": 12, "A": 12, "F": 4, "C": 3, "3": 3, "4": 4}
    for name, text in docs.items():
        shape = text[text.index("(") + 1 : text.index(")")]
        value = getattr(env.state, name)
        told = tuple(sizes[part.strip()] for part in shape.split(",") if part.strip())
        # This task has no ball; what its fields hold with one, test_ball.py checks.
        assert tuple(value.shape) == ((3, 0) if name.startswith("ball_") else told), name
        assert value.dtype == (torch.bool if ") bool" in text else torch.float32), name
        assert len(text) > len(shape) + 20, name


def test_frames_and_units_are_in_the_names() -> None:
    docs = field_docs()
    for name, text in docs.items():
        if name.endswith("_w") and name != "base_quaternion_w":
            assert "world frame" in text, name
        if name.endswith("_b"):
            assert "base frame" in text, name
        if name.endswith("_s"):
            assert "[s]" in text, name
