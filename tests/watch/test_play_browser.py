"""`gantry play` in a real Chromium: keys walk the robot, a hard push fells it, two stand side by side, nothing runs
what a run's names say.

The robot trots by an open-loop gait (play_samples.Trot), so that no trained policy is needed; all else is the real
thing. Most tests share one robot and its page: WebGL in software takes seconds to start.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("viser", reason="gantry play needs viser")
pytest.importorskip("mjviser", reason="gantry play needs mjviser")
pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")

from tests.watch.browser import Visit
from tests.watch.play_samples import trot
from watch import play_screenshot
from watch.browser import launch
from watch.play_session import Session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOSTILE = '"><img src=x onerror=alert(1)>'
PUSH_M_S = 1.5
WIDTH, HEIGHT = 900, 620
"""[pixel] small: WebGL in software takes the cores that the robots need."""


@pytest.fixture(scope="module")
def webgl(browser: Any) -> Iterator[Any]:
    """A second Chromium, with WebGL in software, of the playwright that already runs: a process can have but one."""
    made = launch(browser.browser_type, webgl=True)
    yield made
    made.close()


@contextmanager
def playing(runs: list[Path], browser: Any, *, scheme: str = "light", trotting: bool = True, **options: Any):
    session = Session(runs, frames_per_s=5.0, **options)
    session.set_up_after_fall = False
    if trotting:
        for robot in session.robots:
            trot(robot)
    stop = threading.Event()
    loop = threading.Thread(target=session.run, args=(stop,), daemon=True)
    loop.start()
    visit = Visit(browser, session.door.address, width=WIDTH, height=HEIGHT, scheme=scheme)
    try:
        play_screenshot.settle(visit.page)
        yield session, visit
        visit.page.wait_for_timeout(200)
        assert visit.errors == []
        assert visit.foreign == []
    finally:
        visit.close()
        stop.set()
        loop.join()
        session.close()


def until(visit: Visit, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "never came true"
        visit.page.wait_for_timeout(50)


def shown(visit: Visit) -> dict[str, Any]:
    return visit.page.evaluate("() => window.gantryPlay")


def position(visit: Visit, i: int = 0) -> np.ndarray:
    return np.array(shown(visit)["robots"][i]["position"])


@pytest.fixture(scope="module")
def shared(quadruped_run, webgl, tmp_path_factory):
    """One robot and its page for the tests that leave both as they found them; a second run lies beside its own."""
    runs = tmp_path_factory.mktemp("shared") / "go2-walk"
    for name in ("first", "second"):
        shutil.copytree(quadruped_run, runs / name)
    with playing([runs / "first"], webgl) as (session, visit):
        yield session, visit


@pytest.fixture
def stage(shared):
    """The shared robot, set up anew and asked for nothing."""
    session, visit = shared
    visit.page.evaluate("() => document.activeElement?.blur()")  # keys are for the robot
    done = threading.Event()
    session.post(lambda: (session.reset(), done.set()))
    until(visit, done.is_set)
    until(visit, lambda: session.robots[0].time_s > 1.5)  # it has settled on its feet
    until(visit, lambda: shown(visit)["robots"][0]["tilt_deg"] < 20)
    yield session, visit
    session.push_m_s = PUSH_M_S
    for slider in session.panel._sliders:
        slider.value = 0.0
    session.drive.stop()
    session.post(session.release_physics)


def commanded(session: Session, command: list[float]) -> bool:
    return session.drive.command.tolist() == pytest.approx(command)


def test_a_key_walks_the_robot_and_letting_go_stops_it(stage):
    session, visit = stage
    p = visit.page
    p.wait_for_timeout(1000)  # an episode begins with some speed
    start = position(visit)
    p.wait_for_timeout(500)
    assert np.linalg.norm((position(visit) - start)[:2]) < 0.05
    p.keyboard.down("w")
    until(visit, lambda: position(visit)[0] - start[0] > 0.6)  # [m] forward
    assert session.drive.command == pytest.approx([0.7 * 1.5, 0.0, 0.0])
    assert p.locator(".gp kbd.on").inner_text() == "W"
    assert float(p.locator(".gp-value").first.inner_text().split()[0]) > 0.0
    p.keyboard.up("w")
    until(visit, lambda: not session.drive.command.any())
    for key, command in (
        ("ArrowUp", [1.05, 0, 0]), ("s", [-0.35, 0, 0]), ("a", [0, 0, 0.7]), ("ArrowRight", [0, 0, -0.7]),
        ("q", [0, 0.35, 0]), ("e", [0, -0.35, 0]),
    ):  # fmt: skip
        p.keyboard.down(key)
        until(visit, partial(commanded, session, command))
        p.keyboard.up(key)
    p.keyboard.down("Shift")
    p.keyboard.down("W")
    until(visit, lambda: session.drive.command.tolist() == [1.5, 0, 0])
    p.evaluate("() => window.dispatchEvent(new Event('blur'))")  # the window loses the keyboard
    until(visit, lambda: not session.drive.command.any())
    p.keyboard.up("W")
    p.keyboard.up("Shift")


def test_keys_do_not_move_the_camera_and_typing_does_not_drive(stage):
    session, visit = stage
    p = visit.page
    client = next(iter(session.door.viser.get_clients().values()))
    before = client.camera.position.copy()
    p.keyboard.down("w")
    until(visit, lambda: session.drive.command.any())
    p.wait_for_timeout(500)
    p.keyboard.up("w")
    assert client.camera.position == pytest.approx(before, abs=1e-4)
    box = p.locator("input[type=text], input.mantine-NumberInput-input").first
    box.click()
    p.keyboard.press("w")
    p.keyboard.press("s")
    p.wait_for_timeout(300)
    assert not session.drive.command.any()


def test_a_hard_push_shows_a_fall_and_reset_sets_it_up(stage):
    session, visit = stage
    p = visit.page
    assert p.locator(".gp-badge").is_hidden()
    session.push_m_s = 6.0
    p.keyboard.press("Space")
    until(visit, lambda: shown(visit)["robots"][0]["fell"])
    p.locator(".gp-badge").wait_for(state="visible")
    assert p.locator(".gp-badge").inner_text() == "fell"
    until(visit, lambda: shown(visit)["robots"][0]["tilt_deg"] > 45)
    p.keyboard.press("r")
    until(visit, lambda: not shown(visit)["robots"][0]["fell"])
    until(visit, lambda: shown(visit)["robots"][0]["tilt_deg"] < 20)


def test_a_gamepad_drives(stage):
    session, visit = stage
    p = visit.page
    p.evaluate("""() => {
      const buttons = Array.from({ length: 17 }, () => ({ pressed: false }));
      window.pad = { connected: true, axes: [0, -1, 0.5, 0], buttons };
      navigator.getGamepads = () => [window.pad];
    }""")
    until(visit, lambda: session.drive.command.tolist() == pytest.approx([1.5, 0.0, -0.5]))
    p.evaluate("() => { window.pad.axes = [0.05, 0, 0, 0]; }")  # at rest a stick is never quite at zero
    until(visit, lambda: not session.drive.command.any())
    pushed = session.robots[0].push_w.copy()
    p.evaluate("() => { window.pad.buttons[0].pressed = true; }")
    until(visit, lambda: bool((session.robots[0].push_w != pushed).any()))
    p.evaluate("() => { window.pad.connected = false; navigator.getGamepads = () => []; }")


def test_a_page_that_is_closed_lets_go(stage, webgl):
    session, visit = stage
    other = Visit(webgl, session.door.address, width=300, height=200)
    other.page.wait_for_function("() => window.gantryPlay")
    other.page.keyboard.down("w")
    until(visit, lambda: session.drive.command.any())
    other.close()
    until(visit, lambda: not session.drive.command.any())


def test_two_policies_follow_the_same_keys_side_by_side(quadruped_run, webgl, tmp_path):
    second = tmp_path / "second"
    shutil.copytree(quadruped_run, second)
    with playing([quadruped_run, second], webgl, scheme="dark") as (session, visit):
        p = visit.page
        assert p.locator(".gp-letter").all_inner_texts() == ["A", "B"]
        assert p.locator(".gp-name").all_inner_texts() == [quadruped_run.name, "second"]
        apart = position(visit, 0) - position(visit, 1)
        assert apart[1] == pytest.approx(0.9, abs=0.05)
        assert p.evaluate("() => document.documentElement.dataset.mantineColorScheme") == "dark"
        start = [position(visit, i)[0] for i in range(2)]
        p.keyboard.down("w")
        until(visit, lambda: all(position(visit, i)[0] - start[i] > 0.3 for i in range(2)))
        p.keyboard.up("w")
        p.locator("button", has_text="←").first.click()
        until(visit, lambda: all(robot.push_left_s > 0 for robot in session.robots))
        assert session.robots[0].push_w == pytest.approx(session.robots[1].push_w, abs=1e-6)


def test_sliders_change_command_and_physics(stage):
    session, visit = stage
    p = visit.page

    def enter(label: str, value: str) -> None:
        row = p.locator("label", has_text=label).first.locator("xpath=ancestor::div[.//input][1]")
        box = row.locator("input.mantine-NumberInput-input")
        box.fill(value)
        box.press("Enter")

    enter("Friction", "0.15")
    until(visit, lambda: session.robots[0].physics.held.get("friction") == pytest.approx(0.15))
    enter("Delay (ms)", "30")
    until(visit, lambda: session.robots[0].physics.held.get("action_delay") == pytest.approx(0.03))
    enter("Forward", "0.5")
    until(visit, lambda: session.drive.command.tolist() == [0.5, 0.0, 0.0])
    p.locator("button", has_text="As it was").click()
    until(visit, lambda: not session.robots[0].physics.held)
    until(visit, lambda: session.panel._knobs["friction"].value == pytest.approx(0.8))
    p.locator("button", has_text="Stand still").click()
    until(visit, lambda: not session.drive.command.any())


def test_another_run_is_taken_up_from_the_list(stage):
    session, visit = stage
    p = visit.page
    for name in ("second", "first"):
        p.locator("input.mantine-Select-input").last.click()
        p.get_by_role("option", name=f"go2-walk/{name}").click()
        until(visit, lambda name=name: session.robots[0].run.name == name)
        until(visit, lambda name=name: p.locator(".gp-name").inner_text() == name)
    trot(session.robots[0])


def test_a_video_is_recorded_from_the_page(stage):
    session, visit = stage
    p = visit.page
    p.locator("button", has_text="Record video").click()
    until(visit, lambda: session.film is not None and session.film.seconds > 0.3)
    until(visit, lambda: p.locator(".gp-state").inner_text() == "recording")
    p.locator("button", has_text="Stop and save").click()
    until(visit, lambda: len(list(session.robots[0].run.glob("play-*.mp4"))) == 1, 120.0)


def test_charts_scroll(stage):
    _, visit = stage
    p = visit.page
    until(visit, lambda: p.locator(".uplot").count() == 2)
    labels = " ".join(p.locator(".u-legend .u-label").all_inner_texts())
    assert "velocity" in labels and "calf target" in labels
    last = "() => Object.values(window.__viserTestpoints.uplots).map((u) => u.chart.data[0].at(-1))"
    before = p.evaluate(last)
    until(visit, lambda: all(b > a + 0.5 for a, b in zip(before, p.evaluate(last), strict=True)))


def test_hostile_names_are_shown_and_do_not_run(quadruped_run, webgl, tmp_path):
    runs = tmp_path / HOSTILE
    run = runs / "<script>alert(2)<script>"
    shutil.copytree(quadruped_run, run)
    shutil.copytree(quadruped_run, runs / "[x](javascript:alert(3)) <svg onload=alert(4)>")
    (run / "reward.py").write_text(f"def reward(s):\n    return {{{HOSTILE!r}: s.base_height}}\n")
    with playing([run, run], webgl, trust_reward=True) as (session, visit):
        p = visit.page
        assert p.locator(".gp-name").first.inner_text() == run.name
        until(visit, lambda: p.locator(".u-legend .u-label").count() > 0)
        assert any("onerror" in text for text in p.locator(".u-legend .u-label").all_inner_texts())
        p.locator("input.mantine-Select-input").last.click()
        p.get_by_role("option").first.wait_for()
        p.keyboard.press("Escape")
        session.post(lambda: session.say(HOSTILE, HOSTILE))
        session.post(lambda: session.switch(0, tmp_path / HOSTILE))  # fails; the reason names it
        p.get_by_text("That does not work").first.wait_for()
        assert p.locator("img[src=x]").count() == 0 and p.locator("svg[onload]").count() == 0
    # playing() has asserted that no dialog opened and nothing was fetched from elsewhere


# The two differ in colors alone; `make screenshots` takes both.
@pytest.mark.parametrize("dark", [pytest.param(False, marks=pytest.mark.optin), True])
def test_the_screenshot_shows_a_lit_robot_on_its_floor(quadruped_run, webgl, tmp_path, dark):
    from PIL import Image

    path = play_screenshot.screenshot(
        quadruped_run,
        tmp_path / "play.png",
        dark=dark,
        width=WIDTH,
        height=HEIGHT,
        walk_m=0.0,
        browser=webgl,
    )
    picture = np.asarray(Image.open(path).convert("L"), dtype=float)
    assert picture.shape == (HEIGHT, WIDTH)
    view = picture[HEIGHT // 4 : HEIGHT * 3 // 4, WIDTH * 3 // 8 : WIDTH * 5 // 8]
    assert np.ptp(view) > 120  # black feet and a light body
    panel = picture[10 : HEIGHT - 10, WIDTH - 250 : WIDTH - 50].mean()
    assert (panel < 90) == dark
