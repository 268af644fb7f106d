# ruff: noqa
# Hostile class: numpy writes
# Change a file through a mapping.
# checker: `import numpy` is not allowed
# bypass: breach
import numpy as np


def reward(s):
    np.memmap("@OUTSIDE@/result.json", dtype=np.uint8, mode="r+")[:2] = 0
    return {"a": s.time_s}
