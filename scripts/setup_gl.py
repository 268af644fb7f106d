"""Part of `make setup`: a rendering back end must work before hours go into training without a video.

MuJoCo renders without a screen through EGL (a GPU or software) or OSMesa (software). One is enough.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

from setup_python import SetupError, apt_install, say

# Any of the names will do; distributions number OSMesa differently.
LIBRARIES = {"egl": ("libEGL.so.1",), "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")}
# Newer releases no longer have OSMesa, so the two are installed separately.
DEBIAN = {"egl": ["libegl1", "libgl1", "libopengl0"], "osmesa": ["libosmesa6"]}

ADVICE = """no OpenGL back end renders, so no video could be made ({reasons}). Install one:
  Debian, Ubuntu:  sudo apt-get install libegl1 libgl1 libopengl0   (or libosmesa6)
  Fedora:          sudo dnf install mesa-libEGL mesa-libGL libglvnd-opengl
  Arch:            sudo pacman -S mesa
and run `make setup` again; `.venv/bin/gantry doctor` shows what each back end says."""


def library_loads(back_end: str) -> bool:
    """Whether the system library of a back end is present (a quick check; rendering is the real one)."""
    if back_end not in LIBRARIES:
        return sys.platform == "darwin" and back_end == "cgl"
    for name in LIBRARIES[back_end]:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def rendering(root: Path, venv: Path) -> dict[str, str]:
    """back end -> "" if it rendered a frame just now, else why not (measured by `gantry doctor`).

    Raises:
        SetupError: the doctor itself did not run.
    """
    command = [str(venv / "bin/python"), "-m", "agents.doctor", "--only", "gl", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    try:
        checks = json.loads(done.stdout)["checks"]
        return {c["name"].removeprefix("gl "): "" if c["status"] == "ok" else c["detail"] for c in checks}
    except (ValueError, KeyError, TypeError):
        raise SetupError(f"the rendering check did not run: {done.stderr.strip()[-300:]}") from None


def ensure(root: Path, venv: Path) -> str:
    """Return a back end that renders, installing system libraries if that needs no password.

    Raises:
        SetupError: none renders; says what to install.
    """
    say("checking that rendering works")
    results = rendering(root, venv)
    for back_end, packages in DEBIAN.items():
        if "" in results.values():
            break
        if back_end in results and apt_install(packages):
            results = rendering(root, venv)
    for back_end, problem in results.items():
        if not problem:
            return back_end
    raise SetupError(ADVICE.format(reasons="; ".join(f"{b}: {p}" for b, p in results.items())))
