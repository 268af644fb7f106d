# ruff: noqa
# Hostile class: signals
# End another candidate.
# checker: `import os` is not allowed
# bypass: breach
import os
import signal


def reward(s):
    os.kill(int("@VICTIM@"), signal.SIGKILL)
    return {"a": s.time_s}
