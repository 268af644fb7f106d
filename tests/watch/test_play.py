"""`gantry play` without a browser: physics that changes live, falls, pushes, switching, recording, the door."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

pytest.importorskip("viser", reason="gantry play needs viser")
pytest.importorskip("mjviser", reason="gantry play needs mjviser")

from configs.errors import UserError
from envs.randomization import TERMS
from watch import play, play_runs
from watch.play_door import Door
from watch.play_drive import Drive
from watch.play_film import Film
from watch.play_lane import Lane, yaw_of
from watch.play_physics import LivePhysics
from watch.play_robot import PlayedRobot
from watch.play_session import Session

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("ppo.num_envs=4", "ppo.n_steps=8", "ppo.actor_hidden=[16,16]", "ppo.critic_hidden=[16,16]",
         "env_steps=32", "threads=1", "evaluate=false", "video=false")  # fmt: skip


def train_small(runs: Path, task: str) -> Path:
    """A real run folder whose policy has learned nothing yet."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from agents import train

    with initialize_config_module("configs", version_base="1.3"):
        config = compose("train", [f"task={task}", *SMALL, f"runs={runs}"])
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return train.train(resolved)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def quadruped_run(tmp_path_factory):
    return train_small(tmp_path_factory.mktemp("play"), "go2-walk")


@pytest.fixture(scope="session")
def cart_run(tmp_path_factory):
    return train_small(tmp_path_factory.mktemp("play-cart"), "cartpole-swingup")


class Trot:
    """An open-loop trot that follows the forward command, in place of a trained policy: the physics is real.

    Diagonal legs swing together at 2.5 Hz; at full command a Go2 walks about 0.3 m/s.
    """

    def __init__(self, robot: PlayedRobot) -> None:
        self._robot, self._time_s, self._size = robot, 0.0, 0.0

    def act(self, observation: torch.Tensor) -> torch.Tensor:
        self._time_s += self._robot.dt
        action = torch.zeros(len(observation), self._robot.environment.num_actions)
        wanted = float(self._robot.environment.episodes.command[0, 0]) > 0.1
        self._size = min(1.0, self._size + 0.04) if wanted else 0.0
        if wanted:
            for leg, phase in enumerate((0.0, math.pi, math.pi, 0.0)):
                turn = 2 * math.pi * 2.5 * self._time_s + phase
                lift = 0.4 * self._size * max(0.0, math.sin(turn))
                action[:, 3 * leg + 1] = 0.35 * self._size * math.cos(turn) + 0.5 * lift - 0.15 * self._size
                action[:, 3 * leg + 2] = 0.3 * self._size - lift
        return action


def trot(robot: PlayedRobot) -> PlayedRobot:
    robot.policy = SimpleNamespace(act=Trot(robot).act, task=robot.policy.task, robot=robot.policy.robot)  # type: ignore[assignment]
    return robot


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


# ---- sessions


@pytest.fixture
def session(quadruped_run):
    made = Session([quadruped_run])
    trot(made.robots[0])
    yield made
    made.close()


def test_a_session_sets_a_fallen_robot_up_again_where_it_fell(session):
    for _ in range(30):
        session.tick()
    session.push("left", 6.0)
    for _ in range(75):
        session.tick()
    assert session.status()["robots"][0]["fell"]
    where = session.scene.base(0)
    for _ in range(100):
        session.tick()
    assert not session.status()["robots"][0]["fell"]
    assert np.linalg.norm((session.scene.base(0) - where)[:2]) < 1.0
    session.reset()
    session.tick()
    assert np.abs(session.scene.base(0)[:2]).max() < 0.05


def test_the_scene_shows_the_robots_body_in_its_colors(session):
    from mjviser import ViserMujocoScene

    from envs.rendering import visual_model

    shell = visual_model(session.robots[0].environment)
    assert {"go2_shell"} <= {shell.material(i).name for i in range(shell.nmat)}
    names = set(session.door.viser.scene._handle_from_node_name)  # viser lists its nodes nowhere else
    assert isinstance(session.scene._bodies, ViserMujocoScene)
    assert {"/bodies/base/group2", "/fixed_bodies/floor"} <= names


def test_the_status_is_json_with_finite_numbers(session):
    session.tick()
    shown = json.loads(json.dumps(session.status(), allow_nan=False))
    assert [row["label"] for row in shown["robots"][0]["rows"]] == ["forward", "left", "turn left"]
    assert shown["axes"] == 3 and shown["factor"] > 0


def test_a_video_is_recorded_into_the_run(session, quadruped_run):
    session.record()
    for _ in range(25):
        session.tick()
    assert session.film is not None and session.film.seconds == pytest.approx(0.52)
    path = session.film.save()
    session.film = None
    with imageio.get_reader(path) as reader:
        about, frames = reader.get_meta_data(), list(reader.iter_data())  # type: ignore[attr-defined]
    path.unlink()
    assert path.parent == quadruped_run and path.name.startswith("play-")
    assert (about["codec"], about["size"], about["fps"], len(frames)) == ("h264", (640, 480), 25.0, 13)
    assert np.ptp(frames[0]) > 100  # something is on it
    assert not list(quadruped_run.glob(".*partial*"))


def test_an_empty_take_is_refused(robot):
    with pytest.raises(UserError, match="nothing was recorded"):
        Film([robot]).save()


