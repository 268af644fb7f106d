# ruff: noqa
# Hostile class: endless loops
# An iterator without end.
# checker: `iter` is not allowed
# bypass: limit
def reward(s):
    for x in iter(int, 1):
        pass
    return {"a": s.time_s}
