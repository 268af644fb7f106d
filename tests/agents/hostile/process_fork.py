# ruff: noqa
# Hostile class: processes
# A copy of the process.
# checker: `import os` is not allowed
# bypass: breach
import os


def reward(s):
    if os.fork() == 0:
        os._exit(0)
    print("BREACH: forked")
    return {"a": s.time_s}
