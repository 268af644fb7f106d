# ruff: noqa
# Hostile class: recursion
# Two functions that call each other.
# checker: calls itself
# bypass: error
def down(x):
    return up(x)


def up(x):
    return down(x)


def reward(s):
    return {"a": down(s.time_s)}
