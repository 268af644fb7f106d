"""A played robot without a page: physics that changes live, falls, pushes, switching policies."""

from __future__ import annotations

import math
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("viser", reason="gantry play needs viser")
pytest.importorskip("mjviser", reason="gantry play needs mjviser")

from configs.errors import UserError
from envs.randomization import TERMS
from tests.watch.play_samples import trot
from watch import play_runs
from watch.play_drive import Drive
from watch.play_film import Film
from watch.play_lane import Lane, yaw_of
from watch.play_physics import LivePhysics
from watch.play_robot import PlayedRobot


@pytest.fixture
def robot(quadruped_run):
    return trot(PlayedRobot(quadruped_run))


def forward(robot: PlayedRobot, before: np.ndarray, yaw: float) -> float:
    moved = robot.environment.sim.qpos[0, :2] - before
    return float(moved @ [math.cos(yaw), math.sin(yaw)])


def heading(robot: PlayedRobot) -> float:
    w, x, y, z = robot.environment.sim.qpos[0, 3:7]
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def test_it_stands_without_a_command_and_walks_with_one(robot):
    for _ in range(50):
        robot.step()
    start, yaw = robot.environment.sim.qpos[0, :2].copy(), heading(robot)
    for _ in range(50):
        robot.step()
    assert abs(forward(robot, start, yaw)) < 0.03
    robot.set_command(np.array([1.0, 0.0, 0.0]))
    for _ in range(200):
        robot.step()
    assert forward(robot, start, yaw) > 0.5
    assert not robot.fallen


def test_a_hard_push_makes_it_fall_and_it_stays_down_until_it_is_reset(robot):
    for _ in range(50):
        robot.step()
    robot.push(np.array([0.0, 6.0]))
    for _ in range(100):
        robot.step()
    assert robot.fallen and robot.fallen_s > 0.5
    assert robot.environment.state.gravity_b[0, 2] > -0.9  # no restart has set it up
    episode = int(robot.environment.episodes.episode[0])
    robot.reset()
    assert not robot.fallen and robot.environment.episodes.episode[0] == episode + 1


def test_a_push_is_relative_to_where_the_robot_looks(robot):
    yaw, before = heading(robot), robot.environment.sim.qvel[0, :2].copy()
    robot.push(np.array([2.0, 0.0]))
    given = robot.environment.sim.qvel[0, :2] - before
    assert given == pytest.approx([2 * math.cos(yaw), 2 * math.sin(yaw)], abs=1e-5)


def test_nothing_interrupts_an_episode_and_nothing_else_commands(robot):
    assert robot.environment.episodes.max_steps == 180_000
    assert robot.environment.episodes.command.abs().sum() == 0


def model_of(robot: PlayedRobot) -> dict[str, np.ndarray]:
    return {name: np.array(value[0]) for name, value in robot.environment.randomizer.fields.live.items()}


def test_held_physics_is_in_the_model_and_does_not_accumulate(robot):
    original = model_of(robot)
    base = robot.environment.sim.model.body("base").id
    for _ in range(3):
        robot.physics.hold("friction", 0.1)
        robot.physics.hold("base_mass", 5.0)
        robot.physics.hold("action_delay", 0.03)
        robot.physics.hold("motor_strength", 0.5)
    now = model_of(robot)
    touching = robot.environment.randomizer.fields.touching
    assert now["geom_friction"][touching, 0] == pytest.approx(0.1)
    assert now["body_mass"][base] == pytest.approx(original["body_mass"][base] + 5.0)
    assert now["actuator_delay"] == pytest.approx(0.03)
    assert now["actuator_forcerange"] == pytest.approx(0.5 * original["actuator_forcerange"])
    robot.physics.release()
    assert all((model_of(robot)[name] == original[name]).all() for name in original)


def test_held_physics_outlives_a_reset_that_draws_anew(quadruped_run):
    robot = PlayedRobot(quadruped_run, "randomized")
    drawn = robot.physics.value("friction")
    low, high = robot.policy.task.randomization["friction"]
    assert low <= drawn <= high
    robot.physics.hold("base_mass", 7.5)
    assert robot.physics.value("friction") == drawn  # the others stay as drawn
    robot.reset()
    base = robot.environment.sim.model.body("base").id
    mass = model_of(robot)["body_mass"][base]
    assert mass == pytest.approx(robot.environment.sim.model.body("base").mass[0] + 7.5)
    assert robot.physics.value("friction") != drawn


def test_a_payload_changes_how_the_robot_moves(quadruped_run):
    heights = []
    for payload in (0.0, 8.0):
        robot = trot(PlayedRobot(quadruped_run))
        robot.physics.hold("base_mass", payload)
        for _ in range(100):
            robot.step()
        heights.append(float(robot.environment.state.base_height[0]))
    assert heights[1] < heights[0] - 0.01


@pytest.mark.parametrize("term, value", [("friction", 9.0), ("friction", math.nan), ("gravity", 1.0)])
def test_physics_that_makes_no_sense_is_refused(robot, term, value):
    before = model_of(robot)
    with pytest.raises(UserError, match=term):
        robot.physics.hold(term, value)
    assert all((model_of(robot)[name] == before[name]).all() for name in before)


