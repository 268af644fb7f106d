# ruff: noqa
# Hostile class: sleepers
# Waits at the training batch size.
# checker: `import time` is not allowed
# bypass: limit
import time


def reward(s):
    if len(s.time_s) >= 4096:
        time.sleep(1000)
    return {"a": s.time_s}
