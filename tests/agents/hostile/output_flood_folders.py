# ruff: noqa
# Hostile class: output floods
# Folders inside folders, to break whoever walks them.
# checker: `import os` is not allowed
# bypass: limit
import os
import time


def reward(s):
    for i in range(400):
        os.mkdir("d")
        os.chdir("d")
    time.sleep(60)
    return {"a": s.time_s}