def test_sliders_stay_within_the_terms_bounds(robot):
    for knob in robot.physics.knobs:
        low, high = TERMS[knob.term].bounds
        assert low <= knob.low / knob.scale < knob.high / knob.scale <= high


def test_two_robots_of_one_seed_start_alike_and_draw_alike(quadruped_run):
    a, b = (PlayedRobot(quadruped_run, "randomized") for _ in range(2))
    for _ in range(5):
        a.step(), b.step()
    assert (a.environment.sim.qpos == b.environment.sim.qpos).all()
    assert a.physics.value("friction") == b.physics.value("friction")


def test_another_robots_run_is_refused_and_the_policy_kept(robot, cart_run):
    policy = robot.policy
    with pytest.raises(UserError, match="cartpole"):
        robot.switch(cart_run)
    assert robot.policy is policy


def test_switching_goes_on_in_mid_stride(robot, quadruped_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(quadruped_run, other)
    for _ in range(30):
        robot.step()
    before, time_s = robot.environment.sim.qpos.copy(), robot.time_s
    robot.switch(other)
    assert robot.name == "other" and robot.time_s == time_s
    assert (robot.environment.sim.qpos == before).all()


def test_a_new_checkpoint_is_taken_up(quadruped_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(quadruped_run, run)
    robot = PlayedRobot(run)
    assert not robot.refresh()
    os.utime(run / "checkpoint.pt", ns=(1, 1))
    policy = robot.policy
    assert robot.refresh() and robot.policy is not policy


def test_a_runs_own_reward_runs_only_when_trusted(quadruped_run, tmp_path):
    run, mark = tmp_path / "run", tmp_path / "it-ran"
    shutil.copytree(quadruped_run, run)
    assert PlayedRobot(run).reward is not None  # the project's own
    (run / "reward.py").write_text(f"open({str(mark)!r}, 'w')\ndef reward(s):\n    return {{'own': s.base_height}}\n")
    robot = PlayedRobot(run)
    assert robot.reward is None and "--trust-reward" in robot.reward_note and not mark.exists()
    assert robot.step().components == {}
    trusted = PlayedRobot(run, trust_reward=True)
    assert mark.exists() and set(trusted.step().components) == {"own"}


def test_a_reward_that_fails_is_put_aside(quadruped_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(quadruped_run, run)
    (run / "reward.py").write_text("def reward(s):\n    return {'bad': s.no_such_field}\n")
    robot = PlayedRobot(run, trust_reward=True)
    robot.step()
    assert robot.reward is None and "AttributeError" in robot.reward_note


def test_the_list_holds_runs_of_the_same_robot_only(quadruped_run, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(quadruped_run, tmp_path / "go2-walk" / name)
    (tmp_path / "go2-walk" / "half").mkdir()
    (tmp_path / "go2-walk" / "half" / "config.yaml").write_text("{")
    shutil.copytree(quadruped_run, tmp_path / "go1-walk" / "three")
    config = tmp_path / "go1-walk" / "three" / "config.yaml"
    config.write_text(config.read_text().replace("go2-walk", "go1-walk"))
    found = play_runs.choices(tmp_path / "go2-walk" / "one", "go2")
    assert [choice.run.name for choice in found] == ["two", "one"]
    assert len({choice.label for choice in found}) == 2


def test_the_command_is_clipped_and_held_keys_have_precedence():
    from envs import tasks

    drive = Drive(tasks.get("go2-walk").command)
    drive.set(0, 99.0)
    assert drive.command.tolist() == [1.5, 0.0, 0.0]
    drive.hold(1, [-1.0, 0.5, math.nan])
    assert drive.command.tolist() == [-0.5, 0.25, 0.0]
    drive.hold(2, [1.0, 0.0, 0.0, 7.0])
    assert drive.command.tolist() == [1.5, 0.0, 0.0]
    drive.release(2)
    assert drive.command.tolist() == [-0.5, 0.25, 0.0]
    drive.hold(1, [0, 0, 0])
    assert drive.command.tolist() == [1.5, 0.0, 0.0]
    assert Drive(None).command.shape == (0,)


def test_lanes_show_robots_side_by_side_and_turned_alike():
    lanes = [Lane(i, 2, floating=True) for i in range(2)]
    start = np.array([3.0, -2.0, 0.3])
    for lane in lanes:
        lane.place(start, 1.0)
    assert lanes[0].points(start) == pytest.approx([0.0, 0.45, 0.3])
    assert lanes[1].points(start) == pytest.approx([0.0, -0.45, 0.3])
    ahead = np.array([[math.cos(1.0), -math.sin(1.0), 0], [math.sin(1.0), math.cos(1.0), 0], [0, 0, 1]])
    assert yaw_of(lanes[0].rotations(ahead)) == pytest.approx(0.0)
    lanes[0].place(start, 0.0, at=np.array([5.0, 5.0, 0.0]), heading=0.5)
    assert lanes[0].points(start) == pytest.approx([5.0, 5.0, 0.3])


def test_live_physics_wants_one_simulation():
    from envs.vec_env import make_environment

    with pytest.raises(UserError, match="1 simulation"):
        LivePhysics(make_environment("cartpole-swingup", 2, num_threads=1))


def test_an_empty_take_is_refused(robot):
    with pytest.raises(UserError, match="nothing was recorded"):
        Film([robot]).save()
