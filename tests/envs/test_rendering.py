"""Frames and videos are judged by their pixels: who stands where, what moves, what is written on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from configs.errors import UserError
from envs import gl, physics, tasks
from envs.environment import Environment
from envs.overlay import MEASURED, RED, WANTED, font, physics_lines, quantities
from envs.rendering import Follow, Renderer, record, side_by_side

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 320, 240


def make(task: str, num_envs: int = 1, name: str = "randomized", seed: int = 3) -> Environment:
    environment = physics.build(tasks.get(task), name, num_envs, seed, num_threads=1)
    environment.reset()
    return environment


def stay(environment: Environment, steps: int, renderer: Renderer | None = None) -> None:
    """Holds the home pose."""
    for _ in range(steps):
        step = environment.step(torch.zeros(environment.num_envs, environment.num_actions))
        if renderer is not None:
            renderer.note(step)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Software OpenGL rounds colors differently from one picture to the next."""
    return a.shape == b.shape and int(np.abs(a.astype(int) - b).max()) <= 3


def near(pixels: np.ndarray, color: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    """(H, W) bool"""
    return (np.abs(pixels.astype(int) - color).max(-1) <= tolerance) if pixels.size else np.zeros((0, 0), bool)


# --- back ends -------------------------------------------------------------------------------------------


def run(program: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Python in a child whose environment lacks what is None."""
    merged = {**os.environ, **environment}
    env = {name: value for name, value in merged.items() if value is not None}
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)


DRAW = """
import sys, mujoco, torch  # mujoco first: it must not matter that it was imported before the choice
from envs import gl, physics, tasks
from envs.rendering import Renderer
environment = physics.build(tasks.get("cartpole-swingup"), "nominal", 1, 0, num_threads=1)
environment.reset()
with Renderer(environment, 160, 120) as renderer:
    print(gl.back_end(), renderer.frame().std() > 10)
"""


@pytest.mark.parametrize("wished", [None, *gl.candidates()])
def test_a_back_end_is_chosen_or_the_users_own_is_used(wished):
    if wished is not None and (reason := gl.trial(wished)):
        pytest.skip(f"{wished}: {reason}")
    done = run(DRAW, MUJOCO_GL=wished, PYOPENGL_PLATFORM=None)
    assert done.returncode == 0, done.stderr
    name, drawn = done.stdout.split()
    assert drawn == "True"
    assert name == wished if wished else name in gl.candidates()


def choose(monkeypatch, wished: str | None, reasons: dict[str, str]) -> str:
    """back_end() on a machine where trials end as given; MUJOCO_GL is put back afterwards."""
    monkeypatch.setenv("MUJOCO_GL", wished or "")
    monkeypatch.setattr(gl, "trial", lambda name: reasons[name])
    monkeypatch.setattr(gl, "candidates", lambda: ("egl", "osmesa"))
    gl.back_end.cache_clear()
    try:
        return gl.back_end()
    finally:
        gl.back_end.cache_clear()


def test_osmesa_serves_where_egl_does_not(monkeypatch):
    assert choose(monkeypatch, None, {"egl": "no display", "osmesa": ""}) == "osmesa"
    assert os.environ["MUJOCO_GL"] == "osmesa"  # for child processes


def test_no_back_end_is_one_clear_error(monkeypatch):
    with pytest.raises(UserError) as caught:
        choose(monkeypatch, None, {"egl": "no display", "osmesa": "the system library libOSMesa is missing"})
    message = str(caught.value)
    for part in ("no display", "libOSMesa is missing", "libegl1", "libosmesa6", "gantry doctor"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("wished", "parts"),
    [
        ("osmesa", ("MUJOCO_GL=osmesa", "broken", "unset MUJOCO_GL", "libosmesa6", "gantry doctor")),
        ("off", ("MUJOCO_GL=off", "turns rendering off", "egl, osmesa")),
        ("vulkan", ("MUJOCO_GL=vulkan", "egl, osmesa")),
    ],
)
def test_a_wish_that_cannot_be_met_is_named(monkeypatch, wished, parts):
    with pytest.raises(UserError) as caught:
        choose(monkeypatch, wished, {"egl": "", "osmesa": "broken"})
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_trial_that_crashes_is_a_reason(monkeypatch):
    monkeypatch.setattr(gl, "_TRIAL", "import os; os.abort()")
    assert "exit code -6" in gl.trial("glfw")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    monkeypatch.setattr(gl, "_TRIAL", "import sys; sys.exit('no attribute glGetError')")
    monkeypatch.setattr(gl, "find_library", lambda name: None)
    assert gl.trial("osmesa") == "the system library libOSMesa is missing"
    monkeypatch.setattr(gl, "find_library", lambda name: "libOSMesa.so.8")
    assert gl.trial("osmesa") == "no attribute glGetError"


def test_another_platform_in_pyopengl_rules_a_back_end_out(monkeypatch):
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    assert "PYOPENGL_PLATFORM" in gl.trial("egl")


# --- frames ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", tasks.names())
def test_a_frame_shows_something_that_moves(task):
    environment = make(task)
    with Renderer(environment, WIDTH, HEIGHT, overlay=False) as renderer:
        first = renderer.frame()
        again = renderer.frame()
        for _ in range(10):
            environment.step(torch.full((1, environment.num_actions), 0.6))
        later = renderer.frame()
    assert first.shape == (HEIGHT, WIDTH, 3) and first.dtype == np.uint8
    assert 60 < first.mean() < 230 and first.std() > 15
    assert alike(first, again)  # a frame depends on the simulation alone, not on being looked at
    assert (np.abs(first.astype(int) - later).max(-1) > 30).mean() > 0.003


def test_the_robot_is_well_framed():
    """What the floor alone does not show lies in the middle, and fills a good part of the picture."""
    environment = make("go2-walk", name="nominal")
    stay(environment, 25)
    with Renderer(environment, WIDTH, HEIGHT, overlay=False) as renderer:
        there = renderer.frame().astype(int)
        renderer._model.geom_rgba[renderer._model.geom_bodyid > 0, 3] = 0.0
        renderer._model.geom_matid[renderer._model.geom_bodyid > 0] = -1
        gone = renderer.frame().astype(int)
    y, x = np.nonzero(np.abs(there - gone).max(-1) > 12)
    assert 0.25 * WIDTH < np.ptp(x) < 0.9 * WIDTH and 0.25 * HEIGHT < np.ptp(y) < 0.9 * HEIGHT
    assert abs(x.mean() / WIDTH - 0.5) < 0.1 and abs(y.mean() / HEIGHT - 0.5) < 0.15


def test_collision_geometry_is_hidden():
    environment = make("go2-walk", name="nominal")
    with Renderer(environment, WIDTH, HEIGHT, overlay=False) as renderer:
        first = renderer.frame()
        renderer._model.geom_rgba[renderer._model.geom_group == 3] = [1, 0, 1, 1]
        assert alike(first, renderer.frame())


def test_each_simulation_is_drawn_as_itself():
    pair, alone = make("go2-walk", 2), make("go2-walk", 1)
    stay(pair, 5), stay(alone, 5)
    with Renderer(pair, WIDTH, HEIGHT) as both, Renderer(alone, WIDTH, HEIGHT) as one:
        first, second, same = both.frame(0), both.frame(1), one.frame(0)
    assert alike(first, same)
    assert (np.abs(first.astype(int) - second).max(-1) > 20).mean() > 0.03


def test_drawing_changes_nothing_in_the_simulation():
    drawn, plain = make("go2-walk", 2), make("go2-walk", 2)
    with Renderer(drawn, 160, 120) as renderer:
        for _ in range(8):
            renderer.frame(1)
            stay(drawn, 1), stay(plain, 1)
    assert np.array_equal(drawn.sim.rows, plain.sim.rows)


def test_the_camera_follows_steady_motion_without_lag_and_smooths_jerks():
    memory_s = np.full(3, 0.3)
    steady, shaken = Follow(np.zeros(3), memory_s), Follow(np.zeros(3), memory_s)
    swings = []
    for k in range(1, 400):
        point = np.array([1.2 * 0.02 * k, 0.0, 0.0])
        at = steady.move(point, 0.02)
        jerk = 0.02 * np.sin(2 * np.pi * 5 * 0.02 * k)  # the 5 Hz sway of a trot
        swings.append(float(shaken.move(point + jerk, 0.02)[0] - at[0]))
    assert abs(at[0] - point[0]) < 1e-6
    assert max(map(abs, swings[100:])) < 0.3 * 0.02


# --- what is written on them -----------------------------------------------------------------------------


def test_the_panel_tells_the_command():
    environment = make("go2-walk", name="nominal")
    panel = (slice(5, 125), slice(5, 180))
    with Renderer(environment, WIDTH, HEIGHT) as renderer:
        environment.state.command = torch.tensor([[0.2, 0.0, 0.0]])
        slow = renderer.frame()[panel]
        environment.state.command = torch.tensor([[1.4, -0.4, 0.9]])
        fast = renderer.frame()[panel]
        environment.state.command = torch.tensor([[0.2, 0.0, 0.0]])
        assert alike(slow, renderer.frame()[panel])
    assert (slow != fast).any(-1).mean() > 0.01
    for color in (WANTED, MEASURED):
        assert near(slow, color).sum() > 20 and near(fast, color).sum() > 20
    # The ticks on the bars stand where the command is: farther right for forward, left for -0.4 sideways.
    ticks = [np.nonzero(near(p, WANTED, 12)[:, 8:].sum(0) >= 6)[0] for p in (slow, fast)]
    assert ticks[1].max() > ticks[0].max() + 20


def test_the_panels_darken_their_corners_only():
    environment = make("go2-walk", name="nominal")
    with Renderer(environment, WIDTH, HEIGHT) as on, Renderer(environment, WIDTH, HEIGHT, overlay=False) as off:
        with_panels, without = on.frame().astype(int), off.frame().astype(int)
    assert with_panels[10:30, 10:170].mean() < 0.7 * without[10:30, 10:170].mean()
    assert with_panels[10:30, -140:-12].mean() < 0.7 * without[10:30, -140:-12].mean()
    assert alike(with_panels[-60:], without[-60:])


def test_the_quantities_are_those_of_the_state():
    environment = make("go2-walk")
    stay(environment, 3)
    rows, s = quantities(environment, 0), environment.state
    assert [row.unit for row in rows] == ["m/s", "m/s", "rad/s"]
    assert [row.wanted for row in rows] == s.command[0].tolist()
    assert rows[1].measured == float(s.base_linear_velocity_b[0, 1])
    assert rows[2].measured == float(s.base_angular_velocity_b[0, 2])
    slider, hinge = quantities(make("cartpole-swingup"), 0)
    assert (slider.unit, hinge.unit, hinge.wanted) == ("m", "deg", None)
    assert 165 < abs(hinge.measured) <= 180  # it starts hanging down


def test_the_physics_written_are_those_in_force():
    environment = make("go2-walk", 3)
    stay(environment, 2)
    environment.episodes.begin(np.array([1]))  # its second episode: new draws
    fields = environment.randomizer.fields
    for i in range(3):
        lines = dict(physics_lines(environment, i))
        friction = fields["geom_friction"][i, fields.touching[0], 0]
        added_kg = fields["body_mass"][i, fields.base] - fields.model.body_mass[fields.base]
        delay_s = fields["actuator_delay"][i, 0]
        assert lines["ground friction"] == f"{friction:.2f}"
        assert lines["added mass"] == f"{added_kg:+.2f} kg"
        assert lines["action delay"] == f"{1000 * delay_s:.0f} ms"
        assert lines["gravity"] == f"{-fields['gravity'][i, 2] / 9.81:.2f} g"
    assert physics_lines(environment, 0) != physics_lines(environment, 1)


def test_nominal_physics_are_written_as_the_model_has_them():
    lines = dict(physics_lines(make("go2-walk", name="nominal"), 0))
    assert lines["added mass"] == "+0.00 kg" and lines["motor strength"] == "100 %"
    assert lines["ground friction"] == "0.80" and lines["gravity"] == "1.00 g"


def test_the_font_has_every_letter_that_is_written():
    environment = make("go2-walk")
    written = [*physics_lines(environment, 0), *((q.label, q.unit) for q in quantities(environment, 0))]
    letters = set("".join(a + b for a, b in written)) - {" "}
    missing = bytes(font(24).getmask("\U0010ffff"))
    assert letters and all(bytes(font(24).getmask(letter)) != missing for letter in letters)


def test_a_fall_is_marked_for_a_while():
    environment = make("go2-walk", name="nominal")
    with Renderer(environment, WIDTH, HEIGHT) as renderer:
        stay(environment, 5, renderer)
        assert near(renderer.frame(), RED).sum() < 20
        environment.sim.qpos[0, 3:7] = [0.0, 1.0, 0.0, 0.0]  # on its back
        stay(environment, 1, renderer)
        stay(environment, 1, renderer)
        assert int(environment.episodes.episode[0]) == 1
        assert near(renderer.frame()[-70:], RED).sum() > 300
        stay(environment, 70, renderer)
        assert near(renderer.frame(), RED).sum() < 20


# --- videos ----------------------------------------------------------------------------------------------


def hold(environment: Environment):
    return lambda observation: torch.zeros(len(observation), environment.num_actions)


@pytest.mark.parametrize(("task", "fps", "simulations"), [("go2-walk", 25, (0, 1)), ("cartpole-swingup", None, (0,))])
def test_a_video_is_h264_in_real_time(tmp_path, task, fps, simulations):
    environment = make(task, 2)
    path = tmp_path / "new" / "video.mp4"
    seconds, rate = 0.8, fps or 50
    assert record(environment, hold(environment), path, seconds, width=WIDTH, height=HEIGHT, fps=fps,
                  simulations=simulations, physics="randomized") == path  # fmt: skip
    assert [p.name for p in path.parent.iterdir()] == ["video.mp4"]
    with imageio.get_reader(path) as reader:
        about, frames = reader.get_meta_data(), np.array(list(reader.iter_data()))
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
    assert about["fps"] == rate and about["duration"] == pytest.approx(seconds, abs=0.05)
    assert frames.shape == (round(seconds * rate), HEIGHT, WIDTH * len(simulations), 3)
    assert (frames.std((1, 2, 3)) > 15).all() and 50 < frames.mean() < 230
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1.0
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")  # plays before it is fully loaded


def test_a_failed_recording_leaves_the_old_file_alone(tmp_path):
    environment = make("cartpole-swingup")
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")
    calls = []

    def fail(observation):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("policy broke")
        return torch.zeros(1, 1)

    with pytest.raises(RuntimeError, match="policy broke"):
        record(environment, fail, path, 1.0, width=160, height=120)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"fps": 30}, "30 frames a second .* valid: 50, 25, 10"),
        ({"fps": 0}, "0 frames a second"),
        ({"width": 321}, "width 321 is odd.*320 or 322"),
        ({"height": 10}, "height 10 is out of range"),
        ({"camera": "tracker"}, "unknown camera 'tracker'.*did you mean 'track'"),
        ({"simulations": (4,)}, "simulation 4 does not exist; valid: 0 to 0"),
        ({"simulations": ()}, "simulations is empty"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, complaint):
    environment = make("cartpole-swingup")
    given = {"seconds": 0.1, "width": 160, "height": 120, **options}
    with pytest.raises(UserError, match=complaint):
        record(environment, hold(environment), tmp_path / "video.mp4", **given)
    assert list(tmp_path.iterdir()) == []


def test_frames_are_laid_out_row_by_row():
    frames = [np.full((2, 4, 3), k + 100, np.uint8) for k in range(3)]
    grid = side_by_side(frames)
    assert grid.shape == (4, 8, 3)
    assert [grid[0, 0, 0], grid[0, 4, 0], grid[2, 0, 0], grid[2, 4, 0]] == [100, 101, 102, 24]
