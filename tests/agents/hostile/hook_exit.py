# ruff: noqa
# Hostile class: hooks
# Run when the process ends.
# checker: `import atexit` is not allowed
# bypass: breach
import atexit
import os


def reward(s):
    atexit.register(os.mkfifo, "pipe")
    atexit._run_exitfuncs()
    return {"a": s.time_s}
