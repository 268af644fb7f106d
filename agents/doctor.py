"""`gantry doctor`: what works on this machine, and what to do about what does not.

Every probe that loads a large or fragile library runs in a child process: a crash there is a finding, not
the end of the report. Only the standard library is imported at module level, so that what is missing can be said.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("configs", "envs", "agents", "sim2real", "watch")
SETUP = "run `make setup`"
SUMMARY = "Say what works on this machine and what to do about what does not."


@dataclass(frozen=True)
class Check:
    """One line of the report. `status`: "ok"; "warn", training works without it; "fail", it does not."""

    name: str
    status: str
    detail: str
    fix: str = ""


def child(program: str, timeout_s: float = 120.0, **environment: str) -> tuple[bool, str]:
    """Run Python code in a fresh interpreter.

    Returns:
        whether it exited with 0, and its last line: of its output if it did, else of its error.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout_s:.0f} s"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode == 0, lines[-1].strip() if lines else f"exit code {done.returncode}"


# --- Python and packages ---------------------------------------------------------------------------------


def check_python() -> list[Check]:
    version = platform.python_version()
    if sys.version_info >= (3, 15):
        fix = f"PYTHON=python3.13 make setup, or {SETUP} where an older Python is installed too"
        return [Check("python", "warn", f"{version}, newer than the pinned dependencies know", fix)]
    return [Check("python", "ok", f"{version}, {sys.executable}")]


def recorded_pins(requirements: list[str]) -> list[tuple[str, str, str]]:
    """(name, version, extra) of the ``==`` requirements that apply here; the base's extra is ``""``."""
    pins = []
    for requirement in requirements:
        text, _, marker = requirement.partition(";")
        match = re.fullmatch(r"\s*([\w.-]+)(?:\[[\w,-]+\])?\s*==\s*([\w.+!-]+)\s*", text)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", marker)
        if match and applies(marker, extra[1] if extra else ""):
            pins.append((match[1], match[2], extra[1] if extra else ""))
    return pins


def applies(marker: str, extra: str) -> bool:
    """Whether an environment marker (``python_version < "3.14" and extra == "robot"``) holds here."""
    if not marker.strip():
        return True
    try:
        from packaging.markers import Marker
    except ImportError:  # the marker cannot be evaluated; a missing package is then reported once too often
        return True
    return Marker(marker.strip()).evaluate({"extra": extra})


def check_packages() -> list[Check]:
    """Compare what is installed with the pins recorded in the project's own metadata, extra by extra."""
    try:
        pins = recorded_pins(metadata.requires("gantry-lab") or [])
    except metadata.PackageNotFoundError:
        return [Check("packages", "fail", "gantry-lab is not installed", SETUP)]
    checks = []
    for extra in ("train", "robot", "launchers", "llm", "dev"):
        wanted = {name: version for name, version, group in pins if group in (extra, "")}
        missing, other = compare(wanted)
        name, needed = f"packages [{extra}]", extra == "train"
        if missing:
            fix = f"{SETUP} (or pip install 'gantry-lab[{extra}]')"
            checks.append(Check(name, "fail" if needed else "warn", f"missing: {', '.join(missing)}", fix))
        elif other:
            checks.append(Check(name, "warn", f"not the pinned version: {', '.join(other)}", SETUP))
        else:
            checks.append(Check(name, "ok", f"{len(wanted)} at the pinned versions"))
    return checks


def compare(wanted: dict[str, str]) -> tuple[list[str], list[str]]:
    """(missing, other version) among name -> version; a build's suffix like ``+cpu`` does not count."""
    missing, other = [], []
    for name, version in wanted.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if installed.partition("+")[0] != version:
            other.append(f"{name} {installed} (pinned {version})")
    return missing, other


