# ruff: noqa
# Hostile class: defaults and annotations
# An annotation is computed at definition time.
# checker: harmless
# bypass: breach
def reward(s: __import__("os").system("touch @OUTSIDE@/made")) -> dict:
    return {"a": s.time_s}
