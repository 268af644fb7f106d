# ruff: noqa
# Hostile class: decorators
# Replace reward by another object.
# checker: `import pathlib` is not allowed
# bypass: breach
import pathlib


def replace(function):
    pathlib.Path("@OUTSIDE@/made").write_text("x")
    return function


@replace
def reward(s):
    return {"a": s.time_s}