def check_shadowing(root: Path = ROOT) -> list[Check]:
    """Another installed package called envs, agents, ... would be imported in place of ours, or beside it."""
    strangers = []
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None:
            continue
        folders = [Path(spec.origin).parent] if spec.origin else map(Path, spec.submodule_search_locations or [])
        strangers += [f"{name} from {f}" for f in folders if f.resolve() != (root / name).resolve()]
    if strangers:
        fix = "uninstall that package, or leave the folder that holds it and unset PYTHONPATH"
        return [Check("package names", "fail", f"in the way: {', '.join(strangers)}", fix)]
    return [Check("package names", "ok", "no other package has the names of ours")]


# --- computing -------------------------------------------------------------------------------------------


def check_torch() -> list[Check]:
    fine, line = child(
        "import json, torch; cuda = torch.cuda.is_available(); print(json.dumps([torch.__version__, "
        "torch.get_num_threads(), torch.cuda.get_device_name(0) if cuda else None]))"
    )
    if not fine:
        return [Check("torch", "fail", line, SETUP)]
    version, threads, gpu = json.loads(line)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    checks = [Check("torch", "ok", f"{version}, {threads} threads on {cores} CPU cores")]
    if threads > cores:
        fix = f"unset OMP_NUM_THREADS, or set it to {cores}"
        checks = [Check("torch", "warn", f"{version}, {threads} threads on only {cores} CPU cores", fix)]
    return [*checks, Check("cuda", "ok", gpu or "none; training runs on the CPU")]


def check_mujoco() -> list[Check]:
    """mjbatch is compiled against one exact version of MuJoCo, which it names in its metadata."""
    try:
        requirements = metadata.requires("mjbatch") or []
        installed = metadata.version("mujoco")
    except metadata.PackageNotFoundError as error:
        return [Check("mujoco", "fail", f"{error.name} is not installed", SETUP)]
    match = next(filter(None, (re.match(r"mujoco\s*==\s*([\w.]+)", r) for r in requirements)), None)
    if match and match[1] != installed:
        return [Check("mujoco", "fail", f"mjbatch wants mujoco {match[1]}, {installed} is installed", SETUP)]
    fine, line = child("import mujoco, mjbatch; print(mujoco.mj_versionString())")
    if not fine:
        return [Check("mujoco", "fail", line, SETUP)]
    return [Check("mujoco", "ok", f"{line}, mjbatch {metadata.version('mjbatch')} fits")]


# --- pictures --------------------------------------------------------------------------------------------


def check_gl() -> list[Check]:
    """One of the back ends is enough: the others are then only worth a warning."""
    from envs import gl

    with ThreadPoolExecutor() as pool:
        problems = dict(zip(gl.candidates(), pool.map(gl.trial, gl.candidates()), strict=True))
    any_renders = "" in problems.values()
    checks = []
    for name, problem in problems.items():
        status = "warn" if problem and any_renders else "fail" if problem else "ok"
        packages = gl.PACKAGES.get(name)
        fix = f"sudo apt-get install {packages} (or your system's package of it)" if packages else SETUP
        checks.append(Check(f"gl {name}", status, problem or "renders", fix if problem else ""))
    return checks


def check_ffmpeg() -> list[Check]:
    fine, line = child(
        "import imageio_ffmpeg, subprocess; exe = imageio_ffmpeg.get_ffmpeg_exe(); "
        "out = subprocess.check_output([exe, '-hide_banner', '-encoders'], text=True); "
        "assert 'libx264' in out, f'{exe} has no H.264 encoder'; "
        "print(imageio_ffmpeg.get_ffmpeg_version(), 'with H.264')"
    )
    fix = f"unset IMAGEIO_FFMPEG_EXE, or {SETUP}"
    return [Check("ffmpeg", "ok", line) if fine else Check("ffmpeg", "fail", line, fix)]


def check_chromium() -> list[Check]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path:
        return [Check("chromium", "ok", path)]
    return [Check("chromium", "warn", "not found; only screenshots of pages need it", "apt-get install chromium")]


# --- system ----------------------------------------------------------------------------------------------


