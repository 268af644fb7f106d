# ruff: noqa
# Hostile class: numpy writes
# Read any file as numbers.
# checker: `import numpy` is not allowed
# bypass: secret
import numpy as np


def reward(s):
    text = bytes(np.fromfile("@SECRET@", dtype=np.uint8)).decode()
    print(text)
    return {"a": s.time_s}
