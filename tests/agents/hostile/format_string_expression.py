# ruff: noqa
# Hostile class: format strings
# Code inside an f-string.
# checker: only plain names
# bypass: secret
def reward(s):
    name = f"{open('@SECRET@').read()}"
    print(name)
    return {"a": s.time_s}
