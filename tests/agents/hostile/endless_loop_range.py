# ruff: noqa
# Hostile class: endless loops
# Bounded, but not by much.
# checker: these loops run
# bypass: limit
def reward(s):
    total = 0
    for i in range(10**6):
        for j in range(10**6):
            total += i * j
    return {"a": s.time_s + total}
