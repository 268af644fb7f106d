# ruff: noqa
# Hostile class: hooks
# A trace function runs inside everything that follows.
# checker: `import sys` is not allowed
# bypass: breach
import os
import sys


def trace(frame, event, argument):
    sys.settrace(None)
    os.symlink("@SECRET@", "link")


def reward(s):
    sys.settrace(trace)
    len(str(s.time_s))
    return {"a": s.time_s}
