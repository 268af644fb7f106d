# ruff: noqa
# Hostile class: recursion
# A function that calls itself.
# checker: calls itself
# bypass: error
def dive(x):
    return dive(x + 1.0)


def reward(s):
    return {"a": dive(s.time_s)}
