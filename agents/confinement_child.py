"""Inside the child: confine this process for good, then call the target and write its result."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import math
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Iterable
from typing import Any

from agents.confinement_kernel import prctl, system_call
from agents.confinement_landlock import SYSTEM_PATHS, apply_landlock, interpreter_paths, is_project_root
from agents.confinement_limits import (
    PROJECT,
    PROJECT_PACKAGES,
    ConfinementError,
    Limits,
    Trust,
)
from agents.confinement_seccomp import apply_seccomp
from agents.confinement_syscalls import call_number


def _drop_capabilities() -> None:
    """Give up every capability: root in a confined child is an ordinary user who owns root's files."""
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    system_call(call_number("capset"), ctypes.c_char_p(header), ctypes.c_char_p(struct.pack("6I", *[0] * 6)))


def _apply_limits(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CPU: None if limits.cpu_s is None else math.ceil(limits.cpu_s),
        resource.RLIMIT_AS: limits.address_space_bytes,
    }
    for kind, value in wanted.items():
        if value is None:
            continue
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # A process may catch the signal of the soft processor-time limit; the hard one a second later kills.
        extra = 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else 0
        try:
            resource.setrlimit(kind, (value, value + extra))
        except ValueError as error:
            if sys.platform.startswith("linux"):  # macOS refuses some; there nothing is confined anyway
                raise ConfinementError(f"limit {kind} cannot be set to {value}: {error}") from error


def confine_this_process(writable: str, readable: Iterable[str], limits: Limits, trust: Trust = "confined") -> None:
    """Confine the calling process for good; call it in a fresh, single-threaded child.

    Args:
        writable: the one folder in which files may be made and changed.
        readable: files and folders that may be read besides the system's libraries.
        limits: the limits that the kernel enforces (the parent enforces the others).
        trust: "unconfined" applies the limits only.

    Raises:
        ConfinementError: the process has several threads already, or the kernel refused a step.
    """
    if trust == "unconfined":
        _apply_limits(limits)
        return
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise ConfinementError(f"{threads} threads run already; Landlock binds only the one that asks for it")
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # if the machine runs out of memory, this process goes first
        _apply_limits(limits)
        prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
        prctl(4, 0)  # PR_SET_DUMPABLE: no other process of this user may look into this one
        prctl(47, 4)  # PR_CAP_AMBIENT, clear all
        apply_landlock([*readable, *SYSTEM_PATHS], [writable])
        _drop_capabilities()
        apply_seccomp()
    except OSError as error:
        raise ConfinementError(f"the kernel refused to confine the process: {error}") from error


class _ProjectFinder:
    """Imports this project's packages where its root folder may not be listed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        folder = PROJECT / name
        if path is not None or name not in PROJECT_PACKAGES or not folder.is_dir():
            return None
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def _call(target: str, argument: Any) -> dict[str, Any]:
    """Import and call ``module:function``; return its result or its error as plain values."""
    try:
        module, _, function = target.partition(":")
        return {"result": getattr(importlib.import_module(module), function)(argument)}
    except BaseException as error:  # the parent wants to know about SystemExit and KeyboardInterrupt too
        text = "".join(traceback.format_exception(error, limit=-20))
        print(text, file=sys.stderr)
        return {"error": {"type": type(error).__name__, "message": str(error)[:4000], "traceback": text[-8000:]}}


def child_main() -> None:
    """Entry of the child: read the order from stdin, confine, call the target, write its result."""
    order = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.closerange(3, 65536)
    os.umask(0o077)
    if sys.platform.startswith("linux"):
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed search leaves no training behind
    if os.getppid() != order["parent"]:
        os._exit(71)
    os.chdir(order["train"])
    sys.path[:] = [entry for entry in sys.path if entry and not is_project_root(entry)]
    sys.meta_path.append(_ProjectFinder)
    readable = [*order["readable"], *interpreter_paths()]
    confine_this_process(order["train"], readable, Limits(**order["limits"]), order["trust"])
    answer = _call(order["target"], order["argument"])
    try:
        text = json.dumps(answer)
    except (TypeError, ValueError, RecursionError) as error:
        answer = {
            "error": {
                "type": type(error).__name__,
                "message": f"result is not JSON: {error}",
                "traceback": "",
            }
        }
        text = json.dumps(answer)
    with open(order["result"] + ".part", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(order["result"] + ".part", order["result"])
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing of the interpreter's ending (exit handlers, finalizers) is worth waiting for after the result.
    os._exit(1 if "error" in answer else 0)
