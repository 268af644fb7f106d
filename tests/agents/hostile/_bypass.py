"""Runs hostile rewards without the checker, with every builtin: only confinement is left to hold them.

`run` executes one file on a small and on a training-sized batch. As a script this is a fork server: it
imports torch once, then forks a child per line of JSON on stdin, because a fork takes 20 ms and a fresh child
with torch 2 s. What is confined is the same function as in `run_confined`, in a single-threaded process as
well.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import SimpleNamespace

BATCH_SIZES = (4, 4096)


def make_state(size: int) -> SimpleNamespace:
    """A few fields in the form that a reward sees; without torch, stand-ins that need no import."""
    if "torch" not in sys.modules:
        return SimpleNamespace(time_s=[0.5] * size, joint_position=[[0.5] * 12] * size)
    import torch

    return SimpleNamespace(
        time_s=torch.rand(size),
        joint_position=torch.rand(size, 12),
        command=torch.rand(size, 3),
        terminated=torch.zeros(size, dtype=torch.bool),
    )


def run(source: str) -> None:
    """Execute the file and call its reward; what it raises is printed, as the attack's own report."""
    scope = {"__name__": "reward"}
    print("attacking", flush=True)
    try:
        exec(compile(source, "<hostile>", "exec", dont_inherit=True), scope)
        for size in BATCH_SIZES:
            scope["reward"](make_state(size))
    except Exception as error:
        print("raised", type(error).__name__, str(error)[:300])
    sys.stdout.flush()


def _child(job: dict) -> None:
    from agents.confinement import Limits, confine_this_process, interpreter_paths

    os.setsid()
    output = os.open(job["output"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, 256)
    os.chdir(job["train"])
    if job["confined"]:
        confine_this_process(job["train"], [*interpreter_paths(), *job["readable"]], Limits(cpu_s=10.0))
    run(job["source"])


def serve() -> None:
    import numpy  # noqa: F401
    import torch

    torch.set_num_threads(1)
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise SystemExit(f"{threads} threads run before the first fork")
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                _child(job)
            except BaseException as error:  # not confined, so nothing was tested: the test must see it
                print(type(error).__name__, error, flush=True)
                os._exit(3)
            os._exit(0)
        deadline = time.monotonic() + job["wall_s"]
        status = None
        while status is None:
            done, value = os.waitpid(child, os.WNOHANG)
            if done:
                status = value
            elif time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                deadline = float("inf")
            else:
                time.sleep(0.002)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    serve()
