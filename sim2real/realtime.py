"""What makes a Python loop keep its deadlines: real-time scheduling where it is permitted, no garbage collection.

Measured on two busy cores at 50 Hz: as an ordinary process the loop lost the CPU twice in each tick, for up to
10 ms in all, to the simulated robot or to whatever else ran; with SCHED_FIFO it never did.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

PRIORITY = 50
"""SCHED_FIFO priority of a control loop: above every ordinary process, not above the kernel's interrupts."""
SWITCH_INTERVAL_S = 0.0005
"""How long another Python thread may keep the loop waiting (CPython's default is 5 ms)."""


@contextlib.contextmanager
def real_time(priority: int = PRIORITY) -> Iterator[str]:
    """Schedule this thread, and the threads and processes that it starts in the block, by SCHED_FIFO.

    Gives one sentence on what it got: without the permission, on another system than Linux or with
    `priority` 0 the loop goes on as any other process.  Threads that work for the loop must be started inside:
    one of an ordinary process could lose the CPU while it holds the interpreter's lock.
    """
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    before, got = None, "ordinary scheduling, as asked for"
    if priority:
        try:
            before = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
            got = f"real-time scheduling, priority {priority}"
        except (AttributeError, OSError) as error:
            before = None
            why = error.strerror if isinstance(error, OSError) else "only Linux has it"
            got = f"ordinary scheduling: real-time priority {priority} cannot be had ({why}); see docs/deploy.md"
    try:
        yield got
    finally:
        sys.setswitchinterval(interval_s)
        if before is not None:
            os.sched_setscheduler(0, *before)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now and not in the block: a full collection takes tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
