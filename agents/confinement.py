"""Run code that a language model wrote in a child process that can harm nothing outside its folder.

`run_confined` starts a fresh Python process; before it imports torch or starts any thread it

* takes a minimal environment, closes every inherited file, starts a session and dies with its parent;
* sets resource limits and drops all capabilities;
* applies **Landlock** (which files may be opened; landlock(7)): the interpreter, libraries and this project's
  packages for reading, `train/` inside its run folder for writing regular files and folders;
* applies a **seccomp** filter (which system calls may be made; seccomp(2)), because Landlock alone leaves
  datagram and abstract sockets, new processes, `chmod` and much else open.

The parent watches wall time, resident memory, threads and the size of `train/`, kills what exceeds a limit
and goes on. What comes back is data: JSON and tensors, read with `read_json` and `read_tensors`, which refuse
links, pipes and anything that is not a plain file.

Both mechanisms are called through `ctypes` rather than through a package: the boundary is then about 150
lines that can be read (confinement_landlock.py, confinement_seccomp.py), it needs no system library
(`pyseccomp` needs libseccomp), it works on every kernel from Linux 6.2 on, and no third party's release can
widen it.

Still possible inside: using the processor up to the limits, seeing that a path outside exists and its size
and times (`stat` is not covered by Landlock), and writing wrong numbers into its own results. The last is why
fitness is measured by the parent, from the policy's weights alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agents.confinement_child import child_main, confine_this_process
from agents.confinement_data import open_plain_file, read_json, read_tensors
from agents.confinement_kernel import landlock_abi, system_call
from agents.confinement_landlock import interpreter_paths
from agents.confinement_limits import (
    DRY_RUN_LIMITS,
    GIB,
    MIB,
    PROJECT,
    PROJECT_PACKAGES,
    ConfinementError,
    Limits,
    Trust,
)
from agents.confinement_seccomp import KILL_PROCESS, seccomp_program
from agents.confinement_syscalls import MACHINES, call_number
from agents.confinement_watch import Output, kill, plain_text, watch

__all__ = [
    "DRY_RUN_LIMITS", "GIB", "MIB", "MINIMUM_LANDLOCK_ABI", "PROJECT", "PROJECT_PACKAGES", "ConfinementError", "Limits",
    "Outcome", "Trust", "child_main", "confine_this_process", "confinement_support", "interpreter_paths",
    "landlock_abi", "open_plain_file", "read_json", "read_tensors", "require_confinement", "run_confined",
    "seccomp_program",
]  # fmt: skip


#: Landlock below version 3 (Linux 6.2) cannot refuse to empty a file.
MINIMUM_LANDLOCK_ABI = 3


@dataclass(frozen=True)
class Outcome:
    """How a child ended. Everything in `result` and `output` was written where untrusted code ran."""

    ended: Literal["finished", "failed", "killed"]
    reason: str
    """One line when it did not finish: the limit that it passed, the signal, or the error."""
    result: Any
    """What the target returned (plain JSON values), or None."""
    error: dict[str, str] | None
    """`type`, `message` and `traceback` of the exception that ended the target, or None."""
    output: str
    """stdout and stderr, shortened in the middle, without control characters."""
    exit_code: int | None
    wall_s: float
    peak_resident_bytes: int
    missing: list[str] = field(default_factory=list)
    """Kernel features that the child ran without (only under ``trust="unconfined"``)."""

    @property
    def ok(self) -> bool:
        return self.ended == "finished"


def confinement_support() -> list[str]:
    """Name what is missing here for `trust="confined"`; an empty list means that everything is there."""
    if not sys.platform.startswith("linux"):
        return [f"Linux (this is {platform.system()}, which has neither Landlock nor seccomp)"]
    missing = []
    abi = landlock_abi()
    if abi < MINIMUM_LANDLOCK_ABI:
        found = f"version {abi}" if abi else "none, or not enabled in the lsm= boot parameter"
        missing.append(f"Landlock version {MINIMUM_LANDLOCK_ABI} or newer, Linux 6.2 (found: {found})")
    if platform.machine() not in MACHINES:
        missing.append(f"a system call table for {platform.machine()} (known: {', '.join(MACHINES)})")
    else:
        try:  # SECCOMP_GET_ACTION_AVAIL, asked about SECCOMP_RET_KILL_PROCESS
            action = ctypes.c_uint32(KILL_PROCESS)
            system_call(call_number("seccomp"), ctypes.c_uint(2), ctypes.c_uint(0), ctypes.byref(action))
        except OSError as error:
            missing.append(f"seccomp filters ({error.strerror})")
    return missing


# No user packages, no working folder on the path, no bytecode files. As -I, but PYTHONHASHSEED counts.
_FLAGS = ("-s", "-P", "-B", "-X", "utf8")
_START = "import sys; sys.path.insert(0, sys.argv[1]); from agents.confinement import child_main; child_main()"


def _child_environment(train: str, threads: int) -> dict[str, str]:
    """What the child may know: no key, no token, no path of the user's.

    The fixed hash seed gives sets of strings one order, so that a resumed training goes as an uninterrupted
    one.
    """
    environment = {
        "HOME": train,
        "TMPDIR": train,
        "LANG": "C.UTF-8",
        "MUJOCO_GL": "disable",
        "PYTHONHASHSEED": "0",
    }
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    if "LD_LIBRARY_PATH" in os.environ:  # clusters and conda find the C++ library through it
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


def _prepare_train_folder(run_folder: Path) -> Path:
    train = run_folder / "train"
    train.mkdir(parents=True, exist_ok=True)
    if train.is_symlink() or not train.is_dir():
        raise ConfinementError(f"{train} must be a plain folder, and is a link or a file; remove it")
    return train.resolve()


def require_confinement(trust: Trust) -> list[str]:
    """Return the features that are missing; raise unless there are none or the user accepted it.

    Raises:
        ConfinementError: naming what is missing and the setting that accepts it.
    """
    if trust not in ("confined", "unconfined"):
        raise ConfinementError(f"unknown trust {trust!r}; valid: confined, unconfined")
    missing = confinement_support()
    if missing and trust == "confined":
        raise ConfinementError(
            f"code that a model wrote cannot be confined here: missing {'; '.join(missing)}. "
            "Run on such a machine, or set trust=unconfined to run it with your own rights"
        )
    return missing


def run_confined(
    target: str,
    argument: Any,
    run_folder: str | Path,
    limits: Limits | None = None,
    *,
    readable: Iterable[str | Path] = (),
    threads: int = 1,
    trust: Trust = "confined",
) -> Outcome:
    """Call ``module:function`` with one JSON argument in a fresh confined child and wait for its end.

    Blocks; never raises for what the child does. The child imports from the interpreter's packages and from
    `PROJECT_PACKAGES` only, and writes in `run_folder`/train only, which is made if needed.

    Args:
        target: what to call, as ``agents.train:main``; its return value must be plain JSON values.
        argument: handed to it; plain JSON values (it passes through `json`).
        run_folder: the candidate's run folder; nothing in it but `train/` is open to the child.
        limits: see `Limits`.
        readable: files and folders that the child may read besides libraries (models, recorded states, a
            config).
        threads: thread counts for OpenMP and BLAS.
        trust: "unconfined" keeps limits, environment and watching but neither Landlock nor seccomp.

    Raises:
        ConfinementError: confinement is not possible here, or `train` is a link.
    """
    limits = limits or Limits()
    missing = require_confinement(trust)
    train = _prepare_train_folder(Path(run_folder))
    result_name = f".result-{secrets.token_hex(8)}.json"
    packages = [PROJECT / name for name in PROJECT_PACKAGES if (PROJECT / name).is_dir()]
    order = {
        "target": target, "argument": argument, "trust": trust, "limits": asdict(limits), "train": str(train),
        "result": str(train / result_name), "parent": os.getpid(),
        "readable": [str(Path(path).resolve()) for path in (*packages, *readable)],
    }  # fmt: skip
    started = time.monotonic()
    with tempfile.TemporaryFile() as order_file:
        order_file.write(json.dumps(order).encode())
        order_file.seek(0)
        process = subprocess.Popen(
            [sys.executable, *_FLAGS, "-c", _START, str(PROJECT)],
            stdin=order_file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=True,
            env=_child_environment(str(train), threads), cwd=train, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as pipe:
        output = Output(pipe.fileno(), limits.output_bytes)
        try:
            excess, peak = watch(process, output, str(train), limits)
        finally:  # also when the parent is interrupted
            kill(process)
        output.read()
    return _outcome(process.returncode, excess, train, result_name, limits, output.text(), peak, started, missing)


def _outcome(
    code: int,
    excess: str | None,
    train: Path,
    result_name: str,
    limits: Limits,
    output: str,
    peak: int,
    started: float,
    missing: list[str],
) -> Outcome:
    """Judge how the child ended, from its exit code and the file that it left."""
    answer: dict[str, Any] = {}
    reason = excess or ""
    if excess is None and code in (0, 1):
        try:
            read = read_json(train, result_name, limits.result_bytes)
            answer = read if isinstance(read, dict) else {}
        except ConfinementError as problem:
            reason = f"no result: {problem}"
    with contextlib.suppress(OSError):
        (train / result_name).unlink()
    error = answer.get("error")
    if isinstance(error, dict):
        error = {key: plain_text(str(error.get(key, ""))) for key in ("type", "message", "traceback")}
    else:
        error = None
    ended: Literal["finished", "failed", "killed"] = "failed"
    if excess is not None:
        ended = "killed"
    elif code == -signal.SIGXCPU:
        ended, reason = "killed", f"used more than {limits.cpu_s:g} s of processor time"
    elif code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        reason = f"ended by signal {name}"
    elif error is not None:
        reason = f"{error['type']}: {error['message']}".split("\n")[0]
    elif code == 0 and "result" in answer:
        ended = "finished"
    else:
        lines = [line for line in output.splitlines() if line.strip()]
        reason = reason or (lines[-1] if lines else f"exit code {code}")
    return Outcome(
        ended,
        plain_text(reason)[:500],
        answer.get("result"),
        error,
        output,
        code,
        time.monotonic() - started,
        peak,
        missing,
    )
