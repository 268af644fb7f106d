"""Part of `make setup`: virtual environments on machines where `python -m venv` may not work.

Debian ships Python without ensurepip unless python3-venv is installed, so there are several ways to try.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class SetupError(Exception):
    """The set-up cannot go on; the message says what the user can do."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def succeeds(command: list[str], timeout_s: float = 600.0) -> bool:
    """Whether a command exits with 0; its output and its input are closed to the user."""
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def run_logged(command: list[str], folder: Path, log: Path) -> None:
    """Run a long command; its output goes to `log`, on a terminal the current line is shown.

    Raises:
        SetupError: the command failed; carries the last lines of the log.
    """
    live = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                if live:
                    print(f"\r{line.strip()[:width]:<{width}}", end="", flush=True)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if live:
        print("\r" + " " * width, end="\r", flush=True)
    if process.wait():
        last = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])
        raise SetupError(f"`{' '.join(command)}` failed; the end of {log}:\n{last}")


def why_unusable(venv: Path) -> str | None:
    """Why an environment cannot be used as it is ("uses Python 3.9", ...), or None when it can."""
    python = venv / "bin/python"
    if not python.exists():
        return "is incomplete" if venv.exists() else "does not exist"
    program = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix != sys.base_prefix)"
    try:
        done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "does not run"
    if done.returncode:
        return "does not run"
    version, isolated = done.stdout.split()
    if tuple(map(int, version.split("."))) < (3, 11):
        return f"uses Python {version}, and 3.11 is the oldest that works"
    if isolated != "True":
        return "is incomplete"
    return None if succeeds([str(python), "-m", "pip", "--version"]) else "has no pip"


def as_root() -> list[str] | None:
    """What to put before a command to run it as root without a password; None when there is no way."""
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if shutil.which("sudo") and succeeds(["sudo", "-n", "true"], 20) else None


def apt_install(packages: list[str]) -> bool:
    """Install Debian packages if that needs no password; whether it was done."""
    prefix = as_root()
    if prefix is None or shutil.which("apt-get") is None:
        return False
    say(f"installing system packages: {' '.join(packages)}")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    succeeds([*apt, "update"])  # an old list is better than none, so a failure here is not the end
    done = succeeds([*apt, "install", "-y", "--no-install-recommends", *packages], 1200)
    if not done:
        say(f"apt-get could not install {' '.join(packages)}")
    return done


def ways(python: str, venv: Path) -> dict[str, Callable[[], bool]]:
    """Ways to make an environment with pip, in the order to try; each says whether it went through."""
    target, inner = str(venv), str(venv / "bin/python")

    def plain() -> bool:
        return succeeds([python, "-m", "venv", target])

    def seeded(pip: list[str]) -> Callable[[], bool]:
        return lambda: succeeds([python, "-m", "venv", "--without-pip", target]) and succeeds(pip)

    def after_apt() -> bool:
        version = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        # Debian's package helps Debian's Python only.
        return python.startswith("/usr/bin/") and apt_install([f"python{version}-venv"]) and plain()

    return {
        "python -m venv": plain,
        "pip --python": seeded([python, "-m", "pip", "--python", inner, "install", "-q", "pip"]),
        "virtualenv": lambda: (
            succeeds([python, "-m", "virtualenv", "-q", target]) or succeeds(["virtualenv", "-q", "-p", python, target])
        ),
        "uv": lambda: succeeds(["uv", "venv", "-q", "--seed", "--python", python, target]),
        "apt-get install python3-venv": after_apt,
    }


def create(python: str, venv: Path) -> None:
    """Make an environment with pip at `venv`, which must not exist.

    Raises:
        SetupError: no way worked; says what was tried and what to install.
    """
    tried: list[str] = []
    for name, way in ways(python, venv).items():
        if way() and why_unusable(venv) is None:
            if tried:
                say(f"{tried[0]} does not work here; used {name}")
            return
        tried.append(name)
        shutil.rmtree(venv, ignore_errors=True)
    raise SetupError(
        f"cannot make a virtual environment with {python}; tried: {', '.join(tried)}.\n"
        "Install one of these and run `make setup` again:\n"
        "  Debian, Ubuntu:  sudo apt-get install python3-venv\n"
        "  anywhere:        uv, or virtualenv"
    )
