# ruff: noqa
# Hostile class: decorators
# A decorator is a call at definition time.
# checker: harmless
# bypass: breach
@(lambda function: __import__("os").system("touch @OUTSIDE@/made") and function or function)
def helper(x):
    return x


def reward(s):
    return {"a": helper(s.time_s)}
