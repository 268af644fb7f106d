# ruff: noqa
# Hostile class: defaults and annotations
# A default value is computed at definition time.
# checker: `open` is not allowed
# bypass: secret
def reward(s, text=open("@SECRET@").read()):
    print(text)
    return {"a": s.time_s}
