"""A session of `gantry play` without a browser: set-up after falls, what pages get and send, recording."""

from __future__ import annotations

import json

import imageio.v2 as imageio
import numpy as np
import pytest

pytest.importorskip("viser", reason="gantry play needs viser")
pytest.importorskip("mjviser", reason="gantry play needs mjviser")

from configs.errors import UserError
from tests.watch.play_samples import train_small, trot
from watch.play_session import Session


@pytest.fixture(scope="module")
def shared_session(quadruped_run):
    made = Session([quadruped_run])
    trot(made.robots[0])
    yield made
    made.close()


@pytest.fixture
def session(shared_session):
    """The one session of these tests, set up anew."""
    shared_session.reset()
    shared_session.drive.stop()
    assert not shared_session.paused and shared_session.film is None
    return shared_session


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


def test_a_dash_has_one_slider_and_no_finish(tmp_path):
    """Only forward can be chosen; whoever drives may go on beyond the 5 m of the task."""
    session = Session([train_small(tmp_path, "go2-dash")])
    try:
        assert len(session.panel._sliders) == 1 and len(session.drive.axes) == 3
        robot = session.robots[0]
        robot.environment.sim.qpos[:, 0] = 6.0
        session.drive.set(0, 1.5)
        for _ in range(5):
            session.tick()
        assert float(robot.environment.state.base_position_w[0, 0]) > 5.5
        assert robot.environment.state.command[0].tolist() == [1.5, 0.0, 0.0]
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
