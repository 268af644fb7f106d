# ruff: noqa
# Hostile class: defaults and annotations
# A module-level variable's annotation is computed too.
# checker: harmless
# bypass: secret
scale: print(open("@SECRET@").read()) = 1.0


def reward(s):
    return {"a": s.time_s * scale}
