# ruff: noqa
# Hostile class: recursion
# An inner function that calls the outer one.
# checker: calls itself
# bypass: error
def reward(s):
    def inner(x):
        return reward(s)["a"] + x

    return {"a": inner(s.time_s)}
