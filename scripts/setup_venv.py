"""Makes `.venv` with the pinned dependencies and checks that rendering works: what `make setup` runs.

Standard library only: it runs before anything is installed. Safe to interrupt and to repeat. A stamp in
`.venv` remembers what was installed, so a second run with nothing changed returns at once.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import setup_gl
import setup_python
from setup_python import SetupError, say

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("train", "robot", "launchers", "llm", "dev")
INPUTS = (
    "pyproject.toml",
    "constraints.txt",
    "scripts/setup.sh",
    "scripts/setup_venv.py",
    "scripts/setup_python.py",
    "scripts/setup_gl.py",
)
# Imported after the installation: the parts without which nothing trains.
ESSENTIAL = "import torch, mujoco, mjbatch, gymnasium, stable_baselines3, hydra, imageio, gantry"


def key(root: Path) -> str:
    """Hash of everything that decides what `.venv` should hold, including where the project lies."""
    digest = hashlib.sha256(str(root).encode())
    for name in INPUTS:
        digest.update(name.encode() + b"\0" + (root / name).read_bytes() + b"\0")
    return digest.hexdigest()


def pins(root: Path) -> dict[str, str]:
    """name -> version of the direct dependencies that `make setup` installs unconditionally."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in EXTRAS:
        requirements += project["optional-dependencies"][extra]
    matches = (re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?==([\w.+!-]+)", r) for r in requirements)
    return {match[1]: match[2] for match in matches if match}


def read_stamp(venv: Path) -> dict[str, str]:
    """What the last complete set-up wrote; empty when there was none."""
    try:
        stamp = json.loads((venv / "gantry-setup.json").read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(venv: Path, stamp: dict[str, str]) -> None:
    temporary = venv / "gantry-setup.json.tmp"
    temporary.write_text(json.dumps(stamp, indent=2) + "\n")
    temporary.replace(venv / "gantry-setup.json")


def is_current(root: Path) -> bool:
    """Whether nothing is to be done. Run by `.venv`'s own Python, whose packages it inspects."""
    stamp = read_stamp(root / ".venv")
    if stamp.get("key") != key(root) or not setup_gl.library_loads(stamp.get("gl", "")):
        return False
    for name, version in pins(root).items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            return False
        if installed.partition("+")[0] != version:  # 2.13.0+cpu satisfies ==2.13.0
            return False
    return True


@contextlib.contextmanager
def lock(root: Path) -> Iterator[None]:
    """One set-up at a time: `make test` and `make check` may be started together."""
    import fcntl

    with (root / ".setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running in this folder; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def discard(venv: Path) -> None:
    """Remove `.venv`; a link is unlinked and what it points at stays."""
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)


def packages_folder(venv: Path) -> Path | None:
    return next(iter(sorted(venv.glob("lib/python3.*/site-packages"))), None)


def mend(site_packages: Path) -> list[str]:
    """Make pip reinstall what an interruption left incomplete, by removing its metadata.

    pip writes RECORD last; while upgrading it renames what it removes to ``~name``.

    Returns:
        names of the distributions that pip will install again.
    """
    for leftover in site_packages.glob("~*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    broken = []
    for info in sorted(site_packages.glob("*.dist-info")):
        record = info / "RECORD"
        if not record.is_file() or not all_present(record, site_packages):
            broken.append(info.name.partition("-")[0])
            shutil.rmtree(info)
    return broken


def all_present(record: Path, site_packages: Path) -> bool:
    """Whether every file that a RECORD lists exists (compiled .pyc files may come and go)."""
    import csv

    with record.open(newline="") as file:
        names = [row[0] for row in csv.reader(file) if row]
    return all(n.endswith(".pyc") or os.path.exists(os.path.join(site_packages, n)) for n in names)


def prepare(venv: Path) -> None:
    """Leave a working, possibly empty, environment at `venv`: kept, mended or made anew."""
    reason = setup_python.why_unusable(venv)
    stamp = read_stamp(venv)
    if reason is None and stamp and stamp.get("root") != str(venv.parent):
        reason = f"was made for {stamp.get('root')}"
    if reason is None:
        site_packages = packages_folder(venv)
        broken = mend(site_packages) if site_packages and (venv / "gantry-setup.started").exists() else []
        if broken:
            say(f"the last set-up was interrupted; installing again: {', '.join(broken)}")
        return
    if venv.is_symlink() or venv.exists():
        say(f"the existing .venv {reason}; making a new one")
        discard(venv)
    say(f"making .venv with Python {sys.version.split()[0]} ({sys.executable})")
    setup_python.create(sys.executable, venv)


def install(root: Path, venv: Path) -> None:
    """pip-install the project in place with its pinned dependencies; output goes to `.venv/setup.log`.

    Raises:
        SetupError: pip failed, or what it installed cannot be imported.
    """
    say("installing the pinned dependencies (the first time takes some minutes and up to 6 GB)")
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    # "compat" puts the project folder itself on the path, so that a package added later is found at once.
    command += ["--config-settings", "editable_mode=compat"]
    command += ["-c", "constraints.txt", "-e", f".[{','.join(EXTRAS)}]"]
    setup_python.run_logged(command, root, venv / "setup.log")
    check = subprocess.run([str(venv / "bin/python"), "-c", ESSENTIAL], cwd=root, capture_output=True, text=True)
    if check.returncode:
        raise SetupError(f"an installed package cannot be imported: {check.stderr.strip()[-300:]}")


def setup(root: Path) -> None:
    """Bring `.venv` up to date; every step is skipped when it has nothing to do.

    Raises:
        SetupError: with what to do about it.
    """
    venv = root / ".venv"
    prepare(venv)
    # From here until the stamp is written, an interruption can leave packages incomplete.
    (venv / "gantry-setup.json").unlink(missing_ok=True)
    (venv / "gantry-setup.started").touch()
    try:
        install(root, venv)
    except SetupError as error:
        site_packages = packages_folder(venv)
        broken = mend(site_packages) if site_packages else []
        if not broken:
            raise
        say(f"{error}; trying once more")
        install(root, venv)
    # The place for further system software, one `ensure` a program (a browser for reports, say).
    back_end = setup_gl.ensure(root, venv)
    write_stamp(venv, {"key": key(root), "root": str(root), "gl": back_end})
    (venv / "gantry-setup.started").unlink()
    say(f"done; rendering works with {back_end}. Next: make demo, or .venv/bin/gantry --help")


def main() -> int:
    parser = argparse.ArgumentParser(description="set up .venv for Gantry (normally through `make setup`)")
    parser.add_argument("--is-current", action="store_true", help="exit 0 if there is nothing to do")
    arguments = parser.parse_args()
    if arguments.is_current:
        return 0 if is_current(ROOT) else 1
    try:
        with lock(ROOT):
            python = ROOT / ".venv/bin/python"
            # Another set-up may have finished while this one waited for the lock.
            again = [str(python), __file__, "--is-current"]
            if not python.exists() or subprocess.run(again, stderr=subprocess.DEVNULL).returncode:
                setup(ROOT)
    except SetupError as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; `make setup` continues from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
