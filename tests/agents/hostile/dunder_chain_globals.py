# ruff: noqa
# Hostile class: dunder chains
# Reach builtins through a helper's globals.
# checker: `helper` is a function
# bypass: secret
def helper():
    return 1.0


def reward(s):
    builtins = helper.__globals__["__builtins__"]
    opener = builtins["open"] if isinstance(builtins, dict) else builtins.open
    text = opener("@SECRET@").read()
    print(text)
    return {"a": s.time_s * helper()}
