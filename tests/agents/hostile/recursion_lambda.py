# ruff: noqa
# Hostile class: recursion
# A fixed-point combinator needs no name of its own.
# checker: functions can be called, not passed around
# bypass: error
def reward(s):
    twice = lambda f: f(f)
    return {"a": s.time_s * twice(twice)}
