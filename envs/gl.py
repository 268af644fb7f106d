"""OpenGL without a screen: picks a back end that works here, once per process.

MuJoCo binds its own `Renderer` to a back end when `mujoco` is imported, which is long before anyone asks for
a picture. So contexts are made here, from MuJoCo's context classes. EGL uses a GPU or Mesa's software
renderer; OSMesa is software alone; macOS has CGL. A back end is tried in a child process first: a broken
driver may crash, and a failed import leaves PyOpenGL bound to the wrong platform.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from functools import cache
from importlib import import_module
from typing import Protocol, cast

from configs.errors import UserError

PACKAGES = {"egl": "libegl1 libgl1 libopengl0", "osmesa": "libosmesa6"}
"""What Debian and Ubuntu call the system libraries of a back end."""

_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
_WINDOWED = ("glfw", "glx", "wgl", "enable", "enabled", "on", "true", "1")
_OFF = ("disable", "disabled", "off", "false", "0")

# The floor must come out red: a context that opens but draws nothing is of no use.
_TRIAL = """
import sys
from importlib import import_module
import mujoco, numpy
context = import_module("mujoco." + sys.argv[1]).GLContext(64, 48)
context.make_current()
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><geom type='plane' size='1 1 .1' rgba='1 0 0 1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
camera, scene = mujoco.MjvCamera(), mujoco.MjvScene(model, 10)
camera.distance, camera.elevation = 1.0, -90.0
drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL, scene)
frame, area = numpy.zeros((48, 64, 3), numpy.uint8), mujoco.MjrRect(0, 0, 64, 48)
mujoco.mjr_render(area, scene, drawing)
mujoco.mjr_readPixels(frame, None, area, drawing)
red, green, _ = map(int, frame[24, 32])
drawing.free()
context.free()
sys.exit(0 if red > green + 60 else f"the frame is wrong: red {red}, green {green}")
"""


class Context(Protocol):
    """An OpenGL context of one of MuJoCo's back ends."""

    def make_current(self) -> None: ...

    def free(self) -> None: ...


def candidates() -> tuple[str, ...]:
    """The back ends that need no screen on this system, the preferred one first."""
    return ("cgl",) if sys.platform == "darwin" else ("egl", "osmesa")


def trial(back_end: str, timeout_s: float = 60.0) -> str:
    """Draws a small picture through a back end in a child process. Returns "" if it worked, else why not."""
    other = os.environ.get("PYOPENGL_PLATFORM", back_end).lower()
    if back_end in _LIBRARIES and other != back_end:
        return f"PYOPENGL_PLATFORM is set to {other}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL, back_end],
            env={**os.environ, "MUJOCO_GL": back_end},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:.0f} s"
    if done.returncode == 0:
        return ""
    if back_end in _LIBRARIES and find_library(_LIBRARIES[back_end]) is None:
        return f"the system library lib{_LIBRARIES[back_end]} is missing"  # PyOpenGL's own error does not say so
    lines = done.stderr.strip().splitlines()
    return lines[-1].strip() if lines else f"it ends with exit code {done.returncode}"


@cache
def back_end() -> str:
    """The back end of this process: the one that MUJOCO_GL names, else the first that draws.

    The answer is left in MUJOCO_GL, so that child processes need not search again.

    Raises:
        UserError: none draws, or the one that MUJOCO_GL names does not; it says what to install.
    """
    wished = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wished in _OFF:
        raise UserError(f"MUJOCO_GL={wished} turns rendering off; unset it, or set it to one of {_listed()}")
    if wished in _WINDOWED:
        return "glfw"
    if wished:
        if wished not in candidates():
            raise UserError(f"MUJOCO_GL={wished} is no back end here; unset it, or set it to one of {_listed()}")
        reason = trial(wished)
        if reason:
            raise UserError(
                f"MUJOCO_GL={wished} does not render ({reason}); unset MUJOCO_GL to let Gantry choose a back "
                f"end, or {_install(wished)}; `gantry doctor` shows what each back end says"
            )
        return wished
    with ThreadPoolExecutor() as pool:
        reasons = dict(zip(candidates(), pool.map(trial, candidates()), strict=True))
    for name, reason in reasons.items():
        if not reason:
            os.environ["MUJOCO_GL"] = name
            return name
    said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise UserError(
        f"no OpenGL back end renders, so no picture can be made ({said}); {_install(*candidates())}; "
        "`gantry doctor` shows what each back end says"
    )


def context(width: int, height: int) -> Context:
    """A new context that can draw (height, width) pictures. Raises UserError where no back end works."""
    name = back_end()
    try:
        made = import_module(f"mujoco.{name}").GLContext(width, height)
        made.make_current()
    except Exception as error:  # each back end has its own kinds
        raise UserError(
            f"OpenGL back end {name} fails: {error}; check it with `gantry doctor`, or set MUJOCO_GL to "
            f"another of {_listed()}"
        ) from error
    return cast(Context, made)


def _listed() -> str:
    return ", ".join(candidates())


def _install(*names: str) -> str:
    commands = [f"sudo apt-get install {PACKAGES[name]}" for name in names if name in PACKAGES]
    if not commands:
        return "check the graphics driver"
    return f"install its system library (Debian, Ubuntu: {' or '.join(commands)})"
