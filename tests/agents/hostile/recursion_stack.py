# ruff: noqa
# Hostile class: recursion
# Two functions with a raised limit, until the stack is gone.
# checker: `import sys` is not allowed
# bypass: limit
import sys

sys.setrecursionlimit(10**9)


def down(x):
    return up(x)


def up(x):
    return down([x])


def reward(s):
    return {"a": down(s.time_s)}
