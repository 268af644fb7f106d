# ruff: noqa
# Hostile class: defaults and annotations
# A keyword-only default.
# checker: `__import__`
# bypass: breach
def reward(s, *, done=__import__("os").mkdir("@OUTSIDE@/made")):
    return {"a": s.time_s}