def test_runs_of_different_robots_are_refused(quadruped_run, cart_run):
    with pytest.raises(UserError, match=r"go2.*cartpole"):
        Session([quadruped_run, cart_run])


def test_a_cart_is_played_without_a_command(cart_run):
    session = Session([cart_run, cart_run])
    try:
        session.push()
        for _ in range(20):
            session.tick()
        assert session.status()["rail"] and not session.panel._sliders
        assert session.scene.lanes[0].shift[1] > session.scene.lanes[1].shift[1]
    finally:
        session.close()


def test_a_go1_is_played_too(tmp_path):
    session = Session([train_small(tmp_path, "go1-walk")])
    try:
        session.drive.set(0, 0.5)
        for _ in range(20):
            session.tick()
        assert session.robots[0].spec_name == "go1" and len(session.drive.axes) == 3
        assert session.robots[0].environment.state.command[0].tolist() == pytest.approx([0.5, 0.0, 0.0])
    finally:
        session.close()


@pytest.mark.parametrize("message", [
    {"held": ["x", None]}, {"held": 3}, {"event": ["push"]}, {"event": "no such"}, {"dark": "yes"}, {"held": [1e400]},
])  # fmt: skip
def test_what_no_page_of_ours_sends_changes_nothing(session, message):
    session._from_page(7, message)
    session._handle_inbox()
    assert (session.drive.command == 0).all()
    assert not session.paused


# ---- the door


def fetch(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


@pytest.fixture(scope="module")
def door():
    heard = []
    made = Door("127.0.0.1", 0, lambda page, message: heard.append((page, message)))
    made.heard = heard  # type: ignore[attr-defined]
    yield made
    made.close()


def test_the_page_carries_our_script_and_a_policy(door):
    status, body, headers = fetch(door.address)
    assert status == 200 and b'src="play.js"' in body and b"<title>Gantry</title>" in body
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert fetch(door.address + "play.js")[0] == fetch(door.address + "play.css")[0] == 200
    assert fetch(door.address + "..%2fplay.py")[0] == 404


def test_names_that_point_here_from_elsewhere_are_refused(door):
    assert fetch(door.address, Host="evil.example:1")[0] == 403
    assert fetch(door.address, Host=f"localhost:{door.port}")[0] == 200


@pytest.mark.parametrize("path", ["", "drive"])
@pytest.mark.parametrize("origin, enters", [("http://evil.example", False), (None, True), ("own", True)])
def test_sockets_of_pages_elsewhere_are_refused(door, path, origin, enters):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = f"ws://127.0.0.1:{door.port}/{path}"
    origin = f"http://127.0.0.1:{door.port}" if origin == "own" else origin
    door.status = '{"robots": []}'
    try:
        with connect(address, origin=origin, subprotocols=None) as socket:  # type: ignore[arg-type]
            if path == "drive":
                assert json.loads(socket.recv(timeout=5)) == {"robots": []}
                socket.send('{"held": [1, 0, 0]}')
                socket.send("no json")
        entered = True
    except InvalidStatus as refused:
        assert refused.response.status_code == 403
        entered = False
    assert entered is enters
    if path == "drive" and enters:
        end = time.monotonic() + 5
        while not (door.heard and door.heard[-1][1] is None) and time.monotonic() < end:
            time.sleep(0.02)
        assert door.heard[-2][1] == {"held": [1, 0, 0]} and door.heard[-1][1] is None  # and it let go


def test_no_tunnel_is_opened_for_anybody(door):
    assert door.viser.request_share_url() is None


def test_a_port_in_use_is_one_clear_error(door):
    with pytest.raises(UserError, match=f"{door.port} cannot be used.*--port"):
        Door("127.0.0.1", door.port, lambda page, message: None)


# ---- the command line


def command(*arguments: str, **options) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "gantry.py"), "play", *arguments], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(quadruped_run, stop):
    process = command(str(quadruped_run), "--no-open", "--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:") and "Ctrl+C" in line
    assert fetch(line.split()[0])[0] == 200
    process.send_signal(stop)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in error


def refusal(capsys, monkeypatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["gantry play", *arguments, "--no-open", "--port", "0"])
    with pytest.raises(UserError) as refused:
        play.main()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_no_run_is_one_clear_error(capsys, monkeypatch, tmp_path, quadruped_run):
    assert "is no folder" in refusal(capsys, monkeypatch, str(tmp_path / "none"))
    assert "config.yaml" in refusal(capsys, monkeypatch, str(tmp_path))
    broken = tmp_path / "broken"
    shutil.copytree(quadruped_run, broken)
    (broken / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    assert "damaged" in refusal(capsys, monkeypatch, str(broken))
    (broken / "config.yaml").write_text("- 1\n")
    assert "config.yaml" in refusal(capsys, monkeypatch, str(broken))
    (broken / "config.yaml").write_text("task: [go2-walk]\n")
    assert str(broken) in refusal(capsys, monkeypatch, str(broken))


def test_options_are_checked(capsys, monkeypatch, quadruped_run):
    run = str(quadruped_run)
    assert "3 runs given" in refusal(capsys, monkeypatch, run, run, run)
    assert "did you mean 'nominal'" in refusal(capsys, monkeypatch, run, "--physics", "nominl")
    monkeypatch.setattr(sys, "argv", ["gantry play", run, "--port", "70000"])
    with pytest.raises(UserError, match="70000"):
        play.main()