def check_runs(folder: Path) -> list[Check]:
    """Whether runs can be written; the folder itself is not made if it does not exist yet."""
    folder = folder.absolute()
    nearest = next(f for f in (folder, *folder.parents) if f.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return [Check("runs", "fail", f"cannot write in {nearest}: {error.strerror}", f"chown or chmod {nearest}")]
    free_gb = shutil.disk_usage(nearest).free / 1e9
    detail = f"{folder} is writable, {free_gb:.1f} GB free"
    if free_gb < 2.0:
        return [Check("runs", "fail" if free_gb < 0.2 else "warn", detail, "remove runs you no longer need")]
    return [Check("runs", "ok", detail)]


def landlock_abi() -> int:
    """Version of the kernel's Landlock interface, 0 when it has none.

    Source: landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION (1); number 444 everywhere.
    """
    if sys.platform != "linux":
        return 0
    return max(0, ctypes.CDLL(None, use_errno=True).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def has_seccomp_filter() -> bool:
    """Whether the kernel filters system calls. Asks with a null filter, which installs nothing.

    Source: prctl(2), PR_SET_SECCOMP (22) with SECCOMP_MODE_FILTER (2): EFAULT means that it is supported.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    libc.prctl(22, ctypes.c_ulong(2), None, zero, zero)
    return ctypes.get_errno() == errno.EFAULT


def check_confinement() -> list[Check]:
    abi, seccomp = landlock_abi(), has_seccomp_filter()
    detail = f"Landlock {f'ABI {abi}' if abi else 'missing'}, seccomp {'works' if seccomp else 'missing'}"
    if abi and seccomp:
        return [Check("confinement", "ok", detail)]
    fix = "model-written code needs Linux 5.13 or newer with lsm=landlock; training does not"
    return [Check("confinement", "warn", detail, fix)]


def check_cyclonedds() -> list[Check]:
    fine, line = child("import cyclonedds.core, cyclonedds.domain; print('imports')")
    if fine:
        return [Check("cyclonedds", "ok", line)]
    fix = "pip install 'gantry-lab[robot]'; needed only to talk to a Unitree robot"
    return [Check("cyclonedds", "warn", line, fix)]


# --- the report ------------------------------------------------------------------------------------------


def checks(runs: Path) -> dict[str, Callable[[], list[Check]]]:
    return {
        "python": check_python,
        "packages": check_packages,
        "names": check_shadowing,
        "torch": check_torch,
        "mujoco": check_mujoco,
        "gl": check_gl,
        "ffmpeg": check_ffmpeg,
        "runs": lambda: check_runs(runs),
        "confinement": check_confinement,
        "cyclonedds": check_cyclonedds,
        "chromium": check_chromium,
    }


def examine(groups: dict[str, Callable[[], list[Check]]]) -> list[Check]:
    """Run groups of checks side by side; the results stay in the groups' order."""
    with ThreadPoolExecutor() as pool:
        return [check for group in pool.map(lambda run: run(), groups.values()) for check in group]


def show(results: list[Check]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
    table = Table("check", "", "finding", box=None, pad_edge=False)
    for check in results:
        finding = escape(check.detail) + (f"\n→ {escape(check.fix)}" if check.fix else "")
        table.add_row(escape(check.name), marks[check.status], finding)
    console = Console(highlight=False)
    console.print(table)
    failed = [check.name for check in results if check.status == "fail"]
    console.print(f"\nnot ready: {', '.join(failed)}" if failed else "\nready to train", markup=False)


def main() -> int:
    """Exit code 0: everything that training needs works; 1: something does not."""
    parser = argparse.ArgumentParser(prog="gantry doctor", description=SUMMARY)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are to be written")
    parser.add_argument("--only", action="append", metavar="GROUP", help="run this group alone (repeatable)")
    arguments = parser.parse_args()
    groups = checks(arguments.runs)
    for group in arguments.only or []:
        if group not in groups:
            parser.error(f"unknown group {group!r}; valid: {', '.join(groups)}")
    results = examine({name: run for name, run in groups.items() if name in (arguments.only or groups)})
    ready = all(check.status != "fail" for check in results)
    if arguments.json:
        print(json.dumps({"ok": ready, "checks": [asdict(check) for check in results]}, indent=2))
    else:
        show(results)
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
