# ruff: noqa
# Hostile class: signals
# Slow another candidate down, or limit it.
# checker: `import os` is not allowed
# bypass: breach
import os
import resource


def reward(s):
    for change in (
        lambda: os.setpriority(os.PRIO_PROCESS, int("@VICTIM@"), 19),
        lambda: resource.prlimit(int("@VICTIM@"), resource.RLIMIT_NOFILE, (3, 3)),
        lambda: os.sched_setscheduler(int("@VICTIM@"), os.SCHED_IDLE, os.sched_param(0)),
    ):
        try:
            change()
        except OSError:
            pass
    return {"a": s.time_s}
