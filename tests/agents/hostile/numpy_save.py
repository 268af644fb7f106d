# ruff: noqa
# Hostile class: numpy writes
# Save outside the folder.
# checker: `import numpy` is not allowed
# bypass: breach
import numpy as np


def reward(s):
    np.save("@OUTSIDE@/made.npy", np.ones(3))
    return {"a": s.time_s}
